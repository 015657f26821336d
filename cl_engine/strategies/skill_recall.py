"""Skill recall: every task's net kept as a code, and decoded when it is needed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cl_engine.adapters.skills import START, SkillOptions, Skills, skills_of
from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import DIAGNOSTICS, State, bytes_by_part
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.nn.net import Params
from cl_engine.options import option
from cl_engine.recall.choice import CodecOptions, codec_of
from cl_engine.recall.codec import Batch, SkillCodec, recalled
from cl_engine.recall.events import Consolidated, RecallVerified, SkillBytes, SkillRecalled, SkillStored
from cl_engine.recall.kept import recall_bytes
from cl_engine.recall.manifest import Manifest
from cl_engine.recall.measure import nearness, nearness_to_originals, probing
from cl_engine.recall.sketch import Sketches
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.optimizers import optimizer_class

NONE = -1
BESIDE = {"weight": "beside", "head": "heads", "statistic": "statistics"}


class SkillRecall(Strategy):
    """Skill recall: a net a task, kept as a code that a lifelong autoencoder decodes (Camp, Mandivarapu & Estrada 2020).

    Each task is learned by a net of its own, without restriction. ``buffer`` finished nets wait, served exactly; then
    they are encoded together. To keep the old ones the autoencoder is retrained on its own recollections of them, until
    the stop rule holds or ``max_passes`` are made. Other codecs serve as rivals and controls.

    Different from the release unless a scenario says otherwise: weights are centred on the start the nets share and
    scaled, the last layer is linear, all samples make one step, the stop rule looks at what was learned (``residual``),
    and an autoencoder serves ``block`` skills and is then frozen, so that neither cost nor drift grows with the stream.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "skill_recall", **{"latent": 10})
    >>> experiment.resolved["strategy"]["latent"]
    10
    """

    settings = ("task",)

    begin: Literal["shared", "scratch", "mean"] = option(
        "shared", "task nets start from one initialisation, each from its own, or from the mean of the first buffer"
    )
    pull: float = option(0.0, "weight of the squared distance to the start in a task net's loss", ge=0)
    heads: Literal["inside", "outside"] = option("inside", "heads are part of the code, or kept beside it as they are")
    buffer: int = option(5, "nets that wait, served exactly, until they are encoded together", ge=1)
    centred: bool = option(True, "the start that nets share is taken away before encoding")
    sketch: int = option(128, "numbers kept of an original, for diagnostics alone; 0: none, and no cosine to it", ge=0)
    skill: SkillOptions
    code: CodecOptions

    def start(self) -> State:
        self._refuse_what_cannot_be()
        seeds, device = len(self.seeds), self.net.device
        state: State = {"waiting": self._no_waiting(), **self.keeper.start()}
        for entry in self.manifest.outside:
            bank = Bank.empty(seeds, entry.shape, entry.dtype, device)
            state.setdefault(BESIDE[entry.kind], {})[entry.name] = bank
        # of each task: the row of its code (or NONE), and its place among the waiting (or NONE), which goes first
        state["places"] = Bank.empty(1, (2,), torch.int64, device)
        if self.sketches is not None:
            state[DIAGNOSTICS] = self.sketches.empty(seeds)
        centred = self.centred and self.begin == "shared"
        state |= self.skills.start([entry.name for entry in self.manifest.inside] if centred else [])
        return state

    def learn(self, experience: Experience) -> Learning:
        task, step, bytes_before = experience.task_id, experience.step, recall_bytes(self)
        params = yield from self.skills.learn(self, experience, self.kept(task), self._pulled_to(task))
        for name, tensor in self.manifest.rest(params).items():
            self._beside(name).put(task, tensor)
        self._wait(task, self.manifest.vector(params))
        waiting = len(self.state["waiting"])
        if waiting == self.buffer:
            waiting = 0
            yield from self._consolidate(experience)
        after = recall_bytes(self)
        yield SkillStored(step=step, task_id=task, bytes=after - bytes_before, waiting=waiting)
        began = time.perf_counter()
        self.decoded(task)
        yield SkillRecalled(step=step, task_id=task, seconds=time.perf_counter() - began)
        yield SkillBytes(
            step=step,
            skills=(skills := len(self.state["places"])),
            recall_only=after,
            in_all=sum(size for part, size in bytes_by_part(self.state).items() if part != DIAGNOSTICS),
            kept_whole=skills * self.skills.bytes_of_net,
        )

    def loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        loss = super().loss(params, frozen, x, y)
        if frozen is None or START not in frozen:
            return loss
        learned, start = self.skills.flat(params), frozen[START]
        away = [(learned[e.name] - start[e.name]).square().sum() for e in self.manifest.inside]
        return loss + self.pull * torch.stack(away).sum()

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self.skills.logits(params, frozen, x)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all(self.decoded(task_id), x)

    @property
    def growing(self) -> bool:
        budget = self.code.budget
        return self.code.codec == "autoencoder" and budget.block == 0 and budget.rehearse is None

    def fingerprint(self, task_id: int | None) -> int | None:
        assert task_id is not None
        places: Bank = self.state["places"]
        if task_id >= len(places):
            return int("mean" in self.state) + 2 * int(self.skills.later and len(places) > 0)
        row, waiting = places.numbers(task_id)
        coded = 0 if waiting != NONE else self.keeper.version(self.state, row)
        return hash((2, places.writes(task_id), coded))

    # What the strategy consists of beside its state: all of it follows from the net, the seeds and the options.

    @cached_property
    def manifest(self) -> Manifest:
        """The tensors that the vector of a skill consists of, and those beside it."""
        return Manifest.of(self.net, self.skills.drawn, heads_inside=self.heads == "inside")

    @cached_property
    def skills(self) -> Skills:
        """What is kept of a task."""
        return skills_of(self.net, self.seeds, self.skill)

    @cached_property
    def keeper(self) -> SkillCodec:
        """The codec that keeps the skills."""
        sizes = [entry.size for entry in self.manifest.inside]
        return codec_of(self.code, self.seeds, sizes, self.net.device)

    @cached_property
    def sketches(self) -> Sketches | None:
        """Sketches that tell how far recollections are from the originals; None: not asked for."""
        return Sketches(self.manifest.size, self.sketch, self.net.device) if self.sketch else None

    @property
    def _initial(self) -> Params:
        return self.skills.first(self.state)

    def decoded(self, task_id: int) -> Params:
        """Return the net of a task: as it waits, as it is recalled, or as it would start."""
        return self.skills.whole(self.state, self.kept(task_id))

    def kept(self, task_id: int) -> Params:
        """Return what makes the net of a task, ``{name: [S, …]}``."""
        places: Bank = self.state["places"]
        if task_id >= len(places):
            return self._start_of(task_id)
        row, waiting = places.numbers(task_id)
        exact = waiting != NONE
        vector = self.state["waiting"][waiting] if exact else self.keeper.recall(self.state, row) + self._centre()
        rest = {entry.name: self._beside(entry.name)[task_id] for entry in self.manifest.outside}
        return self.manifest.params(vector, rest)

    def _start_of(self, task_id: int) -> Params:
        if self.begin == "scratch":
            return self.net.init([rng.derive(seed, "skill", task_id) for seed in self.seeds])
        if "mean" in self.state:
            return self.manifest.params(self.state["mean"]["start"], self.manifest.rest(self._initial))
        return self._initial

    def _pulled_to(self, task_id: int) -> Tree | None:
        return dict(self._start_of(task_id)) if self.pull else None

    def _centre(self) -> Tensor:
        """Return the weights that are taken away from skills before they are encoded, ``[S, P]``."""
        start = self.manifest.vector(self._start_of(0))
        return start if self.centred and self.begin != "scratch" else torch.zeros_like(start)

    def _answers(self, members: Sequence[int], skill: Params, x: Tensor) -> Tensor:
        return self.net.all(self.skills.whole(self.state, skill, members), x)

    def _beside(self, name: str) -> Bank:
        kind = next(entry.kind for entry in self.manifest.outside if entry.name == name)
        bank: Bank = self.state[BESIDE[kind]][name]
        return bank

    def _no_waiting(self) -> Bank:
        return Bank.empty(len(self.seeds), (self.manifest.size,), device=self.net.device)

    def _wait(self, task_id: int, vector: Tensor) -> None:
        """Put a finished net among those that wait to be encoded."""
        places: Bank = self.state["places"]
        row, waiting = places.numbers(task_id) if task_id < len(places) else (NONE, NONE)
        waiting = waiting if waiting != NONE else len(self.state["waiting"])
        self.state["waiting"].put(waiting, vector)
        places.put(task_id, torch.tensor([[row, waiting]]))

    def _consolidate(self, experience: Experience) -> Learning:
        """Encode all skills that wait, and measure how near recollections are before and after."""
        state, keeper, places = self.state, self.keeper, self.state["places"]
        if self.begin == "mean" and "mean" not in state:
            state["mean"] = {"start": state["waiting"].rows.mean(dim=1)}
        centre, began = self._centre(), time.perf_counter()
        tasks, rows = self._rows_to_write()
        order = [places.numbers(task)[1] for task in tasks]
        new = state["waiting"].rows[:, order] - centre.unsqueeze(1)
        old = [row for row in keeper.moving(state) if row not in rows]
        targets = torch.cat([recalled(keeper, state, old), new], dim=1)
        rest = {entry.name: self._beside(entry.name)[experience.task_id] for entry in self.manifest.outside}
        probe = probing(self._answers, self.manifest, rest, experience, self.target)
        everyone = range(len(self.seeds))
        newest = tasks.index(experience.task_id)
        original = probe(everyone, new[:, newest] + centre)
        batch = Batch(new, rows, newest, centre, experience.step, probe, original)
        report = yield from keeper.keep(state, batch)
        for task, row in zip(tasks, rows, strict=True):
            places.put(task, torch.tensor([[row, NONE]]))
        state["waiting"] = self._no_waiting()
        if self.sketches is not None:
            for place, row in enumerate(rows):
                state[DIAGNOSTICS].put(row, self.sketches.of(new[:, place], centre))
        given = recalled(keeper, state, [*old, *rows])
        kept = [state[DIAGNOSTICS][row] for row in (*old, *rows)] if self.sketches is not None else []
        yield Consolidated(
            step=experience.step,
            skills=targets.shape[1],
            passes=tuple(report.epochs),
            **nearness(given, targets, centre, len(old)),
            **nearness_to_originals(self.sketches, kept, given, centre),
            seconds=time.perf_counter() - began,
        )
        yield RecallVerified(
            step=experience.step,
            task_id=experience.task_id,
            original=tuple(original.tolist()),
            recalled=tuple(probe(everyone, given[:, len(old) + newest] + centre).tolist()),
        )

    def _rows_to_write(self) -> tuple[list[int], list[int]]:
        """Return the waiting tasks and the row each is to have: first those that replace an old code, then new rows."""
        table = self.state["places"].rows[0].tolist()
        waiting = [task for task, (_, place) in enumerate(table) if place != NONE]
        old = {task: table[task][0] for task in waiting}
        replacing = [task for task in waiting if old[task] != NONE and self.keeper.replaceable(self.state, old[task])]
        adding = sorted((task for task in waiting if task not in replacing), key=lambda task: table[task][1])
        rows = [*(old[task] for task in replacing), *(self.keeper.held(self.state) + k for k in range(len(adding)))]
        return [*replacing, *adding], rows

    @property
    def read_by_recall(self) -> set[str]:
        """Parts of the state that decoding reads."""
        return {"waiting", "places", "mean", "backbone", *BESIDE.values(), *self.keeper.recall_parts}

    def _refuse_what_cannot_be(self) -> None:
        optimizer_class(self.code.consolidation.code_optimizer)
        if isinstance(pairs := self.code.rule.threshold, list) and (
            not pairs or any(len(pair) != 2 for pair in pairs) or pairs != sorted(pairs)
        ):
            raise UsageError(f"skill_recall: threshold is a number or growing pairs [skills, threshold], not {pairs}")
        if self.begin == "mean" and self.buffer == 1:
            raise UsageError("skill_recall: begin = 'mean' takes the mean of the first buffer: set buffer to 2 or more")
        if self.begin == "scratch" and self.skill.what != "net":
            raise UsageError(
                f"skill_recall: what a task adds to a frozen net ({self.skill.what}) begins with what changes nothing: begin is "
                "'shared' or 'mean', and 'scratch' is for what = 'net'"
            )
        self.keeper  # noqa: B018 - the codec refuses what it cannot do
