"""What two experiments have in common from their start: options, agenda, and what arrives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from cl_engine.core.tree import flatten
from cl_engine.data.stream import Data, Stream
from cl_engine.engine.agenda import Evaluate, Item, Save
from cl_engine.errors import UsageError

# options that change nothing of what is measured
FREE = ("agenda.save_every", "agenda.save_every_epochs", "agenda.save_share", "agenda.spot_checks")
# options whose effect on what was done is told from the agenda itself
PLANNED = ("agenda.evaluate_every", "agenda.evaluate_ahead", "agenda.window", "agenda.window_sampled")
NOT_FINITE = "train.not_finite"  # of no effect as long as every loss was finite


@dataclass(frozen=True)
class Agreement:
    """What an agenda shares with the part of another that has been done.

    >>> from cl_engine.engine.agenda import Learn
    >>> agreement([Learn(0), Evaluate(0, [0])], iter([Learn(0), Evaluate(0, [0]), Save(0), Learn(1)]), 0).cursor
    3

    Attributes:
        cursor: where the agenda goes on.
        untrained: tasks that the untrained learner is still to be tested on.
        again: the last test, where it is to be of other tasks than it was; None: it stays.
    """

    cursor: int
    untrained: tuple[int, ...] = ()
    again: Evaluate | None = None


def agreement(done: Iterable[Item], agenda: Iterator[Item], last: int) -> Agreement:
    """Return where an agenda goes on that has been done so far as another says, up to the experience ``last``.

    Tests of the untrained learner can be made at any time, and those after ``last`` can be made again, as what was learned
    by then is there. All others must have been of the same tasks.

    Raises:
        UsageError: naming the first test that cannot be made up for, and why.
    """
    untrained: set[int] = set()
    wanted: set[int] = set()
    cursor, again = 0, None
    for item in done:
        if isinstance(item, Save):
            continue
        if isinstance(item, Evaluate) and item.step < 0:
            untrained |= {*item.task_ids}
            continue
        found: Item | None = None
        for found in agenda:
            cursor += 1
            if isinstance(found, Evaluate) and found.step < 0:
                wanted |= {*found.task_ids}
            elif not isinstance(found, Save):
                break
        if found is None or (type(found), found.step) != (type(item), item.step):
            raise UsageError(
                f"the run has learned experience {item.step}, and the longer one would end before it: only what comes after the "
                "end of a run can be added"
            )
        if isinstance(item, Evaluate) and isinstance(found, Evaluate) and {*item.task_ids} != {*found.task_ids}:
            if item.step != last:
                raise UsageError(_not_tested(item, found, last))
            again = found
    for following in islice(agenda, 1):
        cursor += isinstance(following, Save)
    if bool(untrained) != bool(wanted) or not untrained <= wanted:
        raise UsageError(
            "agenda.evaluate_ahead: the untrained learner is tested in one of the two runs alone, so that they have no rows "
            "of the matrix in common: leave it as it was"
        )
    return Agreement(cursor, tuple(sorted(wanted - untrained)), again)


def _not_tested(item: Evaluate, wanted: Evaluate, last: int) -> str:
    """Return why a test in the middle cannot be taken over."""
    more, less = (
        {*one} - {*other} for one, other in ((wanted.task_ids, item.task_ids), (item.task_ids, wanted.task_ids))
    )
    what = f"have tested task {min(more)} too" if more else f"not have tested task {min(less)}"
    return (
        f"after experience {item.step} a run from the start would {what}, with what was known then, and only what "
        f"was known after experience {last} is there: leave agenda.evaluate_ahead (0 or 1), evaluate_every and window so that "
        "earlier tests stay"
    )


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options that differ by their dotted names, each as it was and as it is to be.

    >>> changed({"train": {"lr": 0.1}}, {"train": {"lr": 0.2}})
    {'train.lr': (0.1, 0.2)}
    """
    one, other = flatten(before), flatten(after)
    names = dict.fromkeys((*one, *other))
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def check_options(differing: Mapping[str, tuple[Any, Any]], stopped: bool) -> None:
    """Refuse options that what was learned depends on; those of the stream are told by what arrives, see `check_arrivals`.

    Args:
        differing: what `changed` returned.
        stopped: whether a seed was stopped as its loss was not finite, so that what followed depends on ``train.not_finite``.

    Raises:
        UsageError: naming the first of them.
    """
    for name, (was, now) in differing.items():
        if name in (*FREE, *PLANNED) or name.startswith("stream.") or (name == NOT_FINITE and not stopped):
            continue
        raise UsageError(
            f"{name.removeprefix('strategy.')} was {_told(was)} and is to be {_told(now)}: all that was learned, or measured, "
            "depends on it, so nothing can be taken over, and a run with it begins anew (`run`). A run can be given more of the "
            f"same stream, more seeds, and other {', '.join(FREE)}"
        )


def check_arrivals(before: Stream, after: Stream, steps: int, tasks: Sequence[int], why: str) -> None:
    """Refuse a stream whose first experiences, or what they are tested on, are not those of the stream before.

    Args:
        before: the stream that was learned.
        after: the one that is to be.
        steps: how many experiences were learned.
        tasks: those that were tested.
        why: the options that differ, in words, to begin the sentence with.

    Raises:
        UsageError: naming what differs first.
    """
    if before.outputs != after.outputs:
        classes = f"{before.outputs} outputs, and there are to be {after.outputs}"
        reason = (
            "in the setting 'class' a net has one for each class of all tasks"
            if after.setting == "class"
            else "tasks ask for another number of classes"
        )
        raise UsageError(f"{why}: the net was made with {classes}, as {reason}: such a run begins anew (`run`)")
    for name in (
        "setting",
        "input_shape",
        "mean",
        "std",
        "vocabulary",
        "augmentation",
        "seed",
        "per_seed",
        "pad_value",
    ):
        if getattr(before, name) != getattr(after, name):
            raise UsageError(f"{why}: the stream's {name} is another one, and all that was learned depends on it")
    for step in range(steps):
        what = _difference_at(before, after, step)
        if what:
            raise UsageError(
                f"{why}: {what} at experience {step}, which was learned already: nothing can be taken over, and such a run "
                "begins anew (`run`)"
            )
    for task in tasks:
        if not _same_rows(before.test(task), after.test(task)):
            raise UsageError(
                f"{why}: task {task} would be tested on other rows than it was, so nothing can be taken over"
            )


def _difference_at(before: Stream, after: Stream, step: int) -> str:
    """Return in words how an experience differs between streams; empty: it does not."""
    one, other = before.arrival(step), after.arrival(step)
    if one.task_id != other.task_id or before.name_of(one.task_id) != after.name_of(other.task_id):
        return "another task would arrive"
    if before.target(one.task_id).key != after.target(other.task_id).key:
        return f"task {one.task_id} would ask for something else"
    if (one.key, one.pieces, one.classes, one.labelled) != (other.key, other.pieces, other.classes, other.labelled):
        return "rows would arrive otherwise"
    parts = ((one.train, other.train), (one.validation, other.validation), (one.unlabelled, other.unlabelled))
    return "" if all(_same_rows(*pair) for pair in parts) else "other rows would arrive"


def _same_rows(one: Data | None, other: Data | None) -> bool:
    if one is None or other is None:
        return one is other
    if (one.of_seeds is None) != (other.of_seeds is None) or len(one) != len(other):
        return False
    count = 1 if one.of_seeds is None else len(one.of_seeds.lenses)
    pairs = (zip(one.of(place), other.of(place), strict=True) for place in range(count))
    same = all(torch.equal(mine, its) for pair in pairs for mine, its in pair)
    if same and one.resample is not None and other.resample is not None:
        same = torch.equal(one.resample(0), other.resample(0))
    return same


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
