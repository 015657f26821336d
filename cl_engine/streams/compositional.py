"""Compositional: tasks put together from parts, each of which may come again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from cl_engine.core import rng
from cl_engine.data.augmentation import Augmentation
from cl_engine.data.images import to_shape
from cl_engine.data.rows_of_seeds import Half
from cl_engine.data.several_sources import SeveralSources
from cl_engine.data.source_stream import kept_rows
from cl_engine.data.stream import Composition, Data, Experience, Shape
from cl_engine.data.transformations import Transform, transformed
from cl_engine.data.view import rule_of
from cl_engine.errors import UsageError, unknown
from cl_engine.nn.target import Target
from cl_engine.options import option
from cl_engine.targets.classes import Classes

AHEAD = 100  # tasks whose parts are drawn before they come: each takes longer to draw than the one before
TRIES = 100  # draws of something new before what there is has to do


@dataclass(frozen=True)
class Parts:
    """The parts of a compositional task.

    >>> Parts(inputs=("turn",), source="digits", classes=(3, 1)).classes
    (3, 1)

    Attributes:
        inputs: transformations of its images, one after the other.
        source: where its images come from.
        classes: classes of the source, in the order of the labels.
        rule: the label function that asks about its images; None: their class is asked.
    """

    inputs: tuple[Transform, ...]
    source: str
    classes: tuple[int, ...]
    rule: str | None = None


class Compositional(SeveralSources):
    """Compositional: a task is a source of images, seen through transformations, under a rule of labels; without end.

    Each of the three parts is one that an earlier task had, with a chance that the scenario sets, or a new one as long
    as there are any. A learner that keeps parts apart and uses them again has less and less to learn. Transformations are
    quarter turn, mirror, negative, roll by half the height, swap of the halves, and one fixed permutation of pixels.
    A rule is a choice and an order of classes; or, where there are ``rules``, a label function that is asked about the images
    as they are before they are transformed. Tasks beyond those listed are then compositions that have not come before, as
    long as one is found.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.testing.streams import Given
    >>> stream = Compositional(Given(images()), sources=["digits"], classes=2)
    >>> stream.n_steps is None, stream.outputs
    (True, 2)
    """

    sources: list[str] = option(["digits"], "where images come from: names of `list sources`")
    shape: Shape | None = option(None, "channels, height and width of all inputs; left out: those of the first source")
    transforms: list[Transform] = option(
        ["turn", "mirror", "invert", "roll", "halve", "permute"], "transformations that inputs are put together from"
    )
    depth: int = option(2, "transformations one after the other, at most", ge=0, le=100)
    classes: int | None = option(
        None, "classes of a task, drawn from those of its source; left out: all, in order", ge=2
    )
    inputs: list[list[Transform]] = option([], "transformations of the first tasks, one list a task")
    labels: list[list[int]] = option(
        [], "classes of the first tasks in the order of their labels, one list a task", before=[]
    )
    rules: list[str] = option(
        [], "label functions that ask about images (names of `list labels`); none: their class is asked", before=[]
    )
    first_rules: list[str] = option([], "rules of the first tasks, one a task", before=[])
    reuse_input: float = option(0.5, "chance that a task's transformations have come before", ge=0, le=1)
    reuse_source: float = option(0.5, "chance that its source has come before", ge=0, le=1)
    reuse_labels: float = option(0.5, "chance that its rule of labels has come before", ge=0, le=1)
    samples_per_class: int | None = option(None, "training rows of a class in a task; left out: all", ge=1)
    scarce: int | None = option(
        None, "training rows of a class in tasks after those of `inputs`; left out: as many as in others", ge=1
    )
    test_samples_per_class: int | None = option(None, "test rows of a class in a task; left out: all", ge=1)
    validation: float = option(0.0, "share of the training rows of each class set aside for choices", ge=0, lt=1)
    seed: int = option(0, "seed of the stream's own choices; the learners' seeds do not change the stream", ge=0)

    @classmethod
    def sources_in(cls, options: Mapping[str, Any]) -> list[str]:
        return list(options["sources"])

    def prepare(self) -> None:
        if self.setting == "class":
            raise UsageError("stream.setting: tasks of a compositional stream share classes; use 'task' or 'domain'")
        if not self.sources:
            raise UsageError("stream.sources is empty: name at least one source")
        self._parts: list[Parts] = []
        first = self.images(self.sources[0])
        self.input_shape = tuple(self.shape or first.train_x.shape[1:])
        self.n_tasks = self.n_steps = self.n
        self.mean, self.std = self.scale_of(first, self.input_shape[0])
        known = [self.class_count(source) for source in self.sources]
        if self.classes is not None and self.classes > min(known):
            raise UsageError(f"stream.classes: found {self.classes}, and a source has {min(known)}")
        for labels in self.labels:
            if len(set(labels)) != len(labels) or len(labels) < 2 or not 0 <= min(labels) <= max(labels) < min(known):
                raise UsageError(
                    f"stream.labels: each must be two or more different classes, 0 to {min(known) - 1}, found {labels}"
                )
        drawn = [] if self.n is not None and self.n <= len(self.labels) else [self.classes or max(known)]
        self.outputs = max(*drawn, *map(len, self.labels), 0)
        self._views = {
            (source, rule): rule_of(rule, source, self.images(source), self._sources, self.input_shape, self.seed)
            for source in self.sources
            for rule in self.rules
        }
        self._check_rules()
        if self._views:
            self.outputs = max(target.outputs for _, target in self._views.values())
        height, width = self.input_shape[1:]
        if height != width and any("turn" in each for each in (self.transforms, *self.inputs)):
            raise UsageError(f"stream.transforms: 'turn' needs images as wide as high, found {height} × {width}")

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step

    def __getitem__(self, step: int) -> Experience:
        parts = self.parts(self.task_id(step))
        rows = self._rows(step, parts, test=False)
        cuts = [round(len(own) * self.validation) for own in rows]
        target = None if parts.rule is None else self.target(step)
        return Experience(
            step=step,
            task_id=step,
            train=self._data(parts, [own[cut:] for own, cut in zip(rows, cuts, strict=True)], test=False),
            validation=self._data(parts, [own[:cut] for own, cut in zip(rows, cuts, strict=True)], test=False),
            classes=len(parts.classes) if target is None else target.outputs if isinstance(target, Classes) else 0,
            target=target,
        )

    def train_rows(self, step: int) -> int | None:
        if step >= AHEAD:
            return None
        parts = self.parts(self.task_id(step))
        return kept_rows(self.class_rows(parts.source, parts.classes), self._limit(step), self.validation)

    def test(self, task_id: int) -> Data:
        parts = self.parts(task_id)
        return self._data(parts, self._rows(task_id, parts, test=True), test=True)

    def describe(self) -> dict[str, str | int]:
        return {"source": ", ".join(self.sources)}

    def name_of(self, task_id: int) -> str:
        parts = self.parts(task_id)
        asked = parts.rule or (", ".join(map(str, parts.classes)) if self.classes or self.labels else "")
        return " ".join([parts.source, *parts.inputs, *([asked] if asked else [])])

    @property
    def asks_classes(self) -> bool:
        return not self.rules

    def target(self, task_id: int) -> Target:
        parts = self.parts(task_id)
        return super().target(task_id) if parts.rule is None else self._views[parts.source, parts.rule][1]

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        return tuple({target.key: target for _, target in self._views.values()}.values()) or (super().target(0),)

    def composition(self, task_id: int) -> Composition:
        parts = self.parts(task_id)
        source = (parts.source,) if len(self.sources) > 1 else ()
        asked = parts.rule or ", ".join([*source, *map(str, parts.classes)])
        return Composition((*source, *(parts.inputs or ("plain",))), asked)

    def is_free(self, task_id: int) -> bool:
        parts = self.parts(task_id)
        return parts.rule is not None and self._views[parts.source, parts.rule][0].free

    def check_augmentation(self, augmentation: Augmentation) -> None:
        super().check_augmentation(augmentation)
        for view, _ in self._views.values():
            view.check_mirrored(augmentation)

    def parts(self, task_id: int) -> Parts:
        """Return what a task is put together from."""
        while len(self._parts) <= task_id:
            self._parts.append(self._drawn(len(self._parts)))
        return self._parts[task_id]

    def _drawn(self, task: int) -> Parts:
        """Return the parts of the next task; what they are depends on those of all tasks before it."""
        draw = rng.arrays(self.seed, "parts", task)
        for _ in range(TRIES if self.rules else 1):
            found = self._composed(task, draw)
            if found not in self._parts:
                break
        return found

    def _composed(self, task: int, draw: np.random.Generator) -> Parts:
        source = _again(
            draw, self.reuse_source, [p.source for p in self._parts], lambda: str(draw.choice(self.sources))
        )
        inputs = _again(draw, self.reuse_input, [p.inputs for p in self._parts], lambda: self._inputs(draw))
        if task < len(self.inputs):
            inputs = tuple(self.inputs[task])
        if self.rules:
            known = [p.rule for p in self._parts]
            rule = _again(draw, self.reuse_labels, known, lambda: str(draw.choice(self.rules)))
            if task < len(self.first_rules):
                rule = self.first_rules[task]
            return Parts(inputs, source, tuple(range(self.class_count(source))), rule)
        rules = [p.classes for p in self._parts if p.source == source]
        classes = _again(draw, self.reuse_labels, rules, lambda: self._rule(draw, source))
        if task < len(self.labels):
            classes = tuple(self.labels[task])
        return Parts(inputs, source, classes)

    def _inputs(self, draw: np.random.Generator) -> tuple[Transform, ...]:
        count = int(draw.integers(1, self.depth + 1)) if self.depth and self.transforms else 0
        return tuple(self.transforms[int(k)] for k in draw.integers(len(self.transforms), size=count))

    def _rule(self, draw: np.random.Generator, source: str) -> tuple[int, ...]:
        if self.classes is None:
            return tuple(range(self.class_count(source)))
        return tuple(int(label) for label in draw.permutation(self.class_count(source))[: self.classes])

    def _check_rules(self) -> None:
        if self.rules and (self.classes is not None or self.labels):
            raise UsageError(
                "stream.rules ask about all classes of a source: leave out stream.classes and stream.labels"
            )
        if len(self.rules) > 1 and self.setting != "task":
            raise UsageError("stream.setting: several rules ask different things: the task must be told, use 'task'")
        odd = next((rule for rule in self.first_rules if rule not in self.rules), None)
        if odd is not None:
            raise UsageError(f"stream.first_rules: {unknown('rule', odd, self.rules)}")

    def _rows(self, task: int, parts: Parts, *, test: bool) -> list[np.ndarray]:
        arrays, limit = self.images(parts.source), self.test_samples_per_class if test else self._limit(task)
        draw = rng.arrays(self.seed, "rows", "test" if test else "train", task)
        labels = arrays.test_y if test else arrays.train_y
        return [draw.permutation(np.flatnonzero(labels == label))[:limit] for label in parts.classes]

    def _limit(self, task: int) -> int | None:
        """Return how many training rows of a class the task has at most."""
        return self.scarce if self.scarce is not None and task >= len(self.inputs) else self.samples_per_class

    def _data(self, parts: Parts, rows: list[np.ndarray], *, test: bool) -> Data:
        arrays = self.images(parts.source)
        x = to_shape(
            torch.from_numpy((arrays.test_x if test else arrays.train_x)[np.concatenate(rows)]), self.input_shape
        )
        y = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(own) for own in rows]).astype(np.int64))
        if parts.rule is not None:
            half: Half = "test" if test else "train"
            x, y = self._views[parts.source, parts.rule][0].asked(half, np.concatenate(rows), x, y, self.seed)
        for transform in parts.inputs:
            x = transformed(x, transform, self.seed)
        return Data(x.to(self.device), y.to(self.device))


def _again(draw: np.random.Generator, chance: float, known: Sequence[Any], new: Callable[[], Any]) -> Any:
    """Return one of those known, with this chance, or a new one as long as one can be found."""
    if known and draw.random() < chance:
        return known[int(draw.integers(len(known)))]
    found = new()
    for _ in range(TRIES):
        if found not in known:
            break
        found = new()
    return found
