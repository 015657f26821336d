"""Feature-wise linear modulation: scales and shifts of the outputs of a net's modules, for each row of a batch its own."""

from __future__ import annotations

from torch import Tensor

from cl_engine.nn.division import end_units
from cl_engine.nn.hooks import Hook, on_units
from cl_engine.nn.net import Net


class Film:
    """Modulation (1 + γ) x + β of each unit x of each module's output (FiLM; Perez et al. 2018).

    Zeros leave a net as it is.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> Film(net).size
    22

    Attributes:
        size: numbers of a modulation: a γ and a β of each unit.
    """

    def __init__(self, net: Net) -> None:
        """Find the outputs that are modulated."""
        self._units = end_units(net)
        self.size = 2 * sum(self._units.values())

    def hooks(self, numbers: Tensor) -> dict[str, Hook]:
        """Return hooks for `Net.one` of one seed, given modulations ``[N, size]``, or ``[1, size]`` for rows that are alike."""
        parts = numbers.split([2 * units for units in self._units.values()], dim=1)
        return {layer: _modulating(*part.chunk(2, dim=1)) for layer, part in zip(self._units, parts, strict=True)}


def _modulating(gamma: Tensor, beta: Tensor) -> Hook:
    def change(x: Tensor) -> Tensor:
        size = (len(gamma), *[1] * (x.ndim - 2), x.shape[-1])
        return x * (1 + gamma.reshape(size)) + beta.reshape(size)

    return on_units(change)
