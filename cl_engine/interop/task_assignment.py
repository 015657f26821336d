"""Assignment of Avalanche's experiences to tasks: a task is what the test stream tests on its own.

Avalanche numbers the experiences of each stream and leaves open which training experience a test experience belongs to.
There may be one test set for all, a test set for each of several pieces, or training rows of several tests at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_engine.interop.lazy_import import quietly

with quietly():
    from avalanche.benchmarks import CLStream, OnlineCLExperience, SequenceCLStream

LOG = logging.getLogger("cl_engine")
Key = tuple[str, int]  # kind of task ("test", "label" or "untested") and its number there


@dataclass(frozen=True)
class Content:
    """What an experience holds, as counts of its rows.

    Attributes:
        index: its number in its stream; of a piece of an experience, that of the whole; None: a piece of no experience.
        rows: how many rows it has.
        labels: rows by task label.
        classes: rows by class; empty where labels are no classes.
        sources: rows by experience of the stream that they were drawn from; empty where that is not told.
        of: how many experiences its stream has; 0: not known.

    >>> Content(index=1, rows=3, labels={0: 3}, classes={2: 1, 3: 2}).classes
    {2: 1, 3: 2}
    """

    index: int | None
    rows: int
    labels: Mapping[int, int]
    classes: Mapping[int, int]
    sources: Mapping[int, int] | None = None
    of: int = 0


def content_of(experience: Any, index: int | None = None) -> Content:
    """Return what an experience holds; ``index`` where the experience does not know its own."""
    whole = getattr(experience, "origin_experience", None) or experience
    unbounded = isinstance(experience, OnlineCLExperience) and whole is experience
    with whole.no_attribute_masking():
        number = whole.current_experience if index is None else index
        labels = getattr(whole, "task_labels", None)
        stream = whole.origin_stream if index is None else None
    data = experience.dataset
    if labels is not None and len(set(labels)) == 1:
        by_label = {int(next(iter(labels))): len(data)}
    else:
        by_label = _counts(getattr(data, "targets_task_labels", None)) or {0: len(data)}
    drawn = enumerate(getattr(experience, "n_samples_from_each_exp", ()))
    return Content(
        index=None if unbounded else number,
        rows=len(data),
        labels=by_label,
        classes=_counts(getattr(data, "targets", None)),
        sources={source: int(rows) for source, rows in drawn if rows},
        of=length(stream) or 0,
    )


def length(stream: Any) -> int | None:
    """Return how many experiences the whole of a stream has, also of a part of it; None if it is not known."""
    if isinstance(stream, SequenceCLStream):
        return int(stream._full_length())
    listed = getattr(stream, "exps_iter", None)
    return len(listed) if isinstance(listed, list | tuple) else None


class TaskAssignment:
    """Tasks, numbered as they are met, and which of them rows belong to.

    Test experiences with the same task label are one task, if the test stream has several labels; else each is its own.
    A training experience belongs to the tasks whose rows it has: by task label; all of it where there is one test
    experience; by the experiences its rows were drawn from; by class, where no two test experiences share one; else to the
    test experience with its number, or to all of them if it is a piece that does not tell of which experience.

    >>> tasks = TaskAssignment()
    >>> tasks.add_test(Content(index=0, rows=4, labels={0: 4}, classes={0: 2, 1: 2}), of=1)
    >>> later = Content(index=7, rows=9, labels={0: 9}, classes={1: 9})  # the eighth experience of the same classes
    >>> tasks.of_training([later]), tasks.names
    ({0: 9}, ['experience 0'])
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[Key, int] = {}
        self._tests: dict[int, Content] = {}
        self._labels: set[int] = set()  # task labels of all tests
        self._of: int | None = None
        self._warned = False

    @property
    def complete(self) -> bool:
        """Whether all test experiences are known, so that rows of training can be assigned for good."""
        return self._of is not None and len(self._tests) >= self._of

    def meet(self, experience: Any) -> None:
        """Take in a test experience, and with the first one all others of its stream that can be looked at."""
        if not self._tests:
            for index, other in _all_of(experience.origin_stream):
                self.add_test(content_of(other, index), length(experience.origin_stream))
        if experience.current_experience not in self._tests:
            self.add_test(content_of(experience), length(experience.origin_stream))

    def add_test(self, content: Content, of: int | None) -> None:
        """Take in what a test experience holds, and how many there are (None: not known)."""
        assert content.index is not None
        self._tests[content.index], self._of = content, of
        self._labels |= content.labels.keys()

    def of_test(self, index: int, label: int | None = None) -> int:
        """Return the task of a test experience; ``label`` where it `is_mixed`."""
        content = self._tests[index]
        if self._labelled:
            return self._number(("label", min(content.labels) if label is None else label))
        number = self._number(("test", index))
        if len(content.labels) == 1:  # a stream that is made as it goes may turn out to be labelled later
            self._numbers.setdefault(("label", next(iter(content.labels))), number)
        return number

    def is_mixed(self, index: int) -> bool:
        """Return whether a test experience has rows of several tasks, told by their task labels."""
        return len(self._tests[index].labels) > 1

    def of_training(self, contents: Sequence[Content]) -> dict[int, int]:
        """Return the rows of training experiences by task, the first task met first."""
        rows: Counter[Key] = Counter()
        for content in contents:
            rows.update(self._keys(content))
        return {self._number(key): count for key, count in rows.items()}

    def _keys(self, content: Content) -> Mapping[Key, int]:
        if self._labelled:
            return {("label", label): count for label, count in sorted(content.labels.items())}
        if (self._of or len(self._tests)) == 1 and self._tests:
            return {("test", next(iter(self._tests))): content.rows}
        if content.sources:
            return {("test", index): count for index, count in sorted(content.sources.items())}
        test_of = self._test_of_class()
        if content.index is None and not test_of:
            tests = sorted(self._tests) or [0]
            return {("test", index): content.rows if index == tests[0] else 0 for index in tests}
        if content.index is not None and (not test_of or not content.classes):
            return {("test", self._position(content.index, content.of)): content.rows}
        found: Counter[Key] = Counter()
        for label, count in content.classes.items():
            if label in test_of:
                found["test", test_of[label]] += count
        return dict(sorted(found.items())) or {("untested", content.index or 0): content.rows}

    @property
    def _labelled(self) -> bool:
        return len(self._labels) > 1

    def _test_of_class(self) -> dict[int, int]:
        """Return the test experience of each class; empty if some are not known, or share a class."""
        if len(self._tests) < max(2, self._of or 0):
            return {}
        pairs = [(label, index) for index, test in self._tests.items() for label in test.classes]
        found = dict(pairs)
        return found if len(found) == len(pairs) else {}

    def _position(self, index: int, of: int) -> int:
        """Return the test experience of a training experience that nothing but its number tells about."""
        tests = self._of or 0
        if not tests or of <= tests:
            return index
        if of % tests and not self._warned:
            self._warned = True
            LOG.warning(
                "%d training and %d test experiences are told apart by neither task labels nor classes: training "
                "experience i is taken to be of task i · %d // %d",
                *(of, tests, tests, of),
            )
        return index * tests // of

    def _number(self, key: Key) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.names)
            kind, number = key
            named = {"label": f"task label {number}", "untested": f"experience {number}, not tested"}
            self.names.append(named.get(kind, f"experience {number}"))
        return self._numbers[key]


def _all_of(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield the experiences of a whole stream with their numbers, as far as that loads and makes nothing."""
    if isinstance(stream, SequenceCLStream):
        defined = getattr(getattr(stream, "benchmark", None), "stream_definitions", {}).get(stream.name)
        if defined is None or not defined.is_lazy:
            for index in range(stream._full_length()):
                yield index, stream._make_experience(index)
    elif isinstance(stream, CLStream) and isinstance(stream.exps_iter, list | tuple):
        yield from enumerate(stream.exps_iter)


def _counts(values: Any) -> dict[int, int]:
    """Return how often each whole number comes; empty if these are none."""
    try:
        counts = getattr(values, "count", None)
        found = counts if isinstance(counts, Mapping) else Counter(int(value) for value in values)
        return {int(value): int(count) for value, count in sorted(found.items())}
    except (TypeError, ValueError, RuntimeError):
        return {}
