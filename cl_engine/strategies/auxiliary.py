"""Auxiliary tasks: a main task, and side tasks beside it that count as far as their gradients agree with its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.label_function import LabelFunction
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError, unknown
from cl_engine.modules.side_tasks import MAIN, SideTask, WeighedLoss, computed
from cl_engine.modules.weighing import RULES, rule_named
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.target import Target
from cl_engine.options import named_with_options, option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import FitOptions
from cl_engine.training.optimizers import Train


class Auxiliary(Strategy):
    """Auxiliary tasks: each experience is learned beside side tasks from a menu, which are weighed by their gradients.

    The menu names label functions that need no person (``rotation``, ``denoise`` …), asked about the experience's own rows and
    about all rows that came without labels before (``stream.unlabelled``: such an experience is kept, and nothing else); and
    tasks of the stream, whose rows are kept from when they arrive. Both are counted as memory. Tasks that ``main`` leaves
    out are not learned themselves. Where none of the menu is at hand, this is ``finetune``.

    A batch has of every side task as many rows as of the main one, drawn with replacement. A rule weighs what reaches the
    shared weights (Du et al. 2018; any weighting of torchjd). All but ``fixed`` have each gradient computed twice.

    Side tasks never touch running statistics of a net (BatchNorm): their batches have statistics of their own.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "auxiliary", **{"menu": ["rotation"], "rule": "cosine"})
    >>> experiment.resolved["strategy"]["menu"]
    ['rotation']
    """

    shared = SharedNet()
    needs_labels = False
    partly_labelled = True
    rowwise = True

    menu: list[str] = option(
        [], "side tasks: label functions of `list labels` that need no person, and tasks of the stream, by name"
    )
    main: list[str] = option(
        [], "tasks of the stream that are learned, others serve as side tasks alone; left out: all are learned"
    )
    rule: str = option(
        "gate",
        "weights of side tasks: 1 (fixed), max(0, cosine) (cosine), 1 where the cosine is not below 0 (gate); a weighting of "
        "torchjd, as UPGrad; or none: the main task alone, its epochs times one and the number of side tasks, as a control",
    )
    smooth: float = option(
        0.9, "share of the cosines so far that stays at each batch; 0: each batch decides for itself", ge=0, lt=1
    )
    weight: float | list[float] = option(1.0, "factor of the weights of all side tasks, or of each")
    main_head: list[str] = option([], "side tasks that the main task's own head answers; others have a head each")
    tag_every: int = option(
        0,
        "batches between two look-aheads: what a step of train.lr for each task does to each task's loss; 0: none",
        ge=0,
    )
    keep_heads: bool = option(False, "keep the heads of side tasks for the next experience")
    _tasks: Mapping[str, int] | None = None  # those of the menu that are tasks of the stream
    _main: Sequence[int] | None = None  # those that are learned; None: all

    def start(self) -> State:
        return self.shared.start()

    def check_stream(self, stream: Stream) -> None:
        if not self.menu and self.rule != "none":
            raise UsageError(
                f"strategy.menu names no side task, and strategy.rule = '{self.rule}' weighs some: name some, as "
                '--set menu=\'["rotation", "flip"]\' does (run.py list labels), or let the rule be none'
            )
        rule_named("gate" if self.rule == "none" else self.rule)
        tasks = {stream.name_of(task): task for task in reversed(range(stream.n_tasks or 0))}
        for name in self.main:
            if name not in tasks:
                raise UsageError(f"strategy.main: {unknown('task', name, tasks)}")
        self._main = [tasks[name] for name in self.main] or None
        named = self._named(tasks)
        self._tasks = {name: task for name, task in named.items() if task is not None}
        for name in self.main_head:
            if name not in self.menu:
                raise UsageError(f"strategy.main_head: {unknown('side task', name, self.menu)}")
        if len(self._weights) != len(self.menu):
            raise UsageError(
                f"strategy.weight: found {len(self._weights)} numbers for {len(self.menu)} side tasks; one each is needed"
            )
        if min(self._weights, default=0) < 0:
            raise UsageError(f"strategy.weight: found {min(self._weights)}; numbers from 0 on are allowed")
        if (stream.unlabelled or stream.unlabelled_share) and len(self._tasks) == len(named):
            raise UsageError(
                f"stream.unlabelled: found {stream.unlabelled or 'a share of every task'}, and no side task of strategy.menu "
                "does without labels"
            )
        few = torch.zeros(2, *stream.input_shape, dtype=stream[0].train.x.dtype)
        for name in self.menu:
            task = named[name]
            try:
                target = self._computed(name, few, 0).target if task is None else stream.target(task)
            except UsageError as error:
                raise UsageError(f"strategy.menu: {error}") from None
            self._check(name, target)

    def learn(self, experience: Experience) -> Learning:
        task = experience.task_id
        unlabelled = experience.unlabelled if experience.labelled else experience.train
        if unlabelled is not None:
            self._keep_inputs(unlabelled.x)
        if experience.labelled and (self._main is None or task in self._main):
            yield from self._learn(experience)
        else:
            self.shared.keep(task, self.shared.params(task))
        if experience.labelled and task in (self._tasks or {}).values():
            rows = {"x": experience.train.x, "y": experience.train.y}
            self.state.setdefault("kept", {})[str(task)] = {name: part.unsqueeze(0) for name, part in rows.items()}

    def _learn(self, experience: Experience) -> Learning:
        sides, params = self._sides(experience), {"net": self.shared.params(experience.task_id)}
        if self.rule == "none" or not sides:
            trained = yield from self.fit(params, self.loss, experience, train=self._longer(1 + len(sides)))
        else:
            how: Any = {"smooth": self.smooth, "every": self.tag_every, "rate": self.train.lr}
            weighed = WeighedLoss(self.net, self.target, sides, self.rule, **how)
            heads = self.state.get("side_heads", {})
            options: FitOptions = {
                "beside": weighed.beside(len(self.seeds), self.train.batch),
                "loss_inputs": weighed.numbers,
                **({} if self.rule in RULES else {"side_by_side": False}),  # torchjd's run one seed at a time
            }
            start = weighed.start(params["net"], heads, self.seeds, experience.key, self.train.epochs)
            trained = yield from self.fit(start, weighed, experience, **options)
            yield from weighed.told(trained, experience, self.train.batches(len(experience.train)))
            if self.keep_heads:
                self.state["side_heads"] = {**heads, **trained.get("side_heads", {})}
        self.shared.keep(experience.task_id, trained["net"])

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self.net.one(params["net"], x)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params_midway(params["net"], task_id), x)

    def _longer(self, times: int) -> Train:
        """Return the training of so many times the epochs."""
        train = self.train
        milestones = [times * milestone for milestone in train.milestones]
        return train.model_copy(update={"epochs": times * train.epochs, "milestones": milestones})

    def _keep_inputs(self, x: Tensor) -> None:
        held = self.state.get("unlabelled")
        self.state["unlabelled"] = {"x": x.unsqueeze(0) if held is None else torch.cat([held["x"], x[None]], dim=1)}

    def _sides(self, experience: Experience) -> list[SideTask]:
        """Return the side tasks of the menu that are at hand for an experience."""
        if self._tasks is None and self.menu:
            raise UsageError(
                "strategy.menu: side tasks are called by names, and nothing here says what they are called"
            )
        found: list[SideTask] = []
        kept, unlabelled = self.state.get("kept", {}), self.state.get("unlabelled")
        for place, name in enumerate(self.menu):
            how: dict[str, Any] = {
                "through_main": name in self.main_head,
                "weight": self._weights[place],
                "place": place,
            }
            task = (self._tasks or {}).get(name)
            if task is None:
                x = experience.train.x
                x = x if unlabelled is None else torch.cat([x, unlabelled["x"][0]])
                found.append(replace(self._computed(name, x, experience.key), **how))
            elif task != experience.task_id and str(task) in kept:
                rows = kept[str(task)]
                found.append(SideTask(name, self.target_of(task), rows["x"][0], rows["y"][0], **how))
        return found

    @property
    def _weights(self) -> list[float]:
        return self.weight if isinstance(self.weight, list) else [self.weight] * len(self.menu)

    def _kind(self, name: str) -> type[LabelFunction]:
        """Return the label function that the menu names."""
        assert self.registry is not None
        found: type[LabelFunction] = self.registry.plugin("labels", named_with_options(name, "strategy.menu")[0])
        return found

    def _computed(self, name: str, x: Tensor, key: int) -> SideTask:
        assert self.registry is not None
        return computed(name, self.registry, x, key)

    def _check(self, name: str, target: Target) -> None:
        """Refuse a side task that the net cannot answer."""
        if name in self.main_head and target.outputs > self.net.outputs:
            raise UsageError(
                f"strategy.main_head: '{name}' asks for {target.outputs} outputs, and the main head has {self.net.outputs}"
            )
        if target.places and not self.net.places and (name in self.main_head or not target.measured_at_places):
            raise UsageError(
                f"strategy.menu: '{name}' is answered at places, and the net once a row: use unet, deeplab, or a net that ends "
                "in a 1×1 convolution"
            )

    def _named(self, tasks: Mapping[str, int]) -> dict[str, int | None]:
        """Return the menu: tasks of the stream by number, None for label functions.

        Raises:
            UsageError: for what is neither, or asks for labels that a person gives.
        """
        found: dict[str, int | None] = {name: tasks.get(name) for name in self.menu}
        if len(found) < len(self.menu) or MAIN in found:
            raise UsageError(f"strategy.menu: found {self.menu}; name each side task once, and none '{MAIN}'")
        for name in (name for name, task in found.items() if task is None):
            try:
                free = self._kind(name).free
            except UsageError as error:
                raise UsageError(f"strategy.menu: {error}; and no task of a stream with an end is called so") from None
            if not free:
                raise UsageError(
                    f"strategy.menu: '{name}' takes labels that a person gives, and no task of the stream is called so"
                )
        return found
