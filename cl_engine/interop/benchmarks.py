"""Avalanche's benchmarks by name: task labels and classes of their experiences, and which tests go with which."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cl_engine.core.rng import derive
from cl_engine.data.stream import Setting
from cl_engine.errors import UsageError, unknown
from cl_engine.interop.lazy_import import attribute, quietly
from cl_engine.interop.offline import WouldDownload, offline
from cl_engine.interop.randomness import drawing
from cl_engine.interop.rows import labels_of, task_labels_of
from cl_engine.runs import importing

CLASSIC = "avalanche.benchmarks.classic"


def made(
    name: str, arguments: Mapping[str, Any], root: Path, seed: int, n: int | None, options: Sequence[str] = ()
) -> Any:
    """Return the benchmark of this name: a callable of ``avalanche.benchmarks.classic``, or ``module:function``.

    It is given ``arguments``, and, where it takes them and they are not among those, ``dataset_root``, ``seed`` and
    ``n`` as its number of experiences. It may not use the network. ``options`` are those of the stream, which the error for an
    argument that there is not names too.

    Raises:
        UsageError: if there is none, an argument is unknown, missing or refused, or its data are not under ``root``.
    """
    build = _callable(name)
    try:
        known = inspect.signature(build).parameters
    except (TypeError, ValueError):
        raise UsageError(f"stream.benchmark: '{name}' is not a function that returns a benchmark") from None
    given = dict(arguments)
    roots = {key: str(root) for key in known if key.startswith("dataset_root")}  # some have several
    offers = {**roots, "seed": seed, **({} if n is None else {"n_experiences": n})}
    given |= {key: value for key, value in offers.items() if key in known and key not in given}
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for key in given:
            if key not in known:
                raise unknown(f"option of this stream, nor argument of '{name}',", key, {*known, *options})
    named = [p for p in known.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    if missing:
        raise UsageError(f"stream.{missing[0]} is missing: the benchmark '{name}' needs it")
    return _built(build, name, given, root, seed, seed_is_ours="seed" in given and "seed" not in arguments)


def _built(build: Any, name: str, given: dict[str, Any], root: Path, seed: int, seed_is_ours: bool) -> Any:
    """Return what ``build`` makes of the arguments; without the seed, if it is refused and nobody has asked for it."""
    try:
        with quietly(), offline(f"the benchmark '{name}'", str(root)), drawing(derive(seed, "benchmark")):
            return build(**given)
    except WouldDownload:
        raise
    except Exception as error:  # a foreign benchmark may fail in any way
        if seed_is_ours:  # as in CLEAR, which takes a seed for one of its two protocols
            rest = {key: value for key, value in given.items() if key != "seed"}
            try:
                return _built(build, name, rest, root, seed, seed_is_ours=False)
            except WouldDownload:
                raise
            except UsageError:
                pass  # it was not the seed: what is said is about the first call
        text = ", ".join(f"{key} = {value}" for key, value in given.items())
        raise UsageError(f"the benchmark '{name}' cannot be made with {text}: {error}") from error


def _callable(name: str) -> Any:
    module, colon, function = name.rpartition(":")
    if colon:
        with quietly():
            return importing.attribute("stream.benchmark:", f"{module}:{function}")
    with quietly():
        classic = importlib.import_module(CLASSIC) if attribute("avalanche", "__version__") else None
    # their benchmarks have names that begin with a capital, and other functions stand beside them
    names = [key for key, value in vars(classic).items() if inspect.isfunction(value) and key[0].isupper()]
    if name not in names:
        raise unknown(f"benchmark in {CLASSIC}", name, names)
    found = getattr(classic, name)
    if classic is not None:
        importing.note(classic, found)
    return found


@dataclass(frozen=True)
class Part:
    """An experience of a benchmark: its data set, and the labels and classes of its rows.

    >>> from cl_engine.interop.avalanche import to_avalanche
    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> benchmark = to_avalanche(Experiment.of(small.scenario(), "finetune").stream())
    >>> len(parts_of(benchmark.streams["train"]))
    3
    """

    dataset: Any

    @cached_property
    def labels(self) -> np.ndarray:
        """Class of each row, ``[N]``."""
        return labels_of(self.dataset)

    @cached_property
    def task_labels(self) -> np.ndarray:
        """Task label of each row, ``[N]``."""
        return task_labels_of(self.dataset)

    @cached_property
    def classes(self) -> frozenset[int]:
        """The classes there are rows of."""
        return frozenset(np.unique(self.labels).tolist())

    @cached_property
    def tasks(self) -> frozenset[int]:
        """The task labels there are rows of."""
        return frozenset(np.unique(self.task_labels).tolist())


def parts_of(stream: Any) -> list[Part]:
    """Return the experiences of one of a benchmark's streams; their rows are not read."""
    return [Part(experience.dataset) for experience in stream]


def recognised(parts: Sequence[Part]) -> Setting:
    """Return the setting that the experiences speak for; a `UsageError` that asks where they do not.

    Different task labels say ``task``. Without them, experiences that all have the same classes say ``domain``, and
    such as have no class in common ``class``.
    """
    if any(len(part.tasks) > 1 for part in parts):
        raise UsageError(
            "stream.setting is missing: there are experiences that mix rows of several task labels, so that no task can "
            "be told for them: say setting = 'class' or 'domain'"
        )
    if len({part.tasks for part in parts}) > 1:
        return "task"
    classes = {part.classes for part in parts}
    if len(classes) == 1:
        return "domain"
    if sum(map(len, (part.classes for part in parts))) == len(frozenset().union(*classes)):
        return "class"
    raise UsageError(
        "stream.setting is missing: the experiences share some classes and not others, and carry no task labels: say "
        "setting = 'class' (labels as the benchmark gives them), 'domain' or 'task' (labels counted within a task)"
    )


def tasks_of(parts: Sequence[Part]) -> list[int]:
    """Return the task of each experience: experiences of one task label are one task, else each is its own."""
    keys = [min(part.tasks) for part in parts]
    if any(len(part.tasks) > 1 for part in parts) or len(set(keys)) == 1:
        return list(range(len(parts)))
    first: dict[int, int] = {}
    return [first.setdefault(key, len(first)) for key in keys]


def kind_of(
    part: Part,
    likely: int | None,
    classes: Sequence[Sequence[int]],
    label_kinds: Mapping[int, int],
    labels: Sequence[Mapping[int, int]],
) -> int:
    """Return which of a benchmark's tasks rows are of.

    Args:
        part: the rows.
        likely: the task that is preferred where several fit.
        classes: the classes of each task.
        label_kinds: the task of each task label, where that tells tasks apart.
        labels: our labels of each task's classes; where they are the same for all, rows of several tasks are of that with
            the most of them.

    Raises:
        UsageError: if they are of none.
    """
    fits = [kind for kind, own in enumerate(classes) if part.classes <= set(own)]
    if label_kinds:
        told = {label_kinds.get(label, -1) for label in part.tasks}
        fits = [kind for kind in fits if told == {kind}]
    elif not fits and part.classes <= set().union(*classes) and all(own == labels[0] for own in labels):
        rows = [int(np.isin(part.labels, own).sum()) for own in classes]
        fits = [rows.index(max(rows))]
    if likely in fits:
        return likely
    if len(fits) != 1:
        raise UsageError(
            f"an experience has the classes {sorted(part.classes)} and the task labels {sorted(part.tasks)}, which are those "
            "of no task of the benchmark this learner was made for, or of several: make a learner for its own benchmark"
        )
    return fits[0]


def tests_of(parts: Sequence[Part], tests: Sequence[Part]) -> list[list[tuple[Part, np.ndarray]]]:
    """Return, for each task, the test experiences that belong to it and which of their rows.

    Raises:
        UsageError: if that cannot be told from task labels, from their number or from their classes.
    """
    found: list[list[tuple[Part, np.ndarray]]] = []
    tasks = tasks_of(parts)
    by_label = len(set(tasks)) < len(parts) or len({part.tasks for part in parts}) > 1
    for task in range(max(tasks) + 1):
        own = [part for part, t in zip(parts, tasks, strict=True) if t == task]
        classes = sorted(frozenset().union(*(part.classes for part in own)))
        label = min(own[0].tasks)
        labelled = [test for test in tests if by_label and label in test.tasks]
        if labelled and len({t for test in tests for t in test.tasks}) > 1:
            chosen = [(test, np.flatnonzero(test.task_labels == label)) for test in labelled]
        elif len(tests) == len(parts):
            chosen = [(tests[k], np.arange(len(tests[k].labels))) for k, t in enumerate(tasks) if t == task]
        elif len(tests) == 1:
            chosen = [(tests[0], np.arange(len(tests[0].labels)))]
        else:
            raise UsageError(
                f"the benchmark has {len(parts)} training and {len(tests)} test experiences, and no task labels that "
                "say which belong together; there must be as many, or one for all"
            )
        found.append([(test, rows[np.isin(test.labels[rows], classes)]) for test, rows in chosen])
    return found
