"""Upkeep that sees more of a step than weights, and that remembers: the base of what works on weights or units one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from cl_engine.core.tree import Path
from cl_engine.options import option
from cl_engine.training.unit_layers import MEANING, Layer, NewWeights, Weight
from cl_engine.training.upkeep import Draws, Upkeep

LEAST = 1e-8  # added to a mean that is divided by
STEPS = "steps"  # what is remembered of how many steps a weight was kept up for, [S]


@dataclass
class Seen:
    """What an upkeep sees of a seed group.

    >>> Seen({}, []).memory
    {}

    Attributes:
        weights: the weights of the net that are trained, by their path.
        layers: the hidden layers whose units can be taken one by one, in order.
        memory: tensors ``[S, …]`` that outlive the fit, by the path of the weight they belong to and their name.
        count: what is counted in Python, by path.
        aside: what is put aside before a step for after it, by path.
    """

    weights: Mapping[Path, Weight]
    layers: Sequence[Layer]
    memory: dict[Path, dict[str, Tensor]] = field(default_factory=dict)
    count: dict[Path, Any] = field(default_factory=dict)
    aside: dict[Path, Any] = field(default_factory=dict)


class StepUpkeep(Upkeep):
    """Upkeep that sees gradients, what optimisers remember and what hidden units gave, and that remembers.

    What it remembers is in the strategy's state, as ``upkeep``: saved, resumed and counted as memory. A fit goes on with it where
    it finds a weight as the fit before left it. Numbers that must be known in Python, such as how many steps were taken, are read
    when a fit begins and counted from then on: no step waits for a GPU.

    >>> class Sums(StepUpkeep):
    ...     def begins(self, seen):
    ...         for path, weight in seen.weights.items():
    ...             seen.memory.setdefault(path, {"sum": torch.zeros_like(weight.value)})
    ...     def stepped(self, seen, draws):
    ...         for path, weight in seen.weights.items():
    ...             seen.memory[path]["sum"] += weight.value
    >>> Sums().active
    True
    """

    @abstractmethod
    def begins(self, seen: Seen) -> None:
        """Make ready to follow a fit, with what is remembered of the fit before in ``seen.memory``, if anything is."""

    def hears(self, seen: Seen) -> bool:
        """Return whether it wants to know what hidden units give in the forward pass of the step to come (`Layer.read`)."""
        return False

    def before_step(self, seen: Seen) -> None:
        """Look at weights and gradients before a step of the optimiser; the default does not.

        What it notes is in tensors, and it counts nothing in Python: it is a part of the step that a CUDA graph could replay.
        """
        return

    @abstractmethod
    def stepped(self, seen: Seen, draws: Draws) -> None:
        """Change weights in place, after a step of the optimiser, the gradients of which are still there."""

    def settle(self, seen: Seen) -> None:
        """Write what is counted in Python into ``seen.memory``, which is then saved; the default counts nothing."""
        return


class UnitUpkeep(StepUpkeep):
    """Upkeep that looks at the units of hidden layers, layer by layer, and changes some of them.

    The output layer reads units and has none of its own. Which layers have such units: `cl_engine.nn.units.hidden_units`.

    >>> UnitUpkeep.listens
    False

    Attributes:
        listens: whether it looks at what units give.
    """

    listens: ClassVar[bool] = False

    @abstractmethod
    def first(self, layer: Layer) -> dict[str, Tensor]:
        """Return what is remembered of a layer at first, tensors ``[S, …]``."""

    @abstractmethod
    def look(self, layer: Layer) -> None:
        """Take note of a layer after a step, before any is changed."""

    @abstractmethod
    def change(self, layer: Layer, draws: Draws) -> None:
        """Change a layer, after those before it."""

    def counted(self, layer: Layer) -> Any:
        """Return what is to be counted in Python, from what is remembered; the default counts steps."""
        return int(layer.memory[STEPS].max())

    def settled(self, layer: Layer) -> None:
        """Write what was counted into what is remembered."""
        layer.memory[STEPS].fill_(layer.count)

    def hears(self, seen: Seen) -> bool:
        """Return whether it looks at what units give."""
        return self.listens

    def begins(self, seen: Seen) -> None:
        """Make ready what is remembered of each layer."""
        for layer in seen.layers:
            first = self.first(layer)
            layer.memory = seen.memory.get(layer.path, first)
            layer.count = self.counted(layer)

    def stepped(self, seen: Seen, draws: Draws) -> None:
        """Look at every layer, then change them in order."""
        for layer in seen.layers:
            self.look(layer)
        for layer in seen.layers:
            self.change(layer, draws)

    def settle(self, seen: Seen) -> None:
        """Write what was counted into what is remembered, of the layers that are kept up alone."""
        for layer in seen.layers:
            self.settled(layer)
        seen.memory = {layer.path: layer.memory for layer in seen.layers}


class DormantUpkeep(UnitUpkeep):
    """Upkeep that now and then makes units anew whose share in their layer's mean is small.

    >>> DormantUpkeep.Options(period=10).period
    10
    """

    threshold: float = option(
        0.01, "a unit whose score is no greater than this share of its layer's mean is made anew", ge=0
    )
    period: int = option(1000, "steps from one look at the units to the next; 0: never", ge=0)
    init: NewWeights = option("kaiming", MEANING)
    reset_optimizer: bool = option(True, "whether the optimiser forgets the gradients of weights made anew")

    @property
    def active(self) -> bool:
        """Whether units are ever looked at."""
        return self.period > 0

    @abstractmethod
    def score(self, layer: Layer) -> Tensor:
        """Return how active each unit is ``[S, units]``."""

    def hears(self, seen: Seen) -> bool:
        """Return whether it looks at what units give in this step."""
        return self.listens and any((layer.count + 1) % self.period == 0 for layer in seen.layers)

    def first(self, layer: Layer) -> dict[str, Tensor]:
        """Return the count of steps, none yet."""
        return first_steps(layer)

    def look(self, layer: Layer) -> None:
        """Count the step, and find the units that are to be made anew if it is time."""
        layer.count += 1
        layer.chosen = None
        if layer.count % self.period == 0 and (layer.heard or not self.listens):
            score = self.score(layer)
            layer.chosen = score / (score.mean(dim=1, keepdim=True) + LEAST) <= self.threshold

    def change(self, layer: Layer, draws: Draws) -> None:
        """Make the units anew that were found."""
        if layer.chosen is not None:
            fresh = draws.uniform(layer.weight.value) * layer.bound(self.init)
            layer.renew(layer.chosen, fresh, self.reset_optimizer)


def first_steps(layer: Layer) -> dict[str, Tensor]:
    """Return what is remembered of a layer of which nothing is but how many steps it was kept up for."""
    return {STEPS: torch.zeros(len(layer.weight.value), dtype=torch.int64, device=layer.weight.value.device)}
