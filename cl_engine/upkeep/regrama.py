"""ReGraMa: units whose weights are hardly pulled at are made anew."""

from __future__ import annotations

from torch import Tensor

from cl_engine.training.step_upkeep import DormantUpkeep
from cl_engine.training.unit_layers import Layer, mean_over


class Regrama(DormantUpkeep):
    """ReGraMa: as ReDo, with gradients in place of activations (Liu et al. 2025).

    The score of a unit is the mean |gradient| of its incoming weights, biases not counted, as the optimiser was given it in this
    step; all else is that of ReDo. Source: arXiv 2505.24061, with the arithmetic of the code of CPR (github.com/LucMc).

    >>> Regrama.of(threshold=0.25).period
    1000
    """

    def score(self, layer: Layer) -> Tensor:
        return mean_over(layer.weight.gradient.abs(), axis=1)
