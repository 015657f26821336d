"""Adapt: a frozen net with a head, a tuned copy of it, or a net from scratch, as each task is advised."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core.bank import Bank, empty_banks
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import EpochEnded, Event
from cl_engine.modules.adaptation import (
    AdaptationChosen,
    AdaptationPromised,
    AdaptationRegretted,
    AdaptationTried,
    Arm,
    of_chosen,
)
from cl_engine.modules.frozen_heads import FrozenHead, HeadKind
from cl_engine.modules.logged_transfers import LoggedTransfers, logged_transfers
from cl_engine.modules.transferability import OF_CLASSES, Proxy, compared, pooled, transferability_score
from cl_engine.nn.division import division
from cl_engine.nn.head import HEAD
from cl_engine.nn.net import Params
from cl_engine.nn.target import Target, quality
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import other_than_classes
from cl_engine.training.early_stopping import where_seeds
from cl_engine.training.fit_job import TrainingProbe
from cl_engine.training.grid import Grid, divided, fit_best

HOW = ("extract", "tune", "scratch")
EXTRACT, TUNE, SCRATCH = range(3)
NEAR_OF_PROXY = 0.95
NEAR_OF_LOG = math.log(0.5)  # a readout that wins over training from scratch on half of the rows


class AdaptGrid(Grid):
    """Rates and decays that each way is tried with, the same for all.

    >>> AdaptGrid().lrs
    [0.01, 0.001, 0.0001]
    """

    lrs: list[float] = option([1e-2, 1e-3, 1e-4], "learning rates that each way is tried with", min_length=1)


class Adapt(Strategy):
    """Adapt: each task reads the backbone frozen, tunes a copy of it, or starts from scratch (after Peters et al. 2019).

    Advice costs no training: a proxy tells what the backbone's features promise for the task's training rows, and what those
    of an untrained net do. Where the backbone promises ``near`` or more, a head on it is trained (`extract`); where it does
    not exceed the untrained net by ``margin``, a new net (`scratch`); else a copy of the backbone (`tune`). Or the log of a
    taxonomy advises: by the log of the share of rows on which a readout of the best earlier task's net, or of an untrained net,
    wins over training from scratch on as few labels. Every way is tried with the same rates and decays, the best
    epoch of the best chosen on validation rows. A task that comes back keeps what it has and learns nothing.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("adapt_mnist", "adapt", **{"tried": True})
    >>> experiment.resolved["strategy"]["choose"]
    'advice'
    """

    settings = ("task",)

    choose: Literal["advice", "validation", "extract", "tune", "scratch", "worst"] = option(
        "advice", "the way each task is learned: as advised, the best (or worst) on validation rows, or always the same"
    )
    head: HeadKind = option("mlp", "head on the frozen backbone: linear, with a hidden layer, or a mix of its modules")
    hidden: int = option(64, "hidden units of the head (mlp)", ge=1)
    proxy: Proxy = option("linear", "what is asked of the backbone: linear, knn, leep or h_score")
    rows: int = option(1000, "training rows that the proxy is asked about, at most", ge=2)
    k: int = option(1, "neighbours that vote (knn)", ge=1)
    near: float | None = option(None, "promise from which the frozen backbone is read; left out: 0.95, of a log ln 0.5")
    margin: float = option(0.0, "promise beyond an untrained net's without which a task starts from scratch", ge=0)
    advice_from: str | None = option(None, "run of strategy taxonomy whose log advises in the place of the proxy")
    tried: bool = option(False, "try all three ways, whichever is chosen, and tell the regret")
    decay: float = option(1.0, "factor of the rate of each module of a tuned copy to that of the next", gt=0, le=1)
    grid: AdaptGrid
    _logged: LoggedTransfers | None = None

    def start(self) -> State:
        base = {name: row.unsqueeze(0) for name, row in self.net.pretrained.items()}
        return {
            **({"base": base} if base else {}),
            "heads": empty_banks(self._head.start(self._drawn, self.seeds, 0)),
            "nets": empty_banks(self._drawn, without=self.net.frozen),
            # of each task the way, and the row of its head or net
            "how": Bank.empty(len(self.seeds), (2,), torch.int64, self.net.device),
        }

    def check_targets(self, targets: Sequence[Target]) -> None:
        odd = other_than_classes(targets)
        if odd is not None and self.proxy in OF_CLASSES:
            raise UsageError(
                f"strategy.proxy: '{self.proxy}' tells of classes alone, and a task asks for {odd.name()}: use knn or linear"
            )

    def check_stream(self, stream: Stream) -> None:
        if not self._has_base and (self.choose != "scratch" or self.tried):
            raise UsageError(
                f"strategy.choose: '{self.choose}'{' with tried = true' if self.tried else ''} needs a pre-trained net, and the "
                "scenario has none: add a table [backbone], or choose scratch"
            )
        if self.advice_from is None and self.margin >= self._near:
            raise UsageError(
                f"strategy.margin: found {self.margin}, and strategy.near {self._near}: it must be less, or no copy is ever tuned"
            )
        self._logged = logged_transfers(self.advice_from, stream, "strategy.advice_from")

    def learn(self, experience: Experience) -> Learning:
        step, task = experience.step, experience.task_id
        if task < len(self.state["how"]):
            return
        experience = divided(experience, self.grid.aside)
        advised = [HOW.index(self.choose)] * len(self.seeds) if self.choose in HOW else []
        if self._has_base:
            promise, promise_random = self._promises(experience)
            told = {"promise": tuple(promise), "promise_random": tuple(promise_random)}
            yield AdaptationPromised(step=step, task_id=task, **told)
            advised = advised or [self._advised(*pair) for pair in zip(promise, promise_random, strict=True)]
        compare = self.tried or self.choose in ("validation", "worst")
        arms: dict[int, Arm] = {}
        for how in range(len(HOW)) if compare else sorted(set(advised)):
            arms[how] = yield from self._arm(how, experience)
        scores = torch.stack([arm.validation for arm in arms.values()])
        chosen = torch.tensor(advised, device=scores.device)
        if self.choose in ("validation", "worst"):
            chosen = (scores if self.choose == "validation" else -scores).argmax(dim=0)
        yield from self._curve({how: arm.curve for how, arm in arms.items()}, chosen)
        self._keep(task, {how: arm.params for how, arm in arms.items()}, chosen)
        yield AdaptationChosen(step=step, task_id=task, how=tuple(chosen.tolist()))
        if compare:
            regret = scores.amax(dim=0) - scores.gather(0, chosen[None])[0]
            yield AdaptationRegretted(step=step, task_id=task, regret=tuple(regret.tolist()))

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self.net.one(params, x) if frozen is None else self._head.logits(params, frozen, x)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        if task_id >= len(self.state["how"]):
            return self.net.all(self._drawn if self.choose == "scratch" else self._base, x)
        how, row = self.state["how"][task_id].unbind(dim=1)
        said = {one: partial(self._said, one, self._kept(one, how, row)) for one in how.unique().tolist()}
        return of_chosen(said, how, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        return None if task_id is None else self.state["how"].writes(task_id)

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        return ()  # where the stream sets no validation rows aside, this strategy does

    @property
    def _has_base(self) -> bool:
        return bool(self.net.pretrained)

    @property
    def _near(self) -> float:
        if self.near is not None:
            return self.near
        return NEAR_OF_PROXY if self.advice_from is None else NEAR_OF_LOG

    @cached_property
    def _head(self) -> FrozenHead:
        return FrozenHead(self.net, self.head, self.hidden)

    @cached_property
    def _drawn(self) -> Params:
        return self.net.without_backbone().init(self.seeds)

    @property
    def _base(self) -> Params:
        """Return the backbone, with each seed's own untrained head."""
        held = self.state.get("base", {})
        return {**self._drawn, **{name: row.expand_as(self._drawn[name]) for name, row in held.items()}}

    def _promises(self, experience: Experience) -> tuple[list[float], list[float]]:
        """Return what the backbone and an untrained net promise, by seed."""
        if self._logged is not None:
            task = experience.task_id
            found = self._logged.advised(task, range(task)), self._logged.untrained(task)
            return [found[0]] * len(self.seeds), [found[1]] * len(self.seeds)
        if self.advice_from is not None:
            raise UsageError(
                "strategy.advice_from: tasks are found by name, and nothing here says what they are called"
            )
        rows = experience.train.spread(self.rows)
        labels = compared(self.target, rows.y)
        both = []
        for params in (self._base, self._drawn):
            pairs = zip(self.net.all_features(params, rows.x), self.net.all(params, rows.x), strict=True)
            both.append([transferability_score(self.proxy, pooled(f), said, labels, k=self.k) for f, said in pairs])
        return both[0], both[1]

    def _advised(self, promise: float, promise_random: float) -> int:
        if promise >= self._near:
            return EXTRACT
        return TUNE if promise - promise_random > self.margin else SCRATCH

    def _arm(self, how: int, experience: Experience) -> Generator[Event, None, Arm]:
        """Learn a task in one way."""
        began, flops, curve = time.perf_counter(), 0.0, list[TrainingProbe]()
        frozen = self._base if how == EXTRACT else None
        start = self._drawn if how == SCRATCH else self._base
        if how == EXTRACT:
            start = self._head.start(start, self.seeds, experience.key)
        shares = self._shares if how == TUNE else {}
        fitting = fit_best(self, self.grid, start, experience, frozen=frozen, shares=shares)
        while True:
            try:
                event = next(fitting)
            except StopIteration as end:
                params: Params = end.value
                break
            flops += event.flops if isinstance(event, EpochEnded) else 0.0
            if isinstance(event, TrainingProbe):
                curve.append(event)  # whose curve counts is known when a way has been chosen
            else:
                yield event
        rows = experience.validation
        validation = quality(self.target, self._said(how, params, rows.x), rows.y)
        yield AdaptationTried(
            step=experience.step,
            part=HOW[how],
            task_id=experience.task_id,
            validation=tuple(validation.tolist()),
            flops=flops,
            seconds=time.perf_counter() - began,
        )
        return Arm(params, validation, curve)

    @cached_property
    def _shares(self) -> dict[str, float]:
        """Return the factor of the rate of each weight of a tuned copy; the head's is 1."""
        parts = division(self.net)
        shares = {name: self.decay ** (len(parts) - 1 - depth) for depth, part in enumerate(parts) for name in part}
        return {} if self.decay == 1 else {name: share for name, share in shares.items() if name not in HEAD}

    def _said(self, how: int, params: Params, x: Tensor) -> Tensor:
        """Return outputs ``[S, N, O, …]`` of weights that were learned in one way."""
        if how != EXTRACT:
            return self.net.all(params, x)
        both = {"own": params, "base": self._base}
        return self.net.over_seeds(lambda tree, part: self._head.logits(tree["own"], tree["base"], part), both, x)

    def _curve(self, curves: Mapping[int, list[TrainingProbe]], chosen: Tensor) -> Learning:
        for points in zip(*curves.values(), strict=True):
            said = {how: point.predict for how, point in zip(curves, points, strict=True)}
            yield TrainingProbe(
                step=points[0].step,
                batch=points[0].batch,
                epoch=points[0].epoch,
                predict=partial(of_chosen, said, chosen),
            )

    def _keep(self, task: int, learned: Mapping[int, Params], chosen: Tensor) -> None:
        """Add a row to the heads, or to the nets, where a seed has chosen it; a seed that has not leaves its own unread."""
        row = torch.zeros_like(chosen)
        for bank_of, ways in (("heads", (EXTRACT,)), ("nets", (TUNE, SCRATCH))):
            own = [how for how in ways if bool((chosen == how).any())]
            if not own:
                continue
            banks: dict[str, Bank] = self.state[bank_of]
            for name, bank in banks.items():
                kept = learned[own[0]][name]
                for how in own[1:]:
                    kept = where_seeds(chosen == how, learned[how][name], kept)
                row = torch.where(torch.isin(chosen, torch.tensor(ways, device=row.device)), len(bank), row)
                bank.put(len(bank), kept)
        self.state["how"].put(task, torch.stack([chosen, row], dim=1))

    def _kept(self, one: int, how: Tensor, row: Tensor) -> Params:
        """Return what was learned in one way, seed by seed; of a seed that took another, whatever is there."""
        banks: dict[str, Bank] = self.state["heads" if one == EXTRACT else "nets"]
        seeds, rows = torch.arange(len(how), device=how.device), torch.where(how == one, row, 0)
        fixed = (
            {}
            if one == EXTRACT
            else {name: (self._base if one == TUNE else self._drawn)[name] for name in self.net.frozen}
        )
        return {**fixed, **{name: bank.rows[seeds, rows] for name, bank in banks.items()}}
