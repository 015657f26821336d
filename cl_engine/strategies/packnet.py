"""PackNet: tasks take weights of one network, one after the other, and give back what they need least."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.masks.events import WeightsOwned
from cl_engine.masks.layout import Layout, some_maskable
from cl_engine.masks.norms import MEANING, NormPolicy, TaskNorms
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Params
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.optimizers import Train

PUBLISHED = [0.5, 0.75]  # of the backbone, and of every further task


class Packnet(Strategy):
    """PackNet: train the free weights, give back the smallest, retrain the rest and freeze them (Mallya & Lazebnik 2018).

    A task reads its own weights and those of all tasks before it. Which task a weight belongs to is kept in as many bits
    as the number of tasks takes. Pruning is by magnitude within a layer; weights given back start the next task at zero.
    Biases and normalisation are learned with the first task and then frozen as published, unless ``norm`` gives each
    task its own. A task that comes back trains its head (and its normalisation): its weights carry later tasks.

    A backbone is, as published, the task before the first: pruned, kept, and read by all tasks, its biases and
    normalisation frozen. Not as published: it is not retrained after pruning, as its rows are not part of the stream.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "packnet", **{"retrain_epochs": 3})
    >>> experiment.resolved["strategy"]["retrain_epochs"]
    3
    """

    settings = ("task",)
    per_seed = True

    prune: Literal["equal"] | float | list[float] = option(
        "equal",
        "share of a task's newly learned weights that is given back, layer by layer; a list: task by task (a kept backbone "
        "is the first), the last for all further ones; equal: so that all tasks end with equally many, where the stream "
        "says how many there are, else [0.5, 0.75] as published",
    )
    backbone: Literal["kept", "overwritten"] = option(
        "kept",
        "pre-trained weights, if there are any: pruned and kept as a task's of their own, or the first task's start",
        before="overwritten",
    )
    retrain_epochs: int | None = option(None, "epochs after pruning; left out: half of those before, rounded up", ge=0)
    retrain_lr: float | None = option(None, "learning rate after pruning; left out: a tenth of that before", gt=0)
    norm: NormPolicy = option("frozen", MEANING)

    def start(self) -> State:
        if self.prune != "equal":
            shares = self.prune if isinstance(self.prune, list) else [self.prune]
            if not shares or not all(0 <= share < 1 for share in shares):
                raise UsageError(f"packnet: prune must be shares from 0 up to, not including, 1, found {self.prune}")
        seeds, net = len(self.seeds), self.net.init(self.seeds)
        owners = Bank.empty(seeds, (self._layout.packed,), torch.uint8, self.net.device)
        if self._before:
            free = {name: torch.ones_like(net[name], dtype=torch.bool) for name in self._layout.shapes}
            kept = {name: _largest(net[name], bits, self._share(1)) for name, bits in free.items()}
            net |= {name: torch.where(bits, net[name], 0.0) for name, bits in kept.items()}
            owners.put(0, self._layout.pack(kept))
        return {
            "net": net,
            "owners": owners,
            "heads": empty_heads(self.net, seeds),
            **self._norms.start(seeds),
            **({"backbones": 1} if self._before else {}),  # answers depend on it
        }

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        known, owner = task < len(state["heads"]), self._owner(task)
        first = not len(state["heads"]) and not self._before
        owners = self._owners()
        free = {name: (number == 0) & (not known) for name, number in owners.items()}
        params: Tree = {
            "weights": {name: state["net"][name] for name in free},
            "norm": self._norms.trained(state, task, state["net"]),
            "head": self._head(task),
        }
        if first:
            params["rest"] = {name: state["net"][name] for name in self._rest}
            params["norm"] = {}
        learned = yield from self._fit(params, free, experience, self.train)
        if known:
            self._keep(task, learned)
            return
        share = self._share(owner)
        kept = {name: _largest(learned["weights"][name], bits, share) for name, bits in free.items()}
        for name, bits in kept.items():
            learned["weights"][name] = torch.where(free[name] & ~bits, 0.0, learned["weights"][name])
            state["net"][name] = torch.where(free[name], learned["weights"][name], state["net"][name])
        if self._retrain.epochs and share:
            learned = yield from self._fit(learned, kept, experience, self._retrain)
        for name, bits in kept.items():
            state["net"][name] = torch.where(bits, learned["weights"][name], state["net"][name])
            owners[name] = torch.where(bits, owner, owners[name])
        for plane in range(owner.bit_length()):
            state["owners"].put(
                plane, self._layout.pack({name: (number >> plane) & 1 == 1 for name, number in owners.items()})
            )
        if first:
            state["net"] |= learned["rest"]
        self._keep(task, learned)
        yield from self._told(experience, owners)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        weights = {
            name: torch.where(frozen["free"][name], weight, frozen["net"][name])
            for name, weight in params["weights"].items()
        }
        own = {**params.get("rest", {}), **params.get("norm", {}), **params["head"]}
        return self.net.one({**frozen["net"], **weights, **own}, x, statistics="rest" in params or self._norms.tracking)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        net = self.state["net"]
        weights = {}
        if task_id < len(self.state["heads"]):
            read = {name: (owner > 0) & (owner <= self._owner(task_id)) for name, owner in self._owners().items()}
            weights = {name: torch.where(bits, net[name], 0.0) for name, bits in read.items()}
        own = {**self._norms.of(self.state, task_id, net), **self._head(task_id)}
        return self.net.all({**net, **weights, **own}, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        assert task_id is not None
        heads: Bank = self.state["heads"]
        return heads.writes(task_id) if task_id < len(heads) else -len(heads)

    @cached_property
    def _layout(self) -> Layout:
        return Layout.of(self.net, some_maskable(self.net, self.name()))

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, self.norm)

    @cached_property
    def _rest(self) -> list[str]:
        """Names of what the first task learns once for all: biases, normalisation and its counters."""
        return [name for name in self.net.shapes if name not in (*self._layout.shapes, HEAD_WEIGHT, HEAD_BIAS)]

    @property
    def _retrain(self) -> Train:
        epochs = math.ceil(self.train.epochs / 2) if self.retrain_epochs is None else self.retrain_epochs
        lr = self.train.lr / 10 if self.retrain_lr is None else self.retrain_lr
        return self.train.model_copy(update={"epochs": epochs, "lr": lr, "milestones": []})

    def _fit(self, params: Tree, free: Params, experience: Experience, train: Train) -> Generator[Event, None, Tree]:
        frozen = {"net": self.state["net"], "free": free}
        return (yield from self.fit(params, self.loss, experience, frozen=frozen, train=train))

    @property
    def _before(self) -> int:
        """How many owners of weights come before the first task: a kept backbone, or nobody."""
        return int(self.state.get("backbones", bool(self.net.pretrained) and self.backbone == "kept"))

    @property
    def looks_ahead(self) -> bool:
        return self.prune == "equal"

    def _owner(self, task_id: int) -> int:
        """Return the number under which a task owns weights, from 1; a kept backbone is the first."""
        return task_id + 1 + self._before

    def _share(self, owner: int) -> float:
        """Return how much an owner gives back of what it has learned."""
        if self.prune == "equal" and self.n_tasks is not None:
            return 1 - 1 / (self._owner(self.n_tasks) - owner)
        shares = PUBLISHED if self.prune == "equal" else self.prune if isinstance(self.prune, list) else [self.prune]
        return shares[min(owner, len(shares)) - 1]

    def _owners(self) -> Params:
        """Return for every weight the number of its owner (`_owner`); 0: free."""
        planes: Bank = self.state["owners"]
        return self._layout.numbers(planes.rows)

    def _head(self, task_id: int) -> Params:
        return head_for(self.state["heads"], task_id, self.state["net"])

    def _keep(self, task_id: int, learned: Tree) -> None:
        self.state["heads"].put(task_id, row_of(learned["head"]))
        self._norms.put(self.state, task_id, {**learned.get("rest", {}), **learned.get("norm", {})})

    def _told(self, experience: Experience, owners: Params) -> Iterator[WeightsOwned]:
        for name, owner in owners.items():
            flat = owner.flatten(1)
            yield WeightsOwned(
                step=experience.step,
                task_id=experience.task_id,
                part=name,
                owned=tuple((flat == self._owner(experience.task_id)).double().mean(dim=1).tolist()),
                free=tuple((flat == 0).double().mean(dim=1).tolist()),
            )


def _largest(weight: Tensor, free: Tensor, pruned: float) -> Tensor:
    """Return which of the free weights ``[S, …]`` of a layer stay when this share, those of least magnitude, goes."""
    size = torch.where(free, weight.abs(), -1.0).flatten(1)
    rank = size.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    count = free.flatten(1).sum(dim=1, keepdim=True)
    keep = (count * (1 - pruned)).ceil()
    return ((rank < keep) & free.flatten(1)).reshape(free.shape)
