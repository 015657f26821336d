"""The upkeep that a scenario names."""

from __future__ import annotations

from cl_engine.options import named_with_options
from cl_engine.runs import plugins
from cl_engine.training.upkeep import Upkeep


def upkeep_of(text: str) -> Upkeep | None:
    """Return the upkeep that is named with its options, as ``l2_init?strength=0.01``; None: the text is empty.

    Raises:
        UsageError: if there is none of that name, or an option is unknown or out of bounds.
    """
    if not text:
        return None
    name, options = named_with_options(text, "train.upkeep")
    kind: type[Upkeep] = plugins.load("upkeep", name)
    return kind.of(**options)
