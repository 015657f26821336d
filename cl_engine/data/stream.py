"""Streams: what arrives (`Experience`), in what order, and what it is tested on."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field

from cl_engine.data.augmentation import Augmentation
from cl_engine.data.composition import Composition, alone
from cl_engine.data.digest import Digest, digest
from cl_engine.data.rows import Data
from cl_engine.data.rows_of_seeds import divided
from cl_engine.data.source import Sources
from cl_engine.errors import UsageError
from cl_engine.nn.target import Target
from cl_engine.options import Configured, option
from cl_engine.targets.classes import class_of

__all__ = ["PAD_VALUE", "VOCABULARY", "Composition", "Data", "Experience", "Setting", "Shape", "Stream", "alone"]
Setting = Literal["task", "domain", "class"]
PAD_VALUE: tuple[float, ...] = (0.0,)
VOCABULARY: int | None = None
Shape = Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=3, max_length=3)]


@dataclass(frozen=True, slots=True, eq=False)
class Experience:
    """One arrival in the stream: the training data of a task, and nothing to be tested on.

    >>> rows = Data(torch.zeros(3, 4), torch.tensor([0, 0, 1]))
    >>> Experience(step=4, task_id=1, train=rows, validation=rows, classes=2).key
    4

    Attributes:
        step: index in the stream.
        task_id: the task these data belong to; ids are given in the order in which tasks first arrive: 0, 1, 2, …
        train: rows to learn from.
        validation: rows set aside for choices made while learning; empty if the scenario asks for none.
        classes: number of classes of this task; 0 where it does not ask for classes.
        target: what the task asks for; None: classes, as many as the stream has outputs.
        labelled: whether rows have labels; without, labels are −1 throughout.
        rng_key: number that the randomness of learning is derived from: the step this would be if tasks came in the
            stream's own order, so that what a task brings about does not depend on the order; None: the step.
        pieces: how many rows arrive at a time, in the order of ``train``; 0: all at once.
        unlabelled: further rows, whose labels are withheld though ``train`` has some; None: there are none.
        continues: whether the next experience brings more rows of what began here (`stream.stretch`).
    """

    step: int
    task_id: int
    train: Data
    validation: Data
    classes: int
    labelled: bool = True
    rng_key: int | None = None
    target: Target | None = None
    pieces: int = 0
    unlabelled: Data | None = None
    continues: bool = False

    @property
    def key(self) -> int:
        """What randomness is derived from: ``rng_key``, or the step."""
        return self.step if self.rng_key is None else self.rng_key


class Stream(Configured):
    """A sequence of experiences, lazy and pure in the step: the same step gives the same tensors, whenever asked for.

    A kind of stream sets ``n_tasks``, ``n_steps`` (None: without end), ``input_shape``, ``outputs``, ``mean`` and
    ``std``, and answers `task_id`, `__getitem__` and `test`. It keeps no experience alive that it has given out. One whose
    training images are to be shown at random sets ``augmentation``, and ``pad_value`` (a channel each) where they are float32;
    one whose inputs are int64 tokens sets ``vocabulary``, their number.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.streams.permuted import Permuted
    >>> stream = Permuted(images(), source="given", n=3)
    >>> stream.n_steps, stream[2].task_id, len(stream.test(0))
    (3, 2, 24)
    """

    setting: Setting = option("task", "what is told at test time: task, domain or class (incremental)")
    n: int | None = option(None, "number of tasks; left out: all there are, or without end", ge=1, le=10**6)
    unlabelled: list[int] = option([], "tasks whose training rows come without labels")
    unlabelled_share: float | None = option(
        None,
        "share of the rows that come without labels, of the tasks that unlabelled names, or of every task where it names none; "
        "left out: all rows of those named",
        gt=0,
        le=1,
        before=None,
    )

    n_tasks: int | None
    n_steps: int | None
    input_shape: tuple[int, ...]
    outputs: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    pad_value = PAD_VALUE  # without annotations, for what has one and a value is an option
    augmentation = Augmentation()
    vocabulary = VOCABULARY
    seed = 0  # likewise: of all that is drawn for the stream, as the order of test rows
    per_seed = False  # likewise: whether each learner has a sequence of tasks of its own
    pieces = 0  # likewise: rows that arrive at a time; 0: experiences come whole
    boundaries = True  # likewise: whether learners are told which task arrives
    ordered = False  # likewise: whether the order of an experience's rows is that in which they arrive
    held_out = True  # likewise: whether no row is tested that is learned

    @classmethod
    def build(cls, options: Mapping[str, Any], sources: Sources, device: torch.device | str) -> Self:
        """Build the stream from its options; a kind of stream that reads ``sources`` does so here.

        Raises:
            UsageError: for options that do not fit each other or the data.
        """
        make: Any = cls  # each kind of stream has arguments of its own
        built: Self = make(device=device, **options)
        return built

    @classmethod
    def sources_in(cls, options: Mapping[str, Any]) -> list[str]:
        """Return the names of the sources that these options name."""
        return []

    @abstractmethod
    def task_id(self, step: int) -> int:
        """Return the task that arrives at ``step``; a task met for the first time has the next unused id."""

    @abstractmethod
    def __getitem__(self, step: int) -> Experience:
        """Return the experience at ``step``; IndexError beyond the end."""

    def arrival(self, step: int) -> Experience:
        """Return the experience at ``step`` as a learner sees it: without the labels that are withheld."""
        found = self[step]
        share = self.withheld(found.task_id)
        if not share:
            return found
        parts = [
            [part.at(rows.to(part.y.device)) for rows in divided(len(part), share, self.seed, half, found.key)]
            for half, part in {"train": found.train, "validation": found.validation}.items()
        ]
        (train, unlabelled), (validation, _) = parts
        if not len(train):
            train, validation = (part.without_labels() for part in (found.train, found.validation))
            return dataclasses.replace(found, train=train, validation=validation, labelled=False)
        return dataclasses.replace(found, train=train, validation=validation, unlabelled=unlabelled.without_labels())

    def withheld(self, task_id: int) -> float:
        """Return the share of a task's rows that come without labels."""
        named = task_id in self.unlabelled
        if self.unlabelled_share is None:
            return float(named)
        return self.unlabelled_share if named or not self.unlabelled else 0.0

    def train_rows(self, step: int) -> int | None:
        """Return how many rows there are to learn from at ``step``, told without reading them; None: it cannot be told."""
        return None

    @abstractmethod
    def test(self, task_id: int) -> Data:
        """Return the test rows of a task, in any order: a strategy is given them `Data.shuffled`."""

    def validation_rows(self, task_id: int) -> Data:
        """Return the validation rows of a task, those of its first experience; none where none are set aside.

        Those alone whose labels are not withheld: who chooses has no others.

        Raises:
            IndexError: if no experience is of that task.
        """
        steps = count() if self.n_steps is None else range(self.n_steps)
        first = next((step for step in steps if self.task_id(step) == task_id), None)
        if first is None:
            raise IndexError(f"task {task_id} is none of this stream's")
        found = self.arrival(first)
        none = torch.arange(0, device=found.validation.y.device)
        return found.validation if found.labelled else found.validation.at(none)

    @property
    def asks_classes(self) -> bool:
        """Whether the stream knows no targets of its own: all tasks ask for one of as many classes as the net has outputs."""
        return type(self).target is Stream.target

    def target(self, task_id: int) -> Target:
        """Return what a task asks for: by default one class a row."""
        return class_of(self.outputs)

    def classes_of_task(self, task_id: int, place: int = 0) -> tuple[int, ...]:
        """Return the class of the data that each answer of a task stands for, in order; of streams that do not say, 0, 1, …

        Args:
            task_id: of a task that asks for classes.
            place: which of the seeds it is for, where each has tasks of its own (``per_seed``).
        """
        return tuple(range(self.target(task_id).outputs))

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets that there are in the stream, each once.

        Of one without end that of its first task: where later tasks ask for what is measured otherwise, a stream says so here.
        """
        found: dict[str, Target] = {}
        if self.asks_classes:
            return (self.target(0),)
        for target in map(self.target, range(self.n_tasks or 1)):
            found.setdefault(target.key, target)
        return tuple(found.values())

    @property
    def only_accuracy(self) -> bool:
        """Whether all tasks are measured by accuracy, from counts of rows."""
        return all(target.counts_answers for target in self.targets)

    @property
    def most_sums(self) -> int:
        """The greatest number of sums that a task's measure is a function of."""
        return max(len(target.sum_names) for target in self.targets)

    def composition(self, task_id: int) -> Composition:
        """Return what a task is put together from; where the stream does not say, each is a question of its own."""
        return alone(task_id)

    def is_free(self, task_id: int) -> bool:
        """Return whether a task's labels are computed from inputs, so that no person has to give them."""
        return False

    def check_augmentation(self, augmentation: Augmentation) -> None:
        """Raise a `UsageError` if images cannot be shown at random since labels would not follow them.

        Labels that can follow do so in a stream all of whose tasks ask for the same.
        """
        alone = len(self.targets) == 1
        stays = (target for target in self.targets if target.places and not (alone and target.follows_images))
        odd = next(stays, None) if augmentation else None
        if odd is not None:
            alike = " where all tasks ask for them" if odd.follows_images else ""
            raise UsageError(
                f"train.crop and train.flip move images, and the labels of '{odd.name()}', which are at places, would stay where "
                f"they are{' (they follow' + alike + ')' if alike else ''}: leave them out, or the tasks that ask for that"
            )

    def describe(self) -> dict[str, str | int]:
        """Return what a reader of the log should know about the data beyond the options."""
        return {}

    def digests(self) -> dict[str, Digest]:
        """Return what tells the data from others, by name, where they come from no source; here that of the first experience."""
        first = self[0]
        test = self.test(first.task_id)
        train_x, train_y, test_x, test_y = (
            part.cpu().numpy() for part in (first.train.x, first.train.y, test.x, test.y)
        )
        return {"the first experience": digest(train_x, train_y, test_x, test_y)}

    def name_of(self, task_id: int) -> str:
        """Return a short name of the task for tables and pictures."""
        return f"task {task_id}"

    def check_step(self, step: int) -> None:
        """Raise IndexError for a step outside the stream."""
        if step < 0 or (self.n_steps is not None and step >= self.n_steps):
            raise IndexError(f"step {step} is outside a stream of {self.n_steps} experiences")

    def take_after(self, other: Stream) -> None:
        """Say of this stream all that another says of itself, as one does that shows the other's tasks in its own way."""
        self.setting, self.n = other.setting, other.n
        self.unlabelled, self.unlabelled_share = other.unlabelled, other.unlabelled_share
        self.n_tasks, self.n_steps, self.input_shape = other.n_tasks, other.n_steps, other.input_shape
        self.outputs, self.mean, self.std, self.device = other.outputs, other.mean, other.std, other.device
        self.vocabulary, self.augmentation, self.pad_value = other.vocabulary, other.augmentation, other.pad_value
        self.seed, self.per_seed, self.held_out = other.seed, other.per_seed, other.held_out
        self.boundaries = other.boundaries

    def refuse_endless(self, why: str) -> UsageError:
        """Return the error for a stream that must have an end here."""
        return UsageError(f"stream.n is missing: {why}")
