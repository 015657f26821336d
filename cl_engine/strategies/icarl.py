"""iCaRL: exemplars chosen by herding, distillation, and the nearest mean of exemplars as the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.rows import Data
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.modules.class_statistics import Normalised
from cl_engine.nn.head import take_off
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.target import Target
from cl_engine.nn.task_heads import head_of
from cl_engine.nn.task_module import TaskModule, module_of
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import other_than_classes
from cl_engine.training.distillation import ABSENT, binary_distances, outputs_of_heads
from cl_engine.training.row_memory import MemorySize, RowsKept, rows_together


class Icarl(Strategy):
    """iCaRL: rows are of the class whose exemplars are nearest in the mean, in a net held to its answers (Rebuffi et al. 2017).

    The net learns rows and exemplars together, each output by itself: those of classes of this experience from labels, those
    of classes met before by what the net before answered (algorithm 3). Exemplars are those whose mean comes nearest to that of
    their class, in equal shares a class (4 and 5); features are brought to length 1, and so are the means of exemplars that
    answers are told by (1). Mirror images are not averaged in. While an experience is learned, its outputs answer. Classes that
    come again learn from labels again. Where the task is told, each has outputs of its own, and answers are among its classes.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("split_digits_class", "icarl", samples=100).resolved["strategy"]["samples"]
    100
    """

    shared = SharedNet()
    rowwise = True

    size: MemorySize

    def start(self) -> State:
        found = self.shared.start()
        tasks = 0 if "heads" in found else 1
        shape = (len(self.seeds), tasks, self.net.outputs, self.net.width)
        return {**found, **RowsKept.start(), "means": torch.zeros(shape, device=self.net.device)}

    @property
    def growing(self) -> bool:
        return self.setting == "task"  # then the heads of all tasks are fitted

    def check_targets(self, targets: Sequence[Target]) -> None:
        odd = other_than_classes(targets)
        if odd is not None:
            raise UsageError(f"icarl keeps exemplars of classes, and a task asks for {odd.name()}: use replay")

    def check_stream(self, stream: Stream) -> None:
        if self.train.label_smoothing:
            raise UsageError(
                "train.label_smoothing: icarl learns each output by itself, and has no labels to be spread: leave it out"
            )

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        return [own + min(self.size.samples, sum(rows[:place])) for place, own in enumerate(rows)]

    def learn(self, experience: Experience) -> Learning:
        y, task = experience.train.y, experience.task_id
        heads = self.state.get("heads")
        count = 1 if heads is None else max(len(heads), task + 1)
        tasks = torch.arange(count, device=y.device)
        params = self.shared.of_tasks(tasks)
        place = 0 if heads is None else task
        data, teacher = self._with_exemplars(experience.train, place, count, params)
        trained = yield from self.fit(
            params,
            self._loss,
            replace(experience, train=data),
            frozen=teacher,
            logits=self.shared.logits_at(place),
        )
        self.shared.keep_tasks(tasks, trained)
        kept = RowsKept(self, self.size, "herding")
        new = {"x": experience.train.x, "y": y, "t": torch.full_like(y, task)}
        kept.take_in(experience.step, 0, [new for _ in self.seeds])
        self.state["means"] = self._means(count)
        yield kept.updated(experience.step, task, 0)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        means: Tensor = self.state["means"]
        place = 0 if "heads" not in self.state or task_id is None else task_id
        if place >= means.shape[1]:  # a task not yet met
            return means.new_zeros(len(self.seeds), len(x), self.net.outputs)
        features, own = self._features(self.state["net"], x), means[:, place]
        there = own.square().sum(dim=2, keepdim=True).transpose(1, 2) > 0
        near = 2 * features @ own.transpose(1, 2) - 1  # 1 − ‖φ − μ‖², both of length 1
        return torch.where(there, near, ABSENT) if bool(there.any()) else torch.zeros_like(near)

    def module(self, task_id: int | None, place: int = 0) -> TaskModule:
        means: Tensor = self.state["means"]
        own = 0 if "heads" not in self.state or task_id is None else task_id
        if self.net.draws or self.net.places or own >= means.shape[1]:
            return module_of(self, task_id, place)
        body = self.net.module(0, {name: leaf[place] for name, leaf in self.state["net"].items()})
        take_off(body, self.net.head)
        readout = nn.utils.skip_init(
            nn.Linear, self.net.width, self.net.outputs, device=self.net.device
        )  # it would draw
        there = means[place, own].square().sum(dim=1) > 0
        with torch.no_grad():
            readout.weight.copy_(2 * means[place, own])
            readout.bias.copy_(
                torch.where(there, -1.0, ABSENT) if bool(there.any()) else torch.zeros_like(readout.bias)
            )
        return TaskModule(self.net, nn.Sequential(body, Normalised(), readout))

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        heads = params.get("heads")
        own = {} if heads is None or task_id is None else head_of(heads[:, task_id])
        return self.net.all({**params["net"], **own}, x)

    def _loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        outputs = outputs_of_heads(self.net, params, x).flatten(1)
        wanted = F.one_hot(y, outputs.shape[1]).to(outputs.dtype)
        if frozen is not None:
            before = outputs_of_heads(self.net, frozen, x, training=False).flatten(1).detach().sigmoid()
            wanted = torch.where(frozen["old"] > 0, before, wanted)
        return binary_distances(outputs, wanted)

    def _with_exemplars(self, rows: Data, place: int, count: int, params: Tree) -> tuple[Data, Tree | None]:
        """Return the rows to learn, labels numbered through all heads, and the net before with the outputs that it is asked."""
        outputs, memory, labels = self.net.outputs, self.state["memory"], rows.y + self.net.outputs * place
        if "x" not in memory:
            return replace(rows, y=labels), None
        held = memory["y"] + outputs * memory["t"] if "heads" in self.state else memory["y"]
        old = torch.zeros(len(self.seeds), count * outputs, device=self.net.device)
        old.scatter_(1, held, 1)
        old[:, labels.unique()] = 0
        return rows_together(memory, held, rows.x, labels), {**params, "old": old}

    def _means(self, count: int) -> Tensor:
        """Return the mean features of the exemplars of each class ``[S, T, O, width]``, of length 1; 0 where there are none."""
        memory, outputs = self.state["memory"], self.net.outputs
        labels = memory["y"] + (outputs * memory["t"] if "heads" in self.state else 0)
        found = []
        for place, own in enumerate(labels):
            net = {name: leaf[place : place + 1] for name, leaf in self.state["net"].items()}
            features = self._features(net, memory["x"][place])[0]
            sums = features.new_zeros(count * outputs, self.net.width).index_add_(0, own, features)
            found.append(F.normalize(sums, dim=1).reshape(count, outputs, -1))
        return torch.stack(found)

    def _features(self, net: Tree, x: Tensor) -> Tensor:
        """Return features ``[S, N, width]`` of length 1; of a net whose head is read at places the means over them."""
        found = self.net.all_features(dict(net), x)
        return F.normalize(found.flatten(3).mean(dim=3) if found.ndim > 3 else found, dim=2)
