"""Any benchmark of Avalanche as a stream of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.augmentation import Augmentation
from cl_engine.data.digest import Digest, checksum
from cl_engine.data.source import Sources
from cl_engine.data.source_stream import ordered
from cl_engine.data.stream import Data, Experience, Setting, Stream
from cl_engine.errors import UsageError, unknown
from cl_engine.interop import benchmark_checks as checks
from cl_engine.interop import benchmarks
from cl_engine.interop.benchmarks import Part
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.online_stream import TEST, Arrivals, arrivals_of, stream_of
from cl_engine.interop.open_options import opened
from cl_engine.interop.random_transforms import as_augmentation, shown_alike
from cl_engine.interop.rows import Group, by_class, inputs_of, is_random, of_each_class
from cl_engine.options import checked, option


class Avalanche(Stream):
    """Avalanche: any benchmark of the library Avalanche, or of your own in its words, as a stream of tensors.

    What the benchmark itself takes stands beside these options: ``benchmark = "SplitMNIST"``, ``n_experiences = 5``.
    An experience is read when it comes. Transformations that always show a row alike are applied then, once.

    >>> from cl_engine.interop.avalanche import to_avalanche
    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> benchmark = to_avalanche(Experiment.of(small.scenario(), "finetune").stream())
    >>> Avalanche(benchmark).n_tasks
    3
    """

    setting: Setting | None = option(  # type: ignore[assignment]
        None, "what is told at test time: task, domain or class; left out: what the benchmark's labels say"
    )
    benchmark: str = option(..., "a name in avalanche.benchmarks.classic, or module:function that returns a benchmark")
    samples_per_class: int | None = option(None, "training rows of a class in an experience; left out: all", ge=1)
    test_samples_per_class: int | None = option(None, "test rows of a class in a task; left out: all", ge=1)
    validation: float = option(0.0, "share of the training rows of each class set aside for choices", ge=0, lt=1)
    random_transforms: Literal["keep", "eval", "once"] = option(
        "keep",
        "training transformations that are random: draw anew in every epoch (keep), show training rows as test rows are "
        "shown (eval), or draw once and keep that in every epoch (once)",
    )
    revisit: int | list[int] = option(
        0, "how often all tasks come back, in order, or a list of the tasks that come back"
    )
    task_order: int | list[int] = option(
        0, "0: the benchmark's order of tasks; k > 0: the k-th seeded shuffle; a list of all tasks: that order"
    )
    seed: int = option(0, "seed of the stream's own choices and of the benchmark's, where it takes one", ge=0)

    def __init__(
        self,
        given: Any = None,
        device: torch.device | str = "cpu",
        *,
        data_root: Path | None = None,
        **options: Any,
    ) -> None:
        """Build the stream over a benchmark: the one ``given``, or that of the options, its data under ``data_root``.

        Raises:
            UsageError: for options that neither the stream nor the benchmark has, data that are not there, or a
                benchmark that leaves open what its tasks are.
        """
        self.arguments: dict[str, Any] = {}
        self.configure(options if given is None else {"benchmark": type(given).__name__, **options}, "stream")
        self.device = torch.device(device)
        if given is not None and self.arguments:
            raise unknown("option", f"stream.{next(iter(self.arguments))}", [f"stream.{k}" for k in self._own()])
        found = given
        if given is None:
            found = benchmarks.made(self.benchmark, self.arguments, data_root or Path(), self.seed, self.n, self._own())
        with quietly():
            tests = benchmarks.parts_of(stream_of(found, TEST, self.benchmark))
            self._lay_out(arrivals_of(found, tests, self.benchmark), tests)

    @classmethod
    def build(cls, options: Mapping[str, Any], sources: Sources, device: torch.device | str) -> Self:
        """Build the stream over the benchmark that the options name, its data under the root of the sources."""
        return cls(device=device, data_root=sources.root, **options)

    @classmethod
    def _own(cls) -> list[str]:
        return list(cls.Options.model_fields)

    def configure(self, options: Mapping[str, Any], where: str = "") -> None:
        """Check and set the stream's options; what is left over becomes ``arguments`` of the benchmark."""
        found = checked(self.Options, options, where)
        self.arguments = dict(found.model_extra or {})
        for name in self._own():
            setattr(self, name, getattr(found, name))

    def _lay_out(self, arrivals: Arrivals, tests: list[Part]) -> None:
        """Find out what the tasks are, what they are called, in what order they come and what they are tested on."""
        self.parts, wholes = arrivals.parts, arrivals.wholes
        checks.refuse_missing_rows(self.parts, tests, self.benchmark)
        self.setting = self.setting or benchmarks.recognised(wholes)
        self._of_whole = of_whole = benchmarks.tasks_of(wholes)
        kinds = [of_whole[k] for k in arrivals.whole_of]
        if self.setting == "task" and (arrivals.mixed or any(len(part.tasks) > 1 for part in self.parts)):
            raise UsageError("stream.setting: experiences mix rows of several task labels; use 'class' or 'domain'")
        self.tests = benchmarks.tests_of(wholes, tests)
        count = max(of_whole) + 1 if self.n is None else min(self.n, max(of_whole) + 1)
        self.members = [[k for k, kind in enumerate(kinds) if kind == task] for task in range(count)]
        own = [[wholes[k] for k, kind in enumerate(of_whole) if kind == task] for task in range(count)]
        self.classes = [sorted(frozenset().union(*(part.classes for part in parts))) for parts in own]
        # the task of each task label, where labels are told and each says one
        labels = {min(parts[0].tasks): kind for kind, parts in enumerate(own)}
        self.label_kinds = labels if self.setting == "task" and len(labels) == count else {}
        order = ordered(self.task_order, count, self.seed)
        own_order = [k for k, kind in enumerate(kinds) if kind < count]
        self.sequence = own_order if order is None else [k for kind in order for k in self.members[kind]]
        self._first = len(self.sequence)
        self.sequence = [*self.sequence, *self._coming_back(self.sequence)]
        first: dict[int, int] = {}
        self._ids = [first.setdefault(kinds[k], len(first)) for k in self.sequence]
        self.kinds = [*first, *(kind for kind in range(count) if kind not in first)]
        self.n_tasks, self.n_steps = len(first), len(self.sequence)
        self._label(count)
        checks.refuse_untested(self.tests, self.classes, self.benchmark)
        if arrivals.mixed and any(own != self.labels[0] for own in self.labels):
            raise UsageError(
                "the online stream mixes rows of several tasks that have labels of their own: use stream.setting = 'class'"
            )
        self.input_shape = checks.shape_of([*self.parts, *wholes, *tests], self.benchmark)
        self.mean, self.std = (0.0,), (1.0,)  # inputs come as the benchmark's transformations leave them
        wanted = self.random_transforms == "keep" and shown_alike([part.dataset for part in self.parts])
        known = as_augmentation(self.parts[0].dataset) if wanted else None
        self.augmentation, self.pad_value = known or (Augmentation(), (0.0,))

    def _coming_back(self, steps: list[int]) -> list[int]:
        if isinstance(self.revisit, int):
            if self.revisit < 0:
                raise UsageError(f"stream.revisit: found {self.revisit}; allowed are 0, 1, 2, … or a list of tasks")
            return steps * self.revisit
        odd = [task for task in self.revisit if not 0 <= task < len(self.members)]
        if odd:
            raise UsageError(f"stream.revisit: there is no task {odd[0]}; tasks are 0 to {len(self.members) - 1}")
        return [k for task in self.revisit for k in self.members[task]]

    def _label(self, count: int) -> None:
        """Set which label each class of each task has here, and how many there are."""
        every = sorted(frozenset().union(*self.classes))
        if self.setting != "class":
            self.labels = [{c: k for k, c in enumerate(own)} for own in self.classes]
            self.outputs = max(map(len, self.classes))
        elif count > 1 and len({tuple(own) for own in self.classes}) == 1:  # the same names for other things
            self.labels = [{c: task * len(every) + k for k, c in enumerate(every)} for task in range(count)]
            self.outputs = count * len(every)
        else:
            self.labels = [{c: k for k, c in enumerate(every)}] * count
            self.outputs = len(every)

    def task_id(self, step: int) -> int:
        """Return the task that arrives at ``step``."""
        self.check_step(step)
        return self._ids[step]

    def __getitem__(self, step: int) -> Experience:
        task = self.task_id(step)
        index = self.sequence[step]
        found = self._experience(self.parts[index], index, step, self.kinds[task])
        plain = self.task_order == 0 or step >= self._first
        return replace(found, task_id=task, rng_key=step if plain else index)

    def handed(self, part: Part, index: int, step: int) -> Experience:
        """Return rows from outside as an experience, under the number of their task in the benchmark (`kind_of`)."""
        return self._experience(part, step, step, self.kind_of(part, index))

    def kind_of(self, part: Part, index: int) -> int:
        """Return which of the benchmark's tasks rows are of: that of experience ``index`` if that fits.

        Raises:
            UsageError: if they are of none.
        """
        own = self._of_whole[index] if index < len(self._of_whole) else None
        return benchmarks.kind_of(part, own, self.classes, self.label_kinds, self.labels)

    def _experience(self, part: Part, index: int, step: int, kind: int) -> Experience:
        train, validation = self._chosen(part.labels, np.arange(len(part.labels)), index)
        return Experience(
            step=step,
            task_id=kind,
            train=self._training(part, train, kind),
            validation=self._data(part, validation, kind, "eval"),
            classes=len(self.classes[kind]),
            rng_key=step,
        )

    def train_rows(self, step: int) -> int:
        """Return how many rows there are to learn from at ``step``."""
        labels = self.parts[index := self.sequence[step]].labels
        return len(self._chosen(labels, np.arange(len(labels)), index)[0])

    def test(self, task_id: int) -> Data:
        """Return the test rows of a task."""
        kind = self.kinds[task_id]
        pieces = []
        for number, (part, every) in enumerate(self.tests[kind]):
            mixed = rng.arrays(self.seed, "rows", "test", kind, number).permutation(every)
            limit = self.test_samples_per_class
            rows = every if limit is None else of_each_class(part.labels, mixed, limit)
            pieces.append(self._data(part, rows, kind, "eval"))
        return Data(torch.cat([piece.x for piece in pieces]), torch.cat([piece.y for piece in pieces]))

    def describe(self) -> dict[str, str | int]:
        """Return what a reader of the log should know: benchmark, versions, setting, what became of transformations."""
        told = {"benchmark": self.benchmark, "avalanche": version("avalanche-lib"), "setting": str(self.setting)}
        told |= {key: str(value) for key, value in self.arguments.items()}
        kept = f"keep: crop {self.augmentation.crop}, flip {self.augmentation.flip}"
        return {**told, "random transformations": kept if self.augmentation else self.random_transforms}

    def digests(self) -> dict[str, Digest]:
        """Return what tells the benchmark from others: all labels, and the inputs of the first row of each experience."""
        tests = [part for own in self.tests for part, _ in own]
        with quietly():
            rows = [inputs_of(part.dataset, [0], "eval").numpy() for part in (*self.parts, *tests) if len(part.labels)]
        told: Digest = {
            "training rows": sum(len(part.labels) for part in self.parts),
            "experiences": len(self.parts),
            "checksum": checksum([*(part.labels for part in (*self.parts, *tests)), *rows]),
        }
        return {f"benchmark '{self.benchmark}'": told}

    def name_of(self, task_id: int) -> str:
        """Return the task's classes where they tell it from others, else its number in the benchmark."""
        kind = self.kinds[task_id]
        if len({tuple(own) for own in self.classes}) == len(self.classes) > 1:
            return "classes " + ", ".join(map(str, self.classes[kind]))
        return f"experience {self.members[kind][0]}"

    def _training(self, part: Part, rows: np.ndarray, kind: int) -> Data:
        """Return rows to learn from, shown as test rows are where their random transformations come later."""
        with quietly():
            always_alike = self.random_transforms == "once" or not is_random(part.dataset, "train")
        if always_alike:
            return self._data(part, rows, kind, "train")
        shown = self._data(part, rows, kind, "eval")
        if self.augmentation or self.random_transforms == "eval":
            return shown
        return Data(shown.x, shown.y, partial(self._again, part, rows.tolist()))

    def _again(self, part: Part, rows: list[int], number: int) -> Tensor:
        with quietly():
            return inputs_of(part.dataset, rows, "train", number).to(self.device, torch.float32)

    def _chosen(self, labels: np.ndarray, rows: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return training and validation rows, in the benchmark's own order."""
        if self.samples_per_class is None and not self.validation:
            return rows, rows[:0]
        mixed = rng.arrays(self.seed, "rows", "train", index).permutation(rows)
        kept = of_each_class(labels, mixed, self.samples_per_class)
        aside = [own[: round(len(own) * self.validation)] for own in by_class(labels, mixed[np.isin(mixed, kept)])]
        validation = np.sort(np.concatenate(aside))
        return np.setdiff1d(kept, validation), validation

    def _data(self, part: Part, rows: np.ndarray, kind: int, group: Group) -> Data:
        draw = rng.derive(self.seed, "transformations", kind)
        with quietly():
            x: Tensor = inputs_of(part.dataset, rows.tolist(), group, draw).to(torch.float32)
        if len(rows):
            checks.refuse_another_shape(self.input_shape, tuple(x.shape[1:]), self.benchmark)
        y = torch.tensor([self.labels[kind][int(c)] for c in part.labels[rows]], dtype=torch.int64)
        return Data((x if len(rows) else x.new_empty(0, *self.input_shape)).to(self.device), y.to(self.device))


Avalanche.Options = opened(Avalanche.Options)  # what is left over is the benchmark's


def named(rest: str) -> type[Avalanche]:
    """Return the stream that the name ``avalanche`` stands for; a `UsageError` if more follows the name."""
    if rest:
        raise UsageError(f"stream.name: found 'avalanche:{rest}'; write name = 'avalanche' and benchmark = '{rest}'")
    return Avalanche


def from_avalanche(benchmark: Any, device: torch.device | str = "cpu", **options: Any) -> Avalanche:
    """Return an Avalanche benchmark as a stream; ``options`` are those of `Avalanche` (``samples_per_class=100``).

    Raises:
        UsageError: for an unknown option, or a benchmark that leaves open what its tasks are.
    """
    return Avalanche(benchmark, device, **options)
