"""Learned Weight Sharing: which set of weights each task uses in each layer is learned with the weights."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.masks.norms import TaskNorms
from cl_engine.modules import assignment
from cl_engine.modules.growth import Growth
from cl_engine.modules.reordering import rows_beside
from cl_engine.modules.weight_sets import WeightSets
from cl_engine.nn.net import Params
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import FitOptions
from cl_engine.training.grid import none_lost
from cl_engine.training.rehearsal import group_name, group_of, groups_in, keep_rows
from cl_engine.training.sampled_fit import Sampling, sampled_fit

DRAWS = 1024  # steps after which the numbers that assignments are drawn by come again


class WeightSharing(Strategy):
    """Learned Weight Sharing: evolution strategies choose a set of weights a layer for each task (Prellberg & Kramer 2020).

    Each layer has several sets of weights, and each task chances of using them. Every step draws assignments of sets to
    tasks: some train the sets they name by gradient descent, others are ranked by what they lose, which moves the chances
    (natural evolution strategies). In the end a task uses its likeliest sets.

    ``form = "joint"`` is the published one: as in ``joint`` all rows are kept, and after each experience all is learned anew
    from the rows of all tasks. ``form = "continual"`` is not published: sets that past tasks use are frozen, a new task may
    use them or one new set a layer, and nothing is forgotten; a task that comes back learns nothing. Heads are a task's own
    unless ``heads`` says otherwise, normalisation layers always are. Not as published either: chances are moved by rows that
    are not trained on (``held_out``), and not at once (``warm_up``). A batch has ``train.batch`` rows of each task.

    >>> WeightSharing.Options(form="joint", sets=3).samples
    8
    """

    settings = ("task",)
    cost: ClassVar[Literal["flat", "growing"]] = "growing"

    form: Literal["continual", "joint"] = option("continual", "tasks one after the other, or all anew each time")
    sharing: Literal["learned", "full", "none", "lower"] = option(
        "learned", "learned; or, as controls: all layers shared, none, or the lower ones"
    )
    sets: int | None = option(
        None, "sets of weights of a layer, at most; left out: as many as tasks (joint), any number (continual)", ge=1
    )
    lower: int | None = option(
        None, "first layers that all tasks share; left out: none, of the control 'lower' half of them", ge=0
    )
    heads: Literal["own", "learned"] = option(
        "own", "a head for each task, or sets of heads as of other layers, where all tasks ask for the same"
    )
    samples: int = option(8, "assignments drawn in a step, to be trained and again to be ranked", ge=2)
    eta: float = option(0.1, "step of the chances", gt=0)
    rank: Literal["all", "task"] = option(
        "all", "assignments are ranked by the mean loss of all tasks, or for each task"
    )
    held_out: float = option(
        1 / 3,
        "share of the training rows of each class that assignments are ranked on alone, where the stream sets no validation "
        "rows aside; 0: on training rows",
        ge=0,
        lt=1,
    )
    warm_up: float = option(0.2, "share of the epochs in which chances stay as they are", ge=0, lt=1)
    wait: int = option(0, "first tasks whose rows are kept, and learned with the task after them (joint)", ge=0)
    practice: Sampling
    _references: Tensor | None = None

    def check_stream(self, stream: Stream) -> None:
        self._references = self.practice.references(stream)
        if self.form == "continual" and self.practice.sampling != "uniform":
            raise UsageError(
                f"strategy.sampling: '{self.practice.sampling}' is about tasks learned together, and form 'continual' learns one "
                "at a time: leave it out, or use form = 'joint'"
            )
        if stream.n_tasks is not None and self.wait >= stream.n_tasks:
            raise UsageError(
                f"strategy.wait: nothing would be learned, as there are {stream.n_tasks} tasks, and {self.wait} are waited for"
            )
        asked = {target.key for target in stream.targets}
        if self.heads == "learned" and len(asked) > 1:
            raise UsageError(
                f"strategy.heads: 'learned' lets tasks share heads, and they ask for {len(asked)} different things: use 'own'"
            )

    def start(self) -> State:
        growth, seeds = self._growth, len(self.seeds)
        if growth.depths < 2:
            raise UsageError(
                "weight_sharing: the net has one module, its head, and nothing to share: choose one with hidden layers"
            )
        if self.lower is not None and self.lower >= growth.depths:
            raise UsageError(
                f"strategy.lower: the net has {growth.depths - 1} layers before its head, and {self.lower} are to be shared"
            )
        modules = growth.start() if self.form == "continual" else growth.library.start(seeds)
        return {**modules, **self._norms.start(seeds)}

    def learn(self, experience: Experience) -> Learning:
        if self.form == "joint":
            yield from self._jointly(experience)
        elif experience.task_id >= len(self.state["paths"]):
            yield from self._added(experience)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        params = self._growth.net_of(self.state, task_id)
        return self.net.all({**params, **self._norms.of(self.state, task_id, params)}, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        return self._growth.fingerprint(self.state, task_id) if self.form == "continual" else None

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        return ()  # where the stream sets no validation rows aside, this strategy does

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, "affine")

    @cached_property
    def _growth(self) -> Growth:
        held = [name for name in self.net.shapes if self.net.is_held(name)]
        return Growth(self.net, self.seeds, self.target_of, {*held, *self._norms.layout.shapes})

    @cached_property
    def _nets(self) -> WeightSets:
        return WeightSets(self.net, self._growth.library.layouts)

    @cached_property
    def _initial(self) -> Params:
        return self.net.init(self.seeds)

    # The two forms.

    def _jointly(self, experience: Experience) -> Learning:
        """Learn sets and chances of all tasks so far anew, from the rows of all of them."""
        state, task, layouts = self.state, experience.task_id, self._growth.library.layouts
        group, part = group_of(self.target_of, task), self._parted(experience, self._ranks_apart)
        keep_rows(state, group_name("data", group), part.train, task)
        if self._ranks_apart:
            keep_rows(state, group_name("ranked", group), part.validation, task)
        met = 1 + max(int(state[name]["t"].max()) for name in groups_in(state, "data").values())
        if met <= self.wait:
            return
        rows = self._kept("data", met)
        allowed = assignment.allowed_jointly(self._uses, met, self.sets or met).to(self.net.device)
        drawn = [self._initial, *(self._growth.fresh(-k) for k in range(1, allowed.shape[2]))]
        counts = [int(allowed[:, depth].amax(dim=0).nonzero().max()) + 1 for depth in range(len(layouts))]
        sets = [
            torch.stack([layout.row(one) for one in drawn[:count]], dim=1)
            for layout, count in zip(layouts, counts, strict=True)
        ]
        ranked = self._kept("ranked", met) if self._ranks_apart else rows
        allowed = allowed.expand(len(self.seeds), -1, -1, -1)
        fitted = yield from self._fitted(experience, sets, [], allowed, rows, ranked, list(range(met)))
        chances = fitted["choice"]["chances"]
        chosen = chances.argmax(dim=-1)
        self._growth.library.hold(state, [fitted["sets"][f"{depth}"] for depth in range(len(layouts))], chosen)
        for place in range(met):
            self._norms.put(state, place, {name: tensor[:, place] for name, tensor in fitted.get("norms", {}).items()})
            yield from self._nets.told(experience.step, place, chosen[:, place], chances[:, place])

    def _added(self, experience: Experience) -> Learning:
        """Learn a task beside those before: which of their sets it uses, and a new one where it uses none."""
        growth, state, task = self._growth, self.state, experience.task_id
        layouts, fresh = growth.library.layouts, growth.fresh(experience.key)
        past = [state["modules"][f"{depth}"].rows for depth in range(growth.depths)]
        longest = [rows.shape[1] for rows in past]
        allowed = assignment.allowed_next(self._uses, state["held"], longest, self.sets)
        apart = self._ranks_apart and bool((allowed.sum(dim=-1) > 1).any())
        part = self._parted(experience, apart)
        sets = [layout.row(fresh).unsqueeze(1) for layout in layouts]
        ranked = part.validation if apart else part.train
        fitted = yield from self._fitted(part, sets, past, allowed.unsqueeze(1), [part.train], [ranked], [task])
        chances = fitted["choice"]["chances"][:, 0]
        path, params = chances.argmax(dim=-1), dict[str, Tensor]()
        for depth, layout in enumerate(layouts):
            every = torch.cat([past[depth], fitted["sets"][f"{depth}"]], dim=1)
            params |= layout.named(every[torch.arange(len(path), device=path.device), path[:, depth]])
        norms = {name: tensor[:, 0] for name, tensor in fitted.get("norms", {}).items()}
        self._norms.put(state, task, norms)
        judged = part if len(part.validation) else replace(part, validation=part.train)
        accuracy = growth.accuracy({**self._initial, **params, **norms}, judged)
        new = path == torch.tensor(longest, device=path.device)
        yield from growth.keep(state, experience, params, path, new, source=None, validation=accuracy)
        yield from self._nets.told(experience.step, task, state["paths"][task], chances)

    # Rows, and how sets are used.

    @property
    def _ranks_apart(self) -> bool:
        """Whether assignments are ranked by rows that are not trained on."""
        return self.sharing == "learned" and self.sets != 1 and self.held_out > 0

    def _parted(self, experience: Experience, wanted: bool) -> Experience:
        """Return the experience with some of its training rows to rank by, where that is ``wanted``."""
        return none_lost(experience, self.held_out, "strategy.held_out") if wanted else experience

    def _kept(self, part: str, met: int) -> list[Data]:
        """Return the rows that are kept of each task met."""
        found = []
        for task in range(met):
            data = self.state[group_name(part, group_of(self.target_of, task))]
            own = data["t"][0] == task
            found.append(Data(data["x"][0, own], data["y"][0, own]))
        return found

    @property
    def _uses(self) -> list[assignment.Use]:
        """How tasks use the sets of each layer."""
        layers = self._growth.depths - 1
        lower = (max(1, layers // 2) if self.sharing == "lower" else 0) if self.lower is None else self.lower
        upper: assignment.Use = {"learned": "learned", "full": "shared"}.get(self.sharing, "own")  # type: ignore[assignment]
        head: assignment.Use = "own" if self.heads == "own" else upper
        return [*("shared" if depth < lower else upper for depth in range(layers)), head]

    # The fit of both forms: tasks beside each other.

    def _fitted(
        self,
        experience: Experience,
        sets: Sequence[Tensor],
        past: Sequence[Tensor],
        allowed: Tensor,
        rows: Sequence[Data],
        ranked: Sequence[Data],
        tasks: Sequence[int],
    ) -> Generator[Event, None, Tree]:
        """Fit sets ``[S, K, size]`` of each layer, beside frozen ones of the ``past``, and chances of the ``allowed`` sets."""
        count, steps = len(tasks), self.train.batches(max(map(len, rows))) * self.train.epochs
        norms = self._norms.trained({"norms": []}, 0, self._initial)
        params: Tree = {
            "sets": {f"{depth}": own for depth, own in enumerate(sets)},
            "choice": {"chances": assignment.even(allowed), "allowed": allowed},
            "norms": {name: torch.stack([tensor] * count, dim=1) for name, tensor in norms.items()},
        }
        common = {name: self._initial[name] for name in self._growth.library.shared if name not in norms}
        frozen: Tree = {"common": common, "past": {f"{depth}": own for depth, own in enumerate(past)}}
        options: FitOptions = {
            "frozen": frozen,
            "rows": rows_beside(rows),
            "logits": partial(self._nets.of_place, tasks.index(experience.task_id)),
        }
        if bool((allowed.sum(dim=-1) > 1).any()):
            size = min(steps, DRAWS), 2, self.samples, *allowed.shape[1:3]
            numbers = [torch.rand(size, generator=rng.tensors(s, "assignments", experience.key)) for s in self.seeds]
            frozen["numbers"] = torch.stack(numbers).to(self.net.device)
            own = {"lr": self.eta, "weight_decay": 0.0, "schedule": "constant", "schedule_by": None, "warmup": 0.0}
            options |= {
                "rehearsal": tuple(part.expand(len(self.seeds), *part.shape) for part in rows_beside(ranked)),
                "overrides": {"choice": self.train.by("sgd", **own, milestones=[])},
                "loss_inputs": self._progress,
                "project": lambda tree: assignment.bring_back(tree["choice"]["chances"], tree["choice"]["allowed"]),
            }
        return (
            yield from sampled_fit(
                self,
                self.practice,
                params,
                partial(
                    self._nets.loss, [self.target_of(task) for task in tasks], self.train.batch, self.rank == "task"
                ),
                experience,
                tasks=torch.tensor(tasks, device=self.net.device),
                answers=self._nets.of_rows,
                references=self._references,
                **options,
            )
        )

    def _progress(self, epoch: int, batch: int, batches: int) -> Sequence[float]:
        """Return the number of a step, and whether chances move in it."""
        return epoch * batches + batch, float((epoch + batch / batches) / self.train.epochs >= self.warm_up)
