"""ReDo: units that are nearly silent are made anew."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_engine.training.step_upkeep import DormantUpkeep
from cl_engine.training.unit_layers import Layer


class Redo(DormantUpkeep):
    """ReDo: now and then units whose activations are small beside those of their layer are made anew (Sokar et al. 2023).

    After every ``period``-th step, a unit is dormant whose mean |activation| over the step's batch, and over its places
    in maps, is at most ``threshold`` times the layer's mean of it. Its incoming weights are drawn anew, its bias
    becomes 0, its outgoing weights become 0; layers are treated in order, so that a weight between two such units is a
    new one. The authors' code draws by xavier and lets the optimiser forget; that of Dohare et al. (2024) draws by
    kaiming and does not let it forget.

    >>> Redo.of(threshold=0.1, period=100).active
    True
    """

    listens = True

    def score(self, layer: Layer) -> Tensor:
        reader = layer.readers[0]
        return reader.of_units(reader.mean_input(torch.abs, layer.read[reader.name]))
