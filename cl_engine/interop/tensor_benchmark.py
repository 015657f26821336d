"""Streams of tensors as an Avalanche benchmark that its strategies train on and are tested on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_engine.data.stream import Data, Stream
from cl_engine.errors import UsageError
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.rows import dataset_of
from cl_engine.targets.classes import Classes

with quietly():
    from avalanche.benchmarks import CLScenario, DatasetExperience
    from avalanche.benchmarks.scenarios.generic_scenario import SequenceCLStream


class TensorExperience(DatasetExperience):  # type: ignore[misc]
    """An experience over tensors, with all attributes that Avalanche's strategies ask for.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> benchmark = to_avalanche(Experiment.of(small.scenario(), "finetune").stream())
    >>> benchmark.train_stream[1].classes_in_this_experience
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

    Attributes:
        task_label, task_labels: the task label, and the list of it.
        classes_in_this_experience: the classes there are rows of.
        classes_seen_so_far, previous_classes, future_classes: classes of the benchmark up to this one, before, after.
        benchmark: the benchmark it belongs to.
    """

    def __init__(
        self, dataset: Any, index: int, task_label: int, benchmark: Any, classes: Sequence[Sequence[int]]
    ) -> None:
        """Take a data set whose rows all have this task label; ``classes`` are those of each experience, in order."""
        super().__init__(dataset=dataset, current_experience=index)
        self.task_label, self.task_labels, self.benchmark = task_label, [task_label], benchmark
        before = {c for own in classes[:index] for c in own}
        self.classes_in_this_experience = sorted(classes[index])
        self.previous_classes = sorted(before)
        self.classes_seen_so_far = sorted(before | set(classes[index]))
        self.future_classes = sorted({c for own in classes[index + 1 :] for c in own})

    @property
    def dataset(self) -> Any:
        """Its rows; strategies may put others in their place, as in Avalanche's classic benchmarks."""
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: Any) -> None:
        self._dataset = dataset


class TensorStream(SequenceCLStream):  # type: ignore[misc]
    """Experiences made when they are asked for; can be indexed and sliced.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> len(to_avalanche(Experiment.of(small.scenario(), "finetune").stream()).train_stream)
    3
    """

    def __init__(self, name: str, benchmark: Any, length: int, make: Callable[[int], TensorExperience]) -> None:
        """Take how many experiences there are and what makes the k-th."""
        self._length, self._make = length, make
        super().__init__(name, benchmark)

    def _full_length(self) -> int:
        return self._length

    def _make_experience(self, experience_idx: int) -> TensorExperience:
        return self._make(experience_idx)


@dataclass(frozen=True)
class Rows:
    """One half of a benchmark: its rows by experience, and the task label and classes of each.

    >>> Rows(lambda index: Data(torch.zeros(2, 4), torch.tensor([0, 1])), [0], [[0, 1]]).task_labels
    [0]
    """

    of: Callable[[int], Data]
    task_labels: Sequence[int]
    classes: Sequence[Sequence[int]]
    shown: Callable[[Tensor], Tensor] | None = None


class TensorBenchmark(CLScenario):  # type: ignore[misc]
    """A benchmark over tensors.

    >>> half = Rows(lambda index: Data(torch.zeros(2, 4), torch.tensor([0, 1])), [0], [[0, 1]])
    >>> sorted(TensorBenchmark(half, half).streams)
    ['test', 'train']

    Attributes:
        n_experiences, n_classes: how many there are.
        n_classes_per_exp, classes_order: classes of each experience, and all of them in that order.
        task_labels: the task label of each experience.
    """

    def __init__(self, train: Rows, test: Rows | None = None) -> None:
        """Take what is trained on, and what is tested on."""
        self.n_experiences, self.task_labels = len(train.task_labels), list(train.task_labels)
        self.n_classes_per_exp = [len(own) for own in train.classes]
        self.classes_order = [c for own in train.classes for c in own]
        self.n_classes = len(set(self.classes_order))
        self.original_classes_in_exp = [set(own) for own in train.classes]
        halves = {"train": train} if test is None else {"train": train, "test": test}
        super().__init__(
            [
                TensorStream(name, self, len(rows.task_labels), partial(self._experience, rows))
                for name, rows in halves.items()
            ]
        )

    def _experience(self, rows: Rows, index: int) -> TensorExperience:
        data, label = rows.of(index), rows.task_labels[index]
        return TensorExperience(dataset_of(data.x, data.y, label, shown=rows.shown), index, label, self, rows.classes)


def to_avalanche(stream: Stream) -> TensorBenchmark:
    """Return a stream as an Avalanche benchmark, for its strategies to train on and to be tested on.

    Inputs are float32, scaled as `Net` would. The task label is the task's number where the task is told, else 0.
    Experiences are made when they are asked for. The test stream has one experience a task, numbered like the tasks,
    its rows in a drawn order.

    Raises:
        UsageError: for what is no stream, a stream without end, one that withholds labels, or of tasks that ask for something
            else than classes.
    """
    if not isinstance(stream, Stream):
        raise UsageError(
            f"to_avalanche: found a {type(stream).__name__}; a stream is allowed, as Experiment.stream() gives it"
        )
    odd = next((target for target in stream.targets if not isinstance(target, Classes)), None)
    if odd is not None:
        raise UsageError(
            f"an Avalanche benchmark is of classes alone, and a task of the stream asks for '{odd.name()}'"
        )
    if stream.n_steps is None or stream.n_tasks is None:
        raise stream.refuse_endless("an Avalanche benchmark has a last experience")
    if any(stream.withheld(task) for task in range(stream.n_tasks)):
        raise UsageError("stream.unlabelled: rows of an Avalanche benchmark have labels throughout: leave it out")
    told = stream.setting == "task"
    classes = [sorted(torch.unique(stream.test(task).y).tolist()) for task in range(stream.n_tasks)]
    arrivals = [stream.task_id(step) for step in range(stream.n_steps)]
    train = Rows(
        lambda step: scaled(stream[step].train, stream),
        [task if told else 0 for task in arrivals],
        [classes[task] for task in arrivals],
        stream.augmentation.one_by_one(torch.tensor(stream.pad_value)[:, None, None]),
    )
    labels = [task if told else 0 for task in range(stream.n_tasks)]
    tested = Rows(lambda task: scaled(stream.test(task).shuffled(stream.seed), stream), labels, classes)
    return TensorBenchmark(train, tested)


def scaled(data: Data, stream: Stream) -> Data:
    """Return rows with the inputs that a net of this stream sees: float32, uint8 ones scaled by mean and deviation."""
    x: Tensor = data.x
    if x.dtype != torch.float32:
        size = [-1, *[1] * (x.ndim - 2)]
        mean, std = (
            torch.tensor(v, dtype=torch.float32, device=x.device).reshape(size) for v in (stream.mean, stream.std)
        )
        x = (x.to(torch.float32) - mean) / std
    return Data(x, data.y)
