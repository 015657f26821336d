"""One frozen net for all tasks, and of each a row of an adapter and a head."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_engine.adapters.adapter import Adapter
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.masks import guard
from cl_engine.masks.norms import TaskNorms
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net, Params
from cl_engine.nn.task_heads import empty_heads, head_for, row_of


@dataclass(frozen=True)
class AdaptedNet:
    """What strategies share that keep a frozen net, and for each task a row of an adapter and a head.

    In the state stand the net (``backbone``), a bank of adapters under the name `bank`, one of ``heads``, and perhaps one of
    ``norms``. What a fit is given has the parts `part` (the adapter), ``norm`` and ``head``.

    >>> from torch import nn
    >>> from cl_engine.adapters.low_rank import LowRank
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> adapted = AdaptedNet(net, LowRank(net, rank=2), (0, 1), "adapter", "adapters")
    >>> sorted(adapted.start())
    ['adapters', 'backbone', 'heads']

    Attributes:
        net: the net.
        adapter: what a task has beside it.
        seeds: the seeds.
        part: the name of the adapter's part in what is fitted.
        bank: the name of the bank in the state.
        apart: whether each task has a row and a head of its own; False: one of each is learned on and on, for all tasks.
    """

    net: Net
    adapter: Adapter
    seeds: tuple[int, ...]
    part: str
    bank: str
    apart: bool = True

    @property
    def norms(self) -> TaskNorms:
        """What a task keeps of normalisation layers."""
        return self.adapter.norms or TaskNorms(self.net, "frozen")

    def start(self) -> State:
        """Return the state before the first task."""
        count = len(self.seeds)
        rows = {self.bank: self.adapter.empty(count, self.net.device)} if self.adapter.layout.shapes else {}
        return {
            "backbone": self.net.init(self.seeds),
            **rows,
            "heads": empty_heads(self.net, count),
            **self.norms.start(count),
        }

    def learn(
        self, learner: Any, experience: Experience, *, trains_first: bool, lr: float | None
    ) -> Generator[Event, None, None]:
        """Learn a task: its row and head over the frozen net, or, with the first task that ``trains_first``, the net itself.

        Args:
            learner: the strategy, whose state this is.
            experience: what is learned.
            trains_first: whether the first task trains the net.
            lr: learning rate of the adapter; None: that of the head.
        """
        task, state = self._row(experience.task_id), learner.state
        if trains_first and not len(state["heads"]):
            self.keep_first(state, task, (yield from learner.fit(state["backbone"], learner.loss, experience)))
            return
        rates = learner.train if lr is None else learner.train.model_copy(update={"lr": lr})
        with guard.frozen(state["backbone"], f"{learner.name()}: the backbone"):
            learned = yield from learner.fit(
                self.parts(state, task),
                learner.loss,
                experience,
                frozen=state["backbone"],
                overrides={self.part: rates, "norm": rates},
            )
        self.keep(state, task, learned)

    def parts(self, state: State, task_id: int) -> Tree:
        """Return what a fit of a task starts from: its own, or for one not yet met what changes nothing and the net's head."""
        return {
            self.part: self._own(state, task_id),
            "norm": self.norms.trained(state, task_id, state["backbone"]),
            "head": head_for(state["heads"], task_id, state["backbone"]),
        }

    def keep(self, state: State, task_id: int, learned: Tree) -> None:
        """Keep what a task has learned, as rows; no other task's row is touched."""
        if self.bank in state:
            self.adapter.put(state[self.bank], task_id, learned[self.part])
        self.norms.put(state, task_id, learned.get("norm", {}))
        state["heads"].put(task_id, row_of(learned["head"]))

    def keep_first(self, state: State, task_id: int, trained: Params) -> None:
        """Freeze a net that a task has trained whole: the task keeps what changes nothing in it, and its head."""
        untrained = {name: state["backbone"][name] for name in (HEAD_WEIGHT, HEAD_BIAS)}
        state["backbone"] = {**trained, **untrained}
        self.keep(
            state, task_id, {self.part: self.adapter.start(self.seeds, trained), "norm": trained, "head": trained}
        )

    def logits(self, params: Tree, backbone: Params, x: Tensor) -> Tensor:
        """Return the logits of one seed's net with the parts of a task."""
        changed = self.adapter.applied(backbone, params.get(self.part, {}))
        own = {**backbone, **changed, **params.get("norm", {}), **params["head"]}
        hooks = self.adapter.hooks(params.get(self.part, {}))
        return self.net.one(own, x, statistics=self.adapter.statistics, hooks=hooks)

    def predict(self, state: State, x: Tensor, task_id: int | None) -> Tensor:
        """Return the logits ``[S, N, C]`` of a task."""
        task_id = self._row(task_id)
        backbone, own = state["backbone"], self._own(state, task_id)
        rest = {
            **self.norms.of(state, task_id, backbone),
            **head_for(state["heads"], task_id, backbone),
        }
        whole = {**backbone, **self.changed(backbone, own), **rest}

        def answer(tree: Tree, rows: Tensor) -> Tensor:
            return self.net.one(tree["net"], rows, False, hooks=self.adapter.hooks(tree.get("own", {})))

        return self.net.over_seeds(answer, {"net": whole, **({"own": own} if own else {})}, x)

    def changed(self, backbone: Params, own: Params) -> Params:
        """Return the weights ``{name: [S, …]}`` of the net that an adapter's numbers make others."""
        # seed by seed: products of all seeds at once may be rounded in another way
        each = [self._applied(backbone, own, seed) for seed in range(len(backbone[HEAD_BIAS]))]
        return {name: torch.stack([one[name] for one in each]) for name in each[0]}

    def fingerprint(self, state: State, task_id: int | None, *, first_trains_all: bool = False) -> int:
        """Return a number that says which answers a task gets; ``first_trains_all``: the first task trains the net itself."""
        task_id, heads = self._row(task_id), state["heads"]
        if task_id < len(heads):
            return int(heads.writes(task_id))
        return -1 if first_trains_all and len(heads) else 0

    def _row(self, task_id: int | None) -> int:
        if not self.apart:
            return 0
        assert task_id is not None
        return task_id

    def _own(self, state: State, task_id: int) -> Params:
        if self.bank not in state:
            return {}
        if task_id < len(state[self.bank]):
            return self.adapter.of(state[self.bank], task_id)
        return self.adapter.start(self.seeds, state["backbone"])

    def _applied(self, backbone: Params, own: Params, seed: int) -> Params:
        one: Params = {name: leaf[seed].clone() for name, leaf in own.items()}  # see `Adapter.of`
        return self.adapter.applied({name: leaf[seed] for name, leaf in backbone.items()}, one)
