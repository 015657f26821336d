"""The upkeep of the weights of a seed group."""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.tree import Path, Tree, leaves_with_path, unflatten
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.listening import inputs_heard
from cl_engine.nn.units import module_name
from cl_engine.training.step_upkeep import Seen, StepUpkeep, UnitUpkeep
from cl_engine.training.unit_layers import Weight, layers_of
from cl_engine.training.upkeep import Draws, Upkeep
from cl_engine.training.weight_memory import by_weight

LOG = logging.getLogger("cl_engine")
HEADS = "heads"  # of several tasks in one tensor [S, T, O, width + 1], the bias last: `SharedNet.of_tasks`
Read = dict[str, Tensor]


class GroupUpkeep:
    """What keeps the net of a seed group able to learn, told of that group's weights.

    Kept up are weights of the net alone, wherever in the tree they are: those with a name and a shape of its own.

    >>> GroupUpkeep.__name__  # made by `SeedGroup`
    'GroupUpkeep'
    """

    def __init__(self, group: Any, upkeep: Upkeep) -> None:
        self._group, self._upkeep, self._axis = group, upkeep, group.rows_axis
        self._known = True  # which layers the loss asks the net for
        shapes = group.job.net.shapes
        self._weights: dict[Path, Tensor] = {
            path: leaf
            for path, leaf in group.weights.items()
            if path[-1] in shapes and self._see(leaf).shape[1:] == shapes[path[-1]]
        }
        if not isinstance(upkeep, StepUpkeep):
            seeds = list(dict.fromkeys(group.seeds))
            drawn = group.job.net.init(seeds)
            rows = [seeds.index(seed) for seed in group.seeds]  # candidates have the same seeds again
            self._start = upkeep.begin({path: drawn[path[-1]][rows] for path in self._weights})
            return
        memory = group.job.upkeep_memory
        found = {} if memory is None else memory.found(group.job.params, kind_of(upkeep))
        self._begin(
            {p: {n: self._see(group.part(held)).clone() for n, held in own.items()} for p, own in found.items()}
        )

    def hearing(self, loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Read]]:
        """Return a loss that returns beside its value what the layers that read hidden units read."""
        net = self._group.job.net
        readers: dict[str, list[Path]] = {}
        for layer in self._seen.layers:
            for reader in layer.readers:
                readers.setdefault(reader.name, []).append(layer.path)
        names = {module_name(net, name): name for name in readers}

        def of_one(params: Tree, *given: Any) -> tuple[Tensor, Read]:
            leaves = dict(leaves_with_path(params))
            with inputs_heard({own: [leaves[path] for path in readers[name]] for own, name in names.items()}) as heard:
                value = loss(params, *given)
            return value, {names[own]: read for own, read in heard.items()}

        return of_one

    def hears(self) -> bool:
        """Return whether the step to come is one in which it wants to know what hidden units give."""
        upkeep = self._upkeep
        return (
            isinstance(upkeep, StepUpkeep) and bool(self._seen.layers) and (not self._known or upkeep.hears(self._seen))
        )

    def hear(self, read: Read) -> None:
        """Take what the readers of hidden layers read in the forward pass of this step."""
        ready = {name: self._see(part).float() for name, part in read.items()}
        for layer in self._seen.layers:
            layer.read = ready
        # what is trained under a layer's name may be something else than its weight, as scores of a mask: then it is not heard
        if not self._known:
            self._known = True
            self._seen.layers = [layer for layer in self._seen.layers if layer.heard]
            if not self._seen.layers:
                _say_that_nothing_is_kept_up(type(self._upkeep).__name__)

    def start_epoch(self, epoch: int) -> None:
        """Make ready what is drawn from."""
        self._draws = Draws([self._group.generator(seed, "upkeep", epoch) for seed in self._group.seeds])

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of each seed ``[S]``, or ``[]`` of a seed by itself; None: nothing."""
        if isinstance(self._upkeep, StepUpkeep):
            return None
        found = self._upkeep.penalty(self._each(), self._start)
        return found if found is None or self._axis else found[0]

    @torch.no_grad()
    def before_step(self) -> None:
        """Look at weights and gradients before a step."""
        if isinstance(self._upkeep, StepUpkeep):
            self._upkeep.before_step(self._seen)

    @torch.no_grad()
    def after_step(self) -> None:
        """Change the weights after a step."""
        if not isinstance(self._upkeep, StepUpkeep):
            self._upkeep.after_step(self._each(), self._start, self._draws)
        elif self._known:
            self._upkeep.stepped(self._seen, self._draws)
            for layer in self._seen.layers:
                layer.read = {}

    def remembered(self) -> Tree:
        """Return what is remembered of each weight, tensors ``[S, …]``; nothing by upkeep that remembers nothing."""
        if not isinstance(self._upkeep, StepUpkeep):
            return {}
        self._upkeep.settle(self._seen)
        pairs = {(*path, name): held for path, own in self._seen.memory.items() for name, held in own.items()}
        return unflatten({path: held.clone() for path, held in pairs.items()})

    def restore(self, remembered: Tree) -> None:
        """Go on with what `remembered` returned."""
        if isinstance(self._upkeep, StepUpkeep):
            device = self._group.job.net.device
            found = by_weight(remembered)
            self._begin({p: {name: held.to(device) for name, held in own.items()} for p, own in found.items()})

    def _begin(self, memory: dict[Path, dict[str, Tensor]]) -> None:
        assert isinstance(self._upkeep, StepUpkeep)
        optimizers = self._group.optimizers
        weights = {path: Weight(leaf, self._see, optimizers) for path, leaf in self._weights.items()}
        by_name: dict[str, list[tuple[Path, Weight]]] = {}
        for path, weight in weights.items():
            by_name.setdefault(path[-1], []).append((path, weight))
        for path, leaf in self._group.weights.items():
            if path[-1] == HEADS and self._see(leaf).ndim == 4:  # then that of the net itself is not used
                flat = partial(self._of_heads, slice(None, -1)), partial(self._of_heads, -1)
                for name, see in zip((HEAD_WEIGHT, HEAD_BIAS), flat, strict=True):
                    by_name[name] = [(path, Weight(leaf, see, optimizers))]
        named = {name: found[0] for name, found in by_name.items() if len(found) == 1}
        layers = list(layers_of(self._group.job.net, named.get)) if isinstance(self._upkeep, UnitUpkeep) else []
        self._seen = Seen(weights, layers, memory)
        self._known = not layers
        self._upkeep.begins(self._seen)

    def _of_heads(self, part: slice | int, heads: Tensor) -> Tensor:
        return self._see(heads)[..., part].flatten(1, 2)

    def _see(self, leaf: Tensor) -> Tensor:
        return leaf if self._axis else leaf.unsqueeze(0)

    def _each(self) -> dict[Path, Tensor]:
        return {path: self._see(leaf) for path, leaf in self._weights.items()}


@functools.cache
def _say_that_nothing_is_kept_up(upkeep: str) -> None:
    """Say once that a fit has no units that can be kept up."""
    LOG.info("%s does nothing in a fit whose net is not called with the weights as they are trained", upkeep)


def kind_of(upkeep: Upkeep) -> int:
    """Return a number that tells kinds of upkeep from each other."""
    return zlib.crc32(f"{type(upkeep).__module__}.{type(upkeep).__qualname__}".encode())
