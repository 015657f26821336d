"""The front of a net: the part that brings inputs to the size that the rest of it reads."""

from __future__ import annotations

from cl_engine.nn.net import Net


def front_of(net: Net) -> list[str]:
    """Return the names of the weights and buffers of the module's part called ``front``; none: it has no such part."""
    return [name for name in net.shapes if name.startswith("front.")]
