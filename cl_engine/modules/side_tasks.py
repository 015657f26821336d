"""Side tasks: what else a net learns beside a main task, and the loss of all of them with weights that follow from gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.data.source import Arrays, Sources
from cl_engine.data.stream import Experience
from cl_engine.data.view import TRIED, View
from cl_engine.modules.weighing import (
    RULES,
    AuxiliaryWeighed,
    LookedAhead,
    cosines,
    gradients,
    gramian,
    look_ahead,
    rule_named,
    scaled,
    unit_gramian,
)
from cl_engine.nn.head import HEAD, apply_head
from cl_engine.nn.net import Net, Params
from cl_engine.nn.target import Target
from cl_engine.training.fit_job import RowsBeside

MAIN = "main"  # what the main task is called among the parts of events


@dataclass(frozen=True, eq=False)
class SideTask:
    """A task that is learned beside another: rows, and what they are asked for.

    >>> from cl_engine.targets.classes import Classes
    >>> side = SideTask("flip", Classes.of(classes=2), torch.zeros(6, 1, 4, 4), torch.zeros(6, dtype=torch.int64))
    >>> side.through_main
    False

    Attributes:
        name: what the menu calls it.
        target: what it asks for.
        x, y: inputs and labels ``[N, …]``.
        through_main: whether the main task's head answers it; else it has a head of its own.
        weight: factor of its weight.
        place: its number in the menu, which its head is kept under.
        augmented: whether its images are moved and mirrored as those of the main task are.
    """

    name: str
    target: Target
    x: Tensor
    y: Tensor
    through_main: bool = False
    weight: float = 1.0
    place: int = 0
    augmented: bool = True

    def head(self, net: Net, seeds: Sequence[int], key: int) -> Tensor:
        """Return an untrained head ``[S, O, width + 1]``, drawn as torch's linear layers are.

        Where the net's own head is not read at places and the target asks for maps, one that gives every pixel.
        """
        pixels = net.input_shape[-2] * net.input_shape[-1] if self._all_at_once(net) else 1
        shape = (self.target.outputs * pixels, net.width + 1)
        draws = [rng.tensors(seed, "side head", self.name, key) for seed in seeds]
        heads = torch.stack([2 * torch.rand(shape, generator=draw) - 1 for draw in draws])
        return heads.to(net.device) / math.sqrt(net.width)

    def loss(self, net: Net, params: Params, head: Tensor | None, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Return the mean loss of rows, of whose gradient ``weight`` reaches what is shared, and all the task's own head."""
        if head is None:
            found: Tensor = weight * self.target.mean_loss(net.one(params, x), y)
            return found
        features = scaled(net.features(params, x), weight)
        outputs = apply_head(features, head[:, :-1], head[:, -1])
        if self._all_at_once(net):
            outputs = outputs.unflatten(1, (self.target.outputs, *net.input_shape[-2:]))
        return self.target.mean_loss(outputs, y)

    def _all_at_once(self, net: Net) -> bool:
        return self.target.measured_at_places and not net.places


def computed(name: str, sources: Sources, x: Tensor, key: int) -> SideTask:
    """Return the task of a label function on inputs ``[N, …]``; what it draws is drawn once, and its images are not moved.

    Raises:
        UsageError: if the label function has no answer for such inputs.
    """
    few = slice(min(len(x), TRIED))
    known, none = x.cpu().numpy(), np.zeros(len(x), np.int64)
    arrays = Arrays(known, none, known[few], none[few], classes=1)
    view = View(name, "the experience", arrays, sources)
    classes = torch.from_numpy(none).to(x.device)
    shown, y = view.asked("train", np.arange(len(x)), x, classes, rng.derive(0, "side task", key))
    tried = shown[few], y[few]
    return SideTask(name, view.target(tried, tried), shown, y, augmented=False)


class WeighedLoss:
    """The loss of a main task and its side tasks, for one seed: L₀ + Σ w_k L_k, w_k by a rule from the tasks' gradients.

    w_k is what reaches the shared weights; each side task's own head has its gradient whole (`scaled`). Side batches have
    statistics of their own where a net normalises, and leave running ones as they are. What is remembered from batch to batch
    are leaves of the tree that is fitted, which no gradient reaches.

    >>> WeighedLoss.__name__  # made by the strategy `auxiliary`
    'WeighedLoss'
    """

    def __init__(
        self, net: Net, main: Target, sides: Sequence[SideTask], rule: str, *, smooth: float, every: int, rate: float
    ) -> None:
        """Weigh ``sides`` by a rule.

        Args:
            net: whose weights are shared.
            main: what the main task asks for.
            sides: the side tasks.
            rule: a name that `rule_named` knows.
            smooth: share of the cosines so far that stays at a batch, where the rule is one of our own.
            every: batches between two look-aheads; 0: none.
            rate: length of a look-ahead's step.

        Raises:
            UsageError: for a rule that there is not.
        """
        self._net, self._main, self._sides = net, main, sides
        self._weigh, self._smooth, self._every, self._rate = rule_named(rule), smooth, every, rate
        self._weighs_main, self._looks = rule not in RULES, rule != "fixed"
        self._one_head = any(side.through_main for side in sides)
        kept = () if self._one_head else HEAD
        self._shared = [name for name in net.shapes if not net.is_held(name) and name not in kept]
        self._factors = torch.tensor([1.0, *(side.weight for side in sides)], device=net.device)

    def start(self, params: Params, heads: dict[str, Tensor], seeds: Sequence[int], key: int, epochs: int) -> Tree:
        """Return what is fitted: the net's ``params``, heads of side tasks (those in ``heads``, else untrained), and notes."""
        tasks, device = 1 + len(self._sides), self._net.device
        own = {
            str(side.place): heads.get(str(side.place), side.head(self._net, seeds, key))
            for side in self._sides
            if not side.through_main
        }
        notes = {"agreement": torch.zeros(len(seeds), tasks, tasks, device=device)}
        notes["weighed"] = torch.zeros(len(seeds), epochs, 2, tasks - 1, device=device)
        if self._every:
            notes["ahead"] = torch.zeros(len(seeds), epochs, tasks, tasks, device=device)
        return {"net": params, "side_heads": own, "notes": notes}

    def beside(self, seeds: int, batch: int) -> list[RowsBeside]:
        """Return the rows of side tasks as a fit takes them: as many in every batch as of the main task."""
        return [
            RowsBeside(tuple(rows.expand(seeds, *rows.shape) for rows in (side.x, side.y)), None, batch, side.augmented)
            for side in self._sides
        ]

    def numbers(self, epoch: int, batch: int, batches: int) -> tuple[int, ...]:
        """Return what the loss is told of a batch: its epoch, and how many batches came before it."""
        return epoch, epoch * batches + batch

    def __call__(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, *more: Tensor) -> Tensor:
        """Return the loss of one seed on a batch: rows of the main task, of each side task, and `numbers`."""
        net, heads, (*rows, epoch, batch) = params["net"], params.get("side_heads", {}), more
        sides = list(zip(self._sides, rows[::2], rows[1::2], strict=True))
        if self._weighs_main:
            weights = self._weights(params, x, y, sides, epoch, batch)
            total = self._weighed_main(net, x, y, weights[0])
        else:  # the main task first: what a net draws for it is as without side tasks
            total = self._main.loss(self._net.one(net, x), y)
            weights = self._weights(params, x, y, sides, epoch, batch)
        apart = self._apart(net)
        for (side, side_x, side_y), weight in zip(sides, weights[1:], strict=True):
            total = total + side.loss(self._net, apart, heads.get(str(side.place)), side_x, side_y, weight)
        return total

    def _weighed_main(self, net: Params, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        if self._one_head:
            return weight * self._main.loss(self._net.one(net, x), y)
        features = scaled(self._net.features(net, x), weight)
        return self._main.loss(apply_head(features, *(net[name] for name in HEAD)), y)

    def _weights(self, params: Tree, x: Tensor, y: Tensor, sides: Any, epoch: Tensor, batch: Tensor) -> Tensor:
        """Return the weight of every task on a batch ``[k + 1]``, and note it."""
        ahead = bool(self._every) and int(batch) % self._every == 0
        agreement, weighed = params["notes"]["agreement"], params["notes"]["weighed"]
        found = torch.full_like(agreement, torch.nan)
        if self._looks or ahead:
            net = {name: tensor.detach() for name, tensor in params["net"].items()}
            shared = {name: net[name] for name in self._shared}
            heads = {name: head.detach() for name, head in params.get("side_heads", {}).items()}
            one = torch.ones((), device=x.device)

            def main(weights: Params) -> Tensor:
                return self._main.mean_loss(self._net.one(self._apart({**net, **weights}), x), y)

            def of(side: SideTask, x: Tensor, y: Tensor) -> Any:
                head = heads.get(str(side.place))
                return lambda weights: side.loss(self._net, self._apart({**net, **weights}), head, x, y, one)

            losses = [main, *(of(*side) for side in sides)]
            values, found_gradients = gradients(losses, shared)
            found = gramian(found_gradients)
        with torch.no_grad():
            if ahead:
                gains = look_ahead(losses, values, found_gradients, shared, self._rate)
                params["notes"]["ahead"].add_(_at(epoch, params["notes"]["ahead"]) * gains)
            if self._looks:
                agreement.mul_(self._smooth).add_((1 - self._smooth) * unit_gramian(found))
            weights = self._factors * self._weigh(found if self._weighs_main else agreement)
            weighed.add_(_at(epoch, weighed) * torch.stack([weights[1:], cosines(found)]))
        return weights

    def _apart(self, params: Params) -> Params:
        """Return the weights with copies of the buffers, which a side batch may change."""
        return {name: tensor.clone() if self._net.is_buffer(name) else tensor for name, tensor in params.items()}

    def told(self, trained: Tree, experience: Experience, batches: int) -> Iterator[AuxiliaryWeighed | LookedAhead]:
        """Yield what a fit of so many batches an epoch has noted."""
        where: dict[str, Any] = {"step": experience.step, "task_id": experience.task_id}
        notes: Tree = trained["notes"]
        names = [side.name for side in self._sides]
        for epoch, of_epoch in enumerate(notes["weighed"].transpose(0, 1) / batches):
            for place, name in enumerate(names):
                weight, cosine = (tuple(own.tolist()) for own in of_epoch[:, :, place].unbind(dim=1))
                yield AuxiliaryWeighed(**where, part=name, epoch=epoch, weight=weight, cosine=cosine)
            first, last = epoch * batches, (epoch + 1) * batches
            times = len([batch for batch in range(first, last) if batch % self._every == 0]) if self._every else 0
            for i, one in enumerate([MAIN, *names] if times else []):
                for j, other in enumerate([MAIN, *names]):
                    gain = (notes["ahead"][:, epoch, i, j] / times).tolist()
                    yield LookedAhead(**where, part=f"{one}>{other}", epoch=epoch, gain=tuple(gain))


def _at(epoch: Tensor, notes: Tensor) -> Tensor:
    """Return 1 at an epoch's place among ``notes [epochs, …]``, else 0: a plain index would wait for a GPU."""
    places = torch.arange(notes.shape[0], device=notes.device) == epoch
    return places.to(notes.dtype).reshape(-1, *[1] * (notes.ndim - 1))
