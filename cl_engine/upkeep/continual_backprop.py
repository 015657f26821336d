"""Continual backpropagation: the least useful of the mature units are replaced, a few at a time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cl_engine.options import option
from cl_engine.training.maturity import Due, Maturity
from cl_engine.training.step_upkeep import UnitUpkeep
from cl_engine.training.unit_layers import MEANING, Layer, NewWeights
from cl_engine.training.upkeep import Draws

Utility = Literal[
    "adaptable_contribution", "zero_contribution", "contribution", "adaptation", "weight", "feature_by_input", "random"
]


class ContinualBackprop(UnitUpkeep):
    """Continual backpropagation: units of least utility are replaced by new ones (Dohare et al. 2024).

    After every step of the optimiser, of each hidden layer: ages grow by one; with h what a unit gave in the step's
    forward pass, ĥ its running mean and |w| weights as they are now, the utility is a running mean (corrected for its
    start) of

    - ``adaptable_contribution``: mean |w out| · mean |h − ĥ| / mean |w in|,  ``zero_contribution``: the same, not divided
    - ``contribution``: mean |w out| · mean |h|, which orders units as the sum in the text of Nature does
    - ``adaptation``: 1 / mean |w in|,  ``weight``: mean |w out|,  ``feature_by_input``: mean |h − ĥ| / mean |w in|,  ``random``

    Units older than ``maturity`` may be replaced, as many as ``rate`` times their number (``counts = "all"``: times
    all, as the code for convolutions has it): a fraction is kept for later steps (``accumulate``) or, below one, drawn
    for. Incoming weights are drawn anew, those of convolutions within √(1 / inputs) whatever ``init`` says, as in the
    authors' code; the bias becomes 0, outgoing weights 0, and what is remembered of the unit begins anew, in the
    optimiser too, but for its count of steps. Before that, what the unit gave on average goes into the biases of fully
    connected readers (``transfer_bias``); the authors' code sets the mean to 0 before it uses it, so that it transfers
    nothing: that is ``false``. Layers are treated in order.

    >>> ContinualBackprop.of(rate=1e-5).maturity
    100
    """

    listens = True

    rate: float = option(1e-4, "share of the mature units that is replaced at a step, the published ρ", ge=0, le=1)
    maturity: int = option(100, "steps a unit is left alone for", ge=0)
    decay: float = option(0.99, "share of a utility that stays after a step, the published η", ge=0, lt=1)
    utility: Utility = option("adaptable_contribution", "what makes a unit useful")
    accumulate: bool = option(True, "whether fractions of a unit add up, or are the probability to replace one")
    counts: Literal["mature", "all"] = option("mature", "which units the rate is a share of: those mature, or all")
    transfer_bias: bool = option(True, "whether what a unit gave on average goes into the biases of those that read it")
    init: NewWeights = option("kaiming", MEANING)

    @property
    def active(self) -> bool:
        return self.rate > 0

    def first(self, layer: Layer) -> dict[str, Tensor]:
        owed = torch.zeros(len(layer.weight.value), dtype=torch.float64, device=layer.weight.value.device)
        return {"age": layer.zeros(), "utility": layer.zeros(), "mean": layer.zeros(), "owed": owed}

    def counted(self, layer: Layer) -> Due:
        ages, owed = layer.memory["age"].long().tolist(), layer.memory["owed"].tolist()
        alike = self.accumulate and all(sorted(own) == sorted(ages[0]) for own in ages) and len(set(owed)) == 1
        each = slice(1 if alike else None)  # how many are replaced does not depend on which
        return Due([Maturity(own, self.maturity) for own in ages[each]], owed[each])

    def settled(self, layer: Layer) -> None:
        owed = layer.memory["owed"]
        owed.copy_(owed.new_tensor(layer.count.owed).expand_as(owed))

    def look(self, layer: Layer) -> None:
        """Let units age, and take note of how useful they are."""
        if not layer.heard:
            return
        age, utility, mean = (layer.memory[name] for name in ("age", "utility", "mean"))
        age.add_(1)
        correction = 1 - self.decay**age
        utility.mul_(self.decay)
        reader = layer.readers[0]  # all read the same
        now = reader.of_units(reader.mean_input(_same, layer.read[reader.name]))
        mean.mul_(self.decay).add_(now, alpha=1 - self.decay)
        if self.utility != "random":
            utility.add_(self._now(layer, mean / correction), alpha=1 - self.decay)

    def change(self, layer: Layer, draws: Draws) -> None:
        """Replace the units whose turn it is."""
        counts = self._turns(layer, draws) if layer.heard else [0]
        if not any(counts):
            return
        age, utility, mean = (layer.memory[name] for name in ("age", "utility", "mean"))
        value = layer.weight.value
        counts = counts if len(counts) == len(value) else counts * len(value)
        correction = 1 - self.decay**age
        usefulness = draws.uniform(utility) if self.utility == "random" else utility / correction
        least = usefulness.masked_fill(age <= self.maturity, torch.inf).topk(max(counts), dim=1, largest=False).indices
        turns = torch.tensor(counts, device=value.device)
        among = torch.arange(max(counts), device=value.device) < turns.unsqueeze(1)
        chosen = torch.zeros_like(age, dtype=torch.bool).scatter_(1, least, among)
        where = least.reshape(*least.shape, *[1] * (value.ndim - 2)).expand(-1, -1, *value.shape[2:])
        drawn = draws.rows(counts, value) * layer.bound("default" if layer.convolves else self.init)
        fresh = torch.zeros_like(value).scatter_(1, where, drawn)
        if self.transfer_bias:
            self._transfer(layer, torch.where(chosen, mean / correction, 0.0))
        layer.renew(chosen, fresh)
        for held in (age, utility, mean):
            held.masked_fill_(chosen, 0.0)

    def _now(self, layer: Layer, mean: Tensor) -> Tensor:
        """Return the utility of this step alone."""
        if self.utility == "adaptation":
            return 1 / layer.incoming()
        if self.utility == "weight":
            return layer.outgoing()
        if self.utility == "contribution":
            return layer.outgoing(lambda reader: reader.mean_input(torch.abs, layer.read[reader.name]))
        away = {r.name: r.mean_input(torch.abs, layer.read[r.name], r.of_inputs(mean)) for r in layer.readers}
        if self.utility == "feature_by_input":
            first = layer.readers[0]
            return first.of_units(away[first.name]) / layer.incoming()
        found = layer.outgoing(lambda reader: away[reader.name])
        return found / layer.incoming() if self.utility == "adaptable_contribution" else found

    def _turns(self, layer: Layer, draws: Draws) -> list[int]:
        """Return how many units of each seed are to be replaced: one number for all where that is the same."""
        due, counts = layer.count, []
        for k, mature in enumerate(due.mature):
            eligible = mature.step()
            share = self.rate * (eligible if self.counts == "mature" else layer.units) if eligible else 0.0
            if self.accumulate:
                due.owed[k] += share
            elif share and share < 1:
                share = float(draws.share(k) <= share)
            count = min(int(due.owed[k] if self.accumulate else share), eligible)
            if self.accumulate:
                due.owed[k] -= count
            mature.replace(count)
            counts.append(count)
        return counts

    def _transfer(self, layer: Layer, given: Tensor) -> None:
        """Put what units gave on average ``[S, units]`` into the biases of those that read each at one place."""
        for reader in layer.readers:
            weight = reader.weight.value
            if reader.bias is not None and weight.ndim == 3 and reader.columns.shape[1] == 1:
                reader.bias.value.add_((weight * reader.of_inputs(given).unsqueeze(1)).sum(dim=2))


def _same(read: Tensor) -> Tensor:
    return read
