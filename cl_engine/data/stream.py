"""Streams: what arrives (`Experience`), in what order, and what it is tested on."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.augmentation import Augmentation
from cl_engine.data.digest import Digest, digest
from cl_engine.data.rows_of_seeds import RowsOfSeeds
from cl_engine.data.source import Sources
from cl_engine.errors import UsageError
from cl_engine.nn.target import Target
from cl_engine.options import Configured, option
from cl_engine.targets.classes import Classes

Setting = Literal["task", "domain", "class"]
PAD_VALUE: tuple[float, ...] = (0.0,)
VOCABULARY: int | None = None
Shape = Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=3, max_length=3)]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Rows of a task: inputs and labels.

    >>> data = Data(torch.zeros(3, 4), torch.tensor([0, 0, 1]))
    >>> len(data), len(data.spread(2))
    (3, 2)

    Attributes:
        x: inputs ``[N, *shape]``; uint8 as stored for images, float32 otherwise. `Net` scales them.
        y: labels ``[N, …]`` in the form of the task's target; of classes ``[N]``, int64, local to the task, or global in the
            ``class`` setting.
        resample: given a number to draw from, returns ``x`` as random transformations show it this time; None: always alike.
        index: which rows of the stream's source these are ``[N]``, where several tasks ask about the same; None: not told.
        of_seeds: the rows of every seed, where each has its own; ``x`` and ``y`` are then those of the first.
    """

    x: Tensor
    y: Tensor
    resample: Callable[[int], Tensor] | None = None
    index: Tensor | None = None
    of_seeds: RowsOfSeeds | None = None

    def __len__(self) -> int:
        return len(self.y)

    def of(self, place: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels that the seed at this place has: those of all, unless each has its own."""
        return (self.x, self.y) if self.of_seeds is None else self.of_seeds.of(place)

    def spread(self, most: int) -> Data:
        """Return at most ``most`` rows, evenly spread over the rows sorted by class, so that each class has its share.

        Where rows have no class they are spread over the rows as they come.
        """
        if len(self) <= most:
            return self
        index = torch.linspace(0, len(self) - 1, most).long().to(self.y.device)
        if self.y.ndim == 1:
            index = torch.argsort(self.y, stable=True)[index]
        return Data(self.x[index], self.y[index])

    def shuffled(self, seed: int = 0) -> Data:
        """Return the rows in an order that depends on ``seed`` and their number alone, and tells nothing of their classes."""
        order = torch.from_numpy(rng.arrays(seed, "order of rows", len(self)).permutation(len(self))).to(self.y.device)
        own = None if self.of_seeds is None else self.of_seeds.shuffled(order)
        return Data(self.x.index_select(0, order), self.y[order], of_seeds=own)


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

    @property
    def key(self) -> int:
        """What randomness is derived from: ``rng_key``, or the step."""
        return self.step if self.rng_key is None else self.rng_key


@dataclass(frozen=True)
class Composition:
    """The modules that a task is put together from, by name.

    >>> Composition(inputs=("turn", "mirror"), rule="parity").inputs
    ('turn', 'mirror')

    Attributes:
        inputs: what its inputs have come through, one after the other.
        rule: what is asked about them.
    """

    inputs: tuple[str, ...]
    rule: str


def alone(task_id: int) -> Composition:
    """Return the composition of a task that has nothing in common with others."""
    return Composition((), f"task {task_id}")


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
        """Return the experience at ``step`` as a learner sees it: without labels where its task has none."""
        found = self[step]
        if found.task_id not in self.unlabelled:
            return found
        unknown = (Data(part.x, torch.full_like(part.y, -1)) for part in (found.train, found.validation))
        train, validation = unknown
        return dataclasses.replace(found, train=train, validation=validation, labelled=False)

    def train_rows(self, step: int) -> int | None:
        """Return how many rows there are to learn from at ``step``, told without reading them; None: it cannot be told."""
        return None

    @abstractmethod
    def test(self, task_id: int) -> Data:
        """Return the test rows of a task, in any order: a strategy is given them `Data.shuffled`."""

    @property
    def asks_classes(self) -> bool:
        """Whether the stream knows no targets of its own: all tasks ask for one of as many classes as the net has outputs."""
        return type(self).target is Stream.target

    def target(self, task_id: int) -> Target:
        """Return what a task asks for: by default one class a row."""
        return Classes.of(classes=self.outputs)

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
        self.setting, self.n, self.unlabelled = other.setting, other.n, other.unlabelled
        self.n_tasks, self.n_steps, self.input_shape = other.n_tasks, other.n_steps, other.input_shape
        self.outputs, self.mean, self.std, self.device = other.outputs, other.mean, other.std, other.device
        self.vocabulary, self.augmentation, self.pad_value = other.vocabulary, other.augmentation, other.pad_value
        self.seed, self.per_seed, self.held_out = other.seed, other.per_seed, other.held_out

    def refuse_endless(self, why: str) -> UsageError:
        """Return the error for a stream that must have an end here."""
        return UsageError(f"stream.n is missing: {why}")
