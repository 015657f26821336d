"""Experts: every task starts from the net that promises most for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cl_engine.adapters.bottleneck import Bottleneck
from cl_engine.core import rng
from cl_engine.core.bank import Bank, empty_banks
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import StrategyEvent
from cl_engine.modules.logged_transfers import LoggedTransfers
from cl_engine.modules.shortlist import Looked, Shortlist, ranking_log
from cl_engine.modules.transferability import OF_CLASSES, Proxy, compared, pooled, transferability_score
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net, Params
from cl_engine.nn.target import Target
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import other_than_classes
from cl_engine.training.grid import Grid, fit_best

GENERALIST = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertScored(StrategyEvent):
    """What an expert (its task; −1: the net that all start from) promises for a task, by seed.

    >>> event = ExpertScored(step=3, task_id=2, expert=0, score=(0.9, 0.8))
    >>> event.score
    (0.9, 0.8)
    """

    task_id: int
    expert: int
    score: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertChosen(StrategyEvent):
    """The expert that a task starts from, by seed; −1: the net that all start from.

    >>> event = ExpertChosen(step=3, task_id=2, expert=(0, 1))
    >>> event.expert
    (0, 1)
    """

    task_id: int
    expert: tuple[int, ...]


class Experts(Strategy):
    """Experts: the past net whose features fit a task best is copied, given a new head and fine-tuned (Puigcerver 2021).

    Every finished task leaves its net as an expert for the next; the net that the scenario starts from is the generalist
    among them. A proxy tells what each promises, on the task's training rows, without training: leave-one-out nearest
    neighbours as published, a linear probe, LEEP or H-score; or the log of a taxonomy does, where that is named
    (``sources_from``), of the generalist as of an untrained net. Nets are kept whole; or the generalist alone is, frozen,
    and an expert is a set of bottleneck adapters in it, and a head. Where rates or decays are listed, the best of them and
    the best epoch are chosen on validation rows.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "experts", **{"form": "adapter"})
    >>> experiment.resolved["strategy"]["form"]
    'adapter'
    """

    settings = ("task",)
    cost: ClassVar[Literal["flat", "growing"]] = "growing"

    form: Literal["whole", "adapter"] = option("whole", "an expert is a whole net, or adapters in the generalist")
    bottleneck: int = option(8, "width of adapters", ge=1)
    proxy: Proxy = option("knn", "what is asked of an expert: knn, linear, leep or h_score")
    k: int = option(1, "neighbours that vote (knn)", ge=1)
    cosine: bool = option(False, "neighbours by direction instead of distance (knn)")
    rows: int = option(1000, "training rows that experts are tried on, at most", ge=2)
    sources_from: str | None = option(None, "taxonomy's run whose log ranks past tasks, not the proxy", before=None)
    sources: Looked = option(
        "latest", "experts that are tried: the latest, or those whose tasks' inputs were most alike", before="latest"
    )
    scanned: int | None = option(
        None, "how many of those are tried; left out: all, or 8 whose inputs were most alike", ge=1
    )
    grid: Grid
    choose: Literal["best", "random", "generalist", "worst"] = option(
        "best", "the expert a task starts from; all but best are controls"
    )
    _logged: LoggedTransfers | None = None

    def start(self) -> State:
        first = self.net.init(self.seeds)
        own = first if self._adapters is None else {**self._adapters.start(self.seeds, first), **_head(first)}
        return {
            "generalist": first,
            "experts": empty_banks(own, without=self.net.frozen),  # which are the generalist's
            **self._shortlist.start(),
        }

    @property
    def growing(self) -> bool:
        return not self._shortlist.bounded

    def check_targets(self, targets: Sequence[Target]) -> None:
        odd = other_than_classes(targets)
        if odd is not None and self.proxy in OF_CLASSES:
            raise UsageError(
                f"strategy.proxy: '{self.proxy}' tells of classes alone, and a task asks for {odd.name()}: use knn or linear"
            )

    def check_stream(self, stream: Stream) -> None:
        self._logged = ranking_log(self.sources == "gaussian", self.sources_from, stream)

    def learn(self, experience: Experience) -> Learning:
        task = experience.task_id
        if task < self._count():
            start = self._expert(task)
        else:
            scores: dict[int, list[float]] = {}
            looked = yield from self._shortlist.tasks(self.state, range(self._count()), experience, self.rows)
            for expert in [GENERALIST, *looked]:
                scores[expert] = self._promises(expert, experience)
                yield ExpertScored(step=experience.step, task_id=task, expert=expert, score=tuple(scores[expert]))
            chosen = self._chosen(scores, experience)
            yield ExpertChosen(step=experience.step, task_id=task, expert=tuple(chosen))
            start = self._copies(chosen)
        params = yield from fit_best(self, self.grid, start, experience, frozen=self._body())
        for name, bank in self.state["experts"].items():
            bank.put(task, params[name])
        self._shortlist.keep(self.state, experience, self.rows)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        expert = self._expert(task_id if task_id < self._count() else GENERALIST)
        return self.net.over_seeds(lambda p, rows: self.logits(p["own"], p.get("body"), rows), self._whole(expert), x)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        if self._adapters is None:
            return self.net.one(params, x)
        params = {**(frozen or {}), **params}
        return self.net.one(_of_net(params, self.net), x, statistics=False, hooks=self._adapters.hooks(params))

    def fingerprint(self, task_id: int | None) -> int | None:
        bank: Bank = next(iter(self.state["experts"].values()))
        return None if task_id is None else bank.writes(task_id)

    @cached_property
    def _adapters(self) -> Bottleneck | None:
        return Bottleneck(self.net, self.bottleneck) if self.form == "adapter" else None

    @cached_property
    def _shortlist(self) -> Shortlist:
        return Shortlist(self.net, self.sources, self.scanned)

    def _body(self) -> Params | None:
        """Return what experts share and never change; None if they are whole."""
        if self._adapters is None:
            return None
        return {name: t for name, t in self.state["generalist"].items() if name not in (HEAD_WEIGHT, HEAD_BIAS)}

    def _whole(self, expert: Params) -> Tree:
        body = self._body()
        return {"own": expert, **({} if body is None else {"body": body})}

    def _features(self, params: Tree, x: Tensor) -> Tensor:
        """Return features of one seed."""
        whole = {**params.get("body", {}), **params["own"]}
        hooks = None if self._adapters is None else self._adapters.hooks(whole)
        return self.net.features(_of_net(whole, self.net), x, hooks=hooks)

    def _count(self) -> int:
        return len(next(iter(self.state["experts"].values())))

    def _expert(self, expert: int) -> Params:
        if expert == GENERALIST:
            generalist: Params = self.state["generalist"]
            if self._adapters is not None:
                return {**self._adapters.start(self.seeds, generalist), **_head(generalist)}
            return generalist
        frozen = self.net.frozen if self._adapters is None else ()
        shared = {name: self.state["generalist"][name] for name in frozen}
        return {**shared, **{name: bank[expert] for name, bank in self.state["experts"].items()}}

    def _promises(self, expert: int, experience: Experience) -> list[float]:
        """Return what an expert promises for the task, by seed, on rows spread over the training rows."""
        if self._logged is not None:
            task, logged = experience.task_id, self._logged
            score = logged.untrained(task) if expert == GENERALIST else logged.source(task, expert)
            return [score] * len(self.seeds)
        rows, tree = experience.train.spread(self.rows), self._whole(self._expert(expert))
        features, labels = self.net.over_seeds(self._features, tree, rows.x), compared(self.target, rows.y)
        logits = self.net.over_seeds(lambda p, x: self.logits(p["own"], p.get("body"), x), tree, rows.x)
        return [
            transferability_score(self.proxy, pooled(of_seed), said, labels, k=self.k, cosine=self.cosine)
            for of_seed, said in zip(features, logits, strict=True)
        ]

    def _chosen(self, scores: dict[int, list[float]], experience: Experience) -> list[int]:
        """Return the expert of each seed; the earliest if several are equal."""
        known, seeds = list(scores), range(len(self.seeds))
        if self.choose == "generalist":
            return [GENERALIST for _ in seeds]
        if self.choose == "random":
            draws = [rng.arrays(seed, "expert", experience.step) for seed in self.seeds]
            return [known[int(draw.integers(len(known)))] for draw in draws]
        best = max if self.choose == "best" else min
        return [best(known, key=lambda expert, s=s: scores[expert][s]) for s in seeds]  # type: ignore[misc]

    def _copies(self, chosen: list[int]) -> Params:
        """Return each seed's copy of its expert, with the generalist's untrained head."""
        nets = [self._expert(expert) for expert in chosen]
        copies = {name: torch.stack([net[name][s] for s, net in enumerate(nets)]) for name in nets[0]}
        return {**copies, **_head(self.state["generalist"])}


def _head(params: Params) -> Params:
    return {name: params[name] for name in (HEAD_WEIGHT, HEAD_BIAS)}


def _of_net(params: Params, net: Net) -> Params:
    return {name: tensor for name, tensor in params.items() if name in net.shapes}
