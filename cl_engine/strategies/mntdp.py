"""MNTDP: a library of modules that grows only when a task needs new ones."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterator
from functools import cached_property
from itertools import product
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cl_engine import rng
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.fit import Tree
from cl_engine.masks.norms import LAYERS
from cl_engine.memory import State
from cl_engine.modules.candidates import Prior, Reuse, candidates
from cl_engine.modules.division import Division, division
from cl_engine.modules.library import Library
from cl_engine.modules.told import CandidateTried, ModulesHeld, PathChosen, SourceScored
from cl_engine.net import Params
from cl_engine.options import option
from cl_engine.proxies import neighbours_among
from cl_engine.strategy import Learning, Strategy
from cl_engine.stream import Data, Experience

NOBODY = -1


class Mntdp(Strategy):
    """MNTDP-D: modular networks with a task-driven prior, the deterministic search (Veniat, Denoyer & Ranzato 2021).

    A new task asks its validation rows which past model's features suit it best (nearest neighbours), and tries the
    paths that reuse some of that model's modules and learn the others anew, each over a grid of rates and decays, with
    the weights of the pass that was best on validation rows. The best path is kept; of equals the one that reuses
    more. Modules are frozen for ever, each is kept once. A task that comes back keeps its path and learns nothing.
    """

    settings = ("task",)
    cost: ClassVar[Literal["flat", "growing"]] = "growing"

    prior: Prior = option("forward", "paths tried: old modules first, also old modules last, or between old ones too")
    k: int = option(15, "neighbours that vote for a past model", ge=1)
    rows: int = option(1000, "training and validation rows that past models are tried on, at most each", ge=1)
    lrs: list[float] = option([1e-2, 1e-3], "learning rates that each path is tried with")
    weight_decays: list[float] = option([0.0, 1e-4, 1e-5], "weight decays that each path is tried with")
    patience: int | None = option(None, "passes without a better one after which a path is given up; left out: never")
    aside: float = option(
        0.2,
        "share of the training rows that paths are chosen on, where the stream sets no validation rows aside",
        gt=0,
        lt=1,
    )

    def start(self) -> State:
        if not self.lrs or not self.weight_decays:
            raise UsageError("mntdp: lrs and weight_decays need at least one number each")
        return {**self._library.start(len(self.seeds)), "classes": torch.zeros(1, 0, dtype=torch.int64)}

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        if task < len(state["paths"]):
            return
        if not len(experience.validation):
            experience = self._divided(experience)
        source = yield from self._source(experience)
        fresh = self._fresh(experience)
        seeds, depths = len(self.seeds), self._library.depths
        path = torch.zeros(seeds, depths, dtype=torch.int64, device=self.net.device)
        tried: list[Reuse] = [(False,) * depths]
        if source is not None:
            path = torch.stack([state["paths"].rows[s, t] for s, t in enumerate(source)])
            same = all(int(state["classes"][0, t]) == experience.classes for t in source)
            tried = candidates(self.prior, depths, same_outputs=same)
        best = torch.full((seeds,), -1.0, device=self.net.device)
        chosen = torch.ones(seeds, depths, dtype=torch.bool, device=self.net.device)
        kept = fresh
        old = {**fresh, **(self._library.params(state, path) if source is not None else {})}
        for number, reuse in enumerate(tried):
            grid = [(0.0, 0.0)] if all(reuse) else list(product(self.lrs, self.weight_decays))
            for lr, decay in grid:
                began = time.perf_counter()
                whole = old if all(reuse) else (yield from self._trained(reuse, old, fresh, lr, decay, experience))
                accuracy = self._accuracy(whole, experience)
                better = accuracy > best
                best = torch.where(better, accuracy, best)
                new = torch.tensor([not one for one in reuse], device=self.net.device)
                chosen = torch.where(better.unsqueeze(1), new, chosen)
                kept = {name: _where(better, whole[name], tensor) for name, tensor in kept.items()}
                yield CandidateTried(
                    step=experience.step,
                    task_id=task,
                    candidate=number,
                    reused=sum(reuse),
                    lr=lr,
                    weight_decay=decay,
                    validation=tuple(accuracy.tolist()),
                    seconds=time.perf_counter() - began,
                )
        state["paths"].put(task, self._library.add(state, kept, path, chosen))
        known = torch.tensor([[experience.classes]], device=state["classes"].device)
        state["classes"] = torch.cat([state["classes"], known], dim=1)
        yield from self._told(experience, source, chosen, best)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        layers = {name.rpartition(".")[0] for name in params["new"]}
        tracking = [layer for layer in layers if isinstance(self.net.owner(f"{layer}.weight"), LAYERS)]
        return self.net.one({**(frozen or {}), **params["new"]}, x, statistics=tracking)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all(self._net(task_id), x)

    def fingerprint(self, task_id: int | None) -> int | None:
        return None if task_id is None else self.state["paths"].writes(task_id)

    @cached_property
    def _parts(self) -> Division:
        return division(self.net)

    @cached_property
    def _library(self) -> Library:
        return Library(self.net, self._parts)

    @cached_property
    def _initial(self) -> Params:
        return self.net.init(self.seeds)

    def _net(self, task_id: int) -> Params:
        paths = self.state["paths"]
        if task_id >= len(paths):
            return self._initial
        return {**self._initial, **self._library.params(self.state, paths[task_id])}

    def _fresh(self, experience: Experience) -> Params:
        """Return untrained weights, other ones for each task."""
        key = experience.key
        return self.net.init([rng.derive(seed, "modules", key) for seed in self.seeds])

    def _divided(self, experience: Experience) -> Experience:
        """Return the experience with some of its training rows as validation rows, the same share of each class."""
        train = experience.train
        draw = rng.tensors(0, "aside", experience.key)
        shuffled = torch.randperm(len(train), generator=draw).to(train.y.device)
        aside = torch.zeros(len(train), dtype=torch.bool, device=train.y.device)
        for label in train.y.unique():
            rows = shuffled[train.y[shuffled] == label]
            aside[rows[: max(1, round(self.aside * len(rows)))]] = True
        return dataclasses.replace(
            experience, train=Data(train.x[~aside], train.y[~aside]), validation=Data(train.x[aside], train.y[aside])
        )

    def _source(self, experience: Experience) -> Generator[Event, None, list[int] | None]:
        """Return the past task of each seed whose features suit the new one best; None if there is none."""
        scores: list[list[float]] = []
        train, validation = experience.train.spread(self.rows), experience.validation.spread(self.rows)
        for task in range(len(self.state["paths"])):
            params = self._net(task)
            known = self.net.all_features(params, train.x)
            asked = self.net.all_features(params, validation.x)
            scores.append(
                [neighbours_among(f, train.y, g, validation.y, k=self.k) for f, g in zip(known, asked, strict=True)]
            )
            yield SourceScored(step=experience.step, task_id=experience.task_id, source=task, score=tuple(scores[-1]))
        if not scores:
            return None
        best: list[int] = torch.tensor(scores).argmax(dim=0).tolist()
        return best

    def _trained(
        self, reuse: Reuse, old: Params, fresh: Params, lr: float, decay: float, experience: Experience
    ) -> Generator[Event, None, Params]:
        names = [name for one, part in zip(reuse, self._parts, strict=True) if not one for name in part]
        learned = yield from self.fit(
            {"new": {name: fresh[name] for name in names}},
            self.loss,
            experience,
            frozen={name: tensor for name, tensor in old.items() if name not in names},
            train=self.train.model_copy(update={"lr": lr, "weight_decay": decay}),
            validation=(experience.validation.x, experience.validation.y),
            patience=self.patience,
        )
        return {**old, **learned["new"]}

    def _accuracy(self, params: Params, experience: Experience) -> Tensor:
        rows = experience.validation
        return (self.net.all(params, rows.x).argmax(dim=-1) == rows.y).float().mean(dim=-1)

    def _told(self, experience: Experience, source: list[int] | None, new: Tensor, best: Tensor) -> Iterator[Event]:
        yield PathChosen(
            step=experience.step,
            task_id=experience.task_id,
            source=tuple(source or [NOBODY] * len(self.seeds)),
            reused=tuple((~new).sum(dim=1).tolist()),
            validation=tuple(best.tolist()),
        )
        for depth in range(self._library.depths):
            held = tuple(self.state["held"][:, depth].tolist())
            yield ModulesHeld(step=experience.step, part=f"depth {depth}", modules=held)


def _where(better: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(better.reshape(-1, *[1] * (one.ndim - 1)), one, other)
