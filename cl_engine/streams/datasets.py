"""Datasets: unrelated sets of images, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from cl_engine.data.images import to_shape
from cl_engine.data.several_sources import SeveralSources
from cl_engine.data.source import Arrays
from cl_engine.data.source_stream import SourceStream, kept_rows, ordered
from cl_engine.data.stream import Data, Experience, Shape
from cl_engine.errors import UsageError
from cl_engine.options import STRICT, option, unsaid


class Part(BaseModel):
    """A task of the stream: a source, or some classes of it.

    >>> Part(source="digits", classes=[3, 1]).classes
    [3, 1]
    """

    model_config = STRICT
    source: str = option(..., "where the data come from: a name of `list sources`")
    classes: list[int] | None = option(None, "the classes of the task, in the order of its labels; left out: all")
    name: str | None = option(None, "what the task is called; left out: the source")
    samples_per_class: int | None = option(None, "training rows of a class; left out: the stream's", ge=1, before=None)
    seed: int | None = option(None, "seed that its rows are drawn by; left out: the stream's", ge=0, before=None)

    @model_serializer(mode="wrap")
    def _without_news(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is newer than experiments that are on disk, where it is as it was before: they stay the same."""
        found: dict[str, Any] = dump(self)
        known = unsaid(type(self), found)
        return {name: value for name, value in found.items() if name not in known}


class Datasets(SeveralSources):
    """Datasets: every task is a data set of its own, brought to one shape; as in Piggyback's and HAT's protocols.

    Every data set is read at the start, to know that it can be, and again when its task comes; two are kept in memory.

    >>> from cl_engine.runs.data_root import DataRoot
    >>> from pathlib import Path
    >>> stream = Datasets(DataRoot(Path("data")), sources=["digits", {"source": "digits", "classes": [3, 1]}])
    >>> [stream[step].classes for step in range(2)]
    [10, 2]
    """

    sources: list[str | Part] = option(
        ..., "the data sets, in order: names of `list sources`, or tables {source = …, classes = […]}"
    )
    shape: Shape | None = option(None, "channels, height and width of all inputs; left out: those of the first set")
    samples_per_class: int | None = option(None, "training rows of a class in a task; left out: all", ge=1)
    test_samples_per_class: int | None = option(None, "test rows of a class in a task; left out: all", ge=1)
    validation: float = option(0.0, "share of the training rows of each class set aside for choices", ge=0, lt=1)
    task_order: int | list[int] = option(
        0, "0: the order of the list; k > 0: the k-th seeded shuffle; a list of all tasks: that order"
    )
    seed: int = option(0, "seed of the stream's own choices; the learners' seeds do not change the stream", ge=0)

    kept = 2

    @classmethod
    def sources_in(cls, options: Mapping[str, Any]) -> list[str]:
        return [part if isinstance(part, str) else part["source"] for part in options["sources"]]

    def prepare(self) -> None:
        parts: list[Any] = list(self.sources)  # as checked and then dumped: strings and dicts
        self.parts = [Part(source=part) if isinstance(part, str) else Part(**part) for part in parts][: self.n]
        if not self.parts:
            raise UsageError("stream.sources is empty: name at least one source")
        self.n_tasks = self.n_steps = len(self.parts)
        self._kinds = ordered(self.task_order, self.n_tasks, self.seed)
        self._part = lru_cache(self.kept)(self._opened)
        first = self.images(self.parts[0].source)
        if self.shape is None:
            self.shape = list(first.train_x.shape[1:])
        self.input_shape = tuple(self.shape)
        self.mean, self.std = self.scale_of(first, self.input_shape[0])
        self._classes = [len(self._labels(part)) for part in self.parts]
        self.outputs = sum(self._classes) if self.setting == "class" else max(self._classes)

    def _labels(self, part: Part) -> list[int]:
        """Return the classes that a task is about."""
        every = self.class_count(part.source)
        chosen = list(range(every)) if part.classes is None else part.classes
        if not chosen or len(set(chosen)) != len(chosen) or not 0 <= min(chosen) <= max(chosen) < every:
            raise UsageError(
                f"stream.sources: classes of '{part.source}' must be different numbers from 0 to {every - 1}, found {chosen}"
            )
        return chosen

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step

    def kind_of(self, task_id: int) -> int:
        """Return the place in the list of the data set that arrives as the ``task_id``-th."""
        return task_id if self._kinds is None else self._kinds[task_id]

    def __getitem__(self, step: int) -> Experience:
        kind = self.kind_of(self.task_id(step))
        found = self._part(kind)[0]
        return dataclasses.replace(
            found,
            step=step,
            task_id=step,
            train=self._brought(found.train, kind),
            validation=self._brought(found.validation, kind),
            rng_key=kind,
        )

    def train_rows(self, step: int) -> int:
        part = self.parts[self.kind_of(self.task_id(step))]
        of_each = self.class_rows(part.source, self._labels(part))
        return kept_rows(of_each, part.samples_per_class or self.samples_per_class, self.validation)

    def test(self, task_id: int) -> Data:
        kind = self.kind_of(task_id)
        return self._brought(self._part(kind).test(0), kind)

    def describe(self) -> dict[str, str | int]:
        return {"source": ", ".join(part.source for part in self.parts)}

    def name_of(self, task_id: int) -> str:
        part = self.parts[self.kind_of(task_id)]
        classes = f" {', '.join(map(str, part.classes))}" if part.classes else ""
        return part.name or f"{part.source}{classes}"

    def _opened(self, kind: int) -> SourceStream:
        """Return the one task of a data set as a stream."""
        part = self.parts[kind]
        options: dict[str, Any] = {
            "samples_per_class": part.samples_per_class or self.samples_per_class,
            "validation": self.validation,
            "seed": self.seed if part.seed is None else part.seed,
        }
        options |= {"test_samples_per_class": self.test_samples_per_class, "source": part.source}
        return _OneTask(self.images(part.source), self.device, chosen=self._labels(part), **options)

    def _brought(self, data: Data, kind: int) -> Data:
        before = sum(self._classes[:kind]) if self.setting == "class" else 0
        return Data(to_shape(data.x, self.input_shape), data.y + before)


class _OneTask(SourceStream):
    """Some classes of a source as one task."""

    def __init__(self, arrays: Arrays, device: torch.device, chosen: list[int], **options: Any) -> None:
        self.chosen = tuple(chosen)
        super().__init__(arrays, device, n=1, **options)

    def classes_of(self, kind: int) -> tuple[int, ...]:
        return self.chosen
