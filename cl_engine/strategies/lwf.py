"""Learning without forgetting: new rows go on being answered as before, too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.target import Target
from cl_engine.nn.task_heads import head_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import other_than_classes
from cl_engine.training.distillation import distillation, outputs_of_heads

ARRIVING = "arriving"  # the part of a state that is there while more rows of a task are to come …
TEACHER = "teacher"  # … and that which then holds the net from before the task, if anything was learned before


class Lwf(Strategy):
    """LwF: on the rows of a new task, the net is held to what it answered before (Li & Hoiem 2016, eq. 1 to 3).

    To the loss is added λ times the cross-entropy of softened answers, of the net before and now: of the heads of all earlier
    tasks, which go on being trained, or, where the task is not told, among the classes met before. What the paper does first, to
    train a new head alone, is not done. A task whose rows arrive a few at a time is held to the net as it was before the first.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("permuted_digits", "lwf", strength=2.0).resolved["strategy"]["temperature"]
    2.0
    """

    shared = SharedNet()
    rowwise = True
    per_seed = True
    takes_arrivals = True

    strength: float = option(1.0, "λ: weight of the distance from earlier answers", ge=0)
    temperature: float = option(2.0, "T: what outputs are divided by before the softmax", gt=0)
    _tasks: tuple[int, ...] = ()  # whose heads are fitted …
    _place: int = 0  # … and the place among them of the one that is learned

    def start(self) -> State:
        found = self.shared.start()
        if "heads" in found:
            return found
        return {**found, "met": torch.zeros(len(self.seeds), self.net.outputs, device=self.net.device)}

    @property
    def growing(self) -> bool:
        return self.setting == "task"  # then the heads of all tasks are fitted

    def check_targets(self, targets: Sequence[Target]) -> None:
        odd = other_than_classes(targets)
        if odd is not None:
            raise UsageError(f"lwf compares chances of classes, and a task asks for {odd.name()}: use ewc, or replay")

    def learn(self, experience: Experience) -> Learning:
        heads = self.state.get("heads")
        count = 1 if heads is None else max(len(heads), experience.task_id + 1)
        self._tasks = tuple(range(count))
        self._place = 0 if heads is None else experience.task_id
        tasks = torch.arange(count, device=self.net.device)
        params = self.shared.of_tasks(tasks)
        teacher = self.state.get(TEACHER) if ARRIVING in self.state else self._teacher(params)
        trained = yield from self.fit(
            params,
            self._loss,
            experience,
            frozen=teacher if self.strength else None,
            logits=self.shared.logits_at(self._place),
        )
        self.shared.keep_tasks(tasks, trained)
        for part in (ARRIVING, TEACHER):
            self.state.pop(part, None)
        if experience.continues:
            self.state |= {ARRIVING: 1} if teacher is None else {ARRIVING: 1, TEACHER: teacher}
        if heads is None:
            self._meet(experience)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        if "heads" in params and task_id in self._tasks:
            return self.net.all({**params["net"], **head_of(params["heads"][:, task_id])}, x)
        return self.net.all(self.shared.params_midway(params["net"], task_id), x)

    def _loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        outputs = outputs_of_heads(self.net, params, x)
        own = self.target.loss(outputs[:, self._place], y)
        if frozen is None:
            return own
        before = outputs_of_heads(self.net, frozen, x, training=False).detach()
        return own + self.strength * distillation(outputs, before, frozen["known"], self.temperature)

    def _teacher(self, params: Tree) -> Tree | None:
        """Return the net as it is, and which of its outputs are held to; None before anything is learned."""
        if "heads" not in self.state:
            met = self.state["met"]
            return {**params, "known": met.unsqueeze(1).clone()} if bool(met.any()) else None
        learned = [task for task in range(len(self.state["heads"])) if task != self._place]
        known = torch.zeros(1, len(self._tasks), self.net.outputs, device=self.net.device)
        for task in learned:
            known[:, task, : self.target_of(task).outputs] = 1
        return {**params, "known": known} if learned else None

    def _meet(self, experience: Experience) -> None:
        met = self.state["met"].clone()
        for place, own in enumerate(met):
            own[experience.train.of(place)[1]] = 1
        self.state["met"] = met
