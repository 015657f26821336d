"""The progress of the fits of an experience, from which a run that was killed in the middle of a long one is resumed.

A generator cannot be saved. But all that `learn` does follows from the state before the experience and from what its fits
return: so it is run again from that state, fits that were over return at once what they returned, and the one that was
running is resumed from the end of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from cl_engine.core.event import NOT_MEASURED, counts
from cl_engine.core.tree import Tree, tree_map
from cl_engine.events import CurvePoint, EarlierTaskTested, EpochEnded, Event, NotFinite, OnlineScored

Fact = EpochEnded | OnlineScored | NotFinite | CurvePoint | EarlierTaskTested
FACTS: dict[str, Callable[..., Fact]] = {
    **{kind.__name__: kind for kind in (EpochEnded, OnlineScored, NotFinite, CurvePoint, EarlierTaskTested)},
    "EarlierTested": EarlierTaskTested,  # its name in checkpoints of version 0.1
}


class FitRecord:
    """The progress of one fit: its facts so far, and what it returned, or where it is.

    >>> record = FitRecord()
    >>> record.note(NotFinite(step=0, task_id=0, fit=0, epoch=1, seeds=(3,)))
    >>> record.stopped
    {3}

    Attributes:
        facts: its epochs, and the tests in the middle of it, in order.
        result: the tree that it returned; None: it is not over.
        memory: what its optimisers remembered when it was over, where that is kept.
        upkeep: what its upkeep remembered then.
        epoch: the last epoch after which the state of its groups was noted; -1: none.
    """

    def __init__(
        self,
        facts: list[Fact] | None = None,
        result: Tree | None = None,
        memory: Tree | None = None,
        upkeep: Tree | None = None,
    ) -> None:
        self.facts, self.result, self.memory, self.upkeep = facts or [], result, memory or {}, upkeep or {}
        self.epoch = -1
        self._facts_by_then = len(self.facts)
        self._groups: Callable[[], list[Tree]] = list

    @property
    def stopped(self) -> set[int]:
        """The seeds whose loss was not finite."""
        return {seed for fact in self.facts if isinstance(fact, NotFinite) for seed in fact.seeds}

    def note(self, fact: Fact) -> None:
        """Note what the fit, or a test in the middle of it, has come to."""
        self.facts.append(fact)

    def end_epoch(self, epoch: int, groups: Callable[[], list[Tree]]) -> None:
        """Note that an epoch is over; ``groups`` returns the state of each seed group now."""
        self.epoch, self._groups, self._facts_by_then = epoch, groups, len(self.facts)

    def forget(self) -> None:
        """Begin anew, where what was kept is of seeds grouped in another way."""
        self.facts, self.epoch, self._groups = [], -1, list

    def finish(self, result: Tree, memory: Tree, upkeep: Tree) -> None:
        """Note what the fit returns, as a copy, and what its optimisers and its upkeep remember."""
        self.result, self.memory, self.upkeep = tree_map(Tensor.clone, result), memory, upkeep
        self._groups = list

    @property
    def groups(self) -> list[Tree]:
        """The state of each seed group after the last epoch."""
        return self._groups()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        if self.result is not None:
            upkeep = {"upkeep": self.upkeep} if self.upkeep else {}
            return {"told": _listed(self.facts), "result": self.result, "memory": self.memory, **upkeep}
        groups = {str(k): group for k, group in enumerate(self.groups)}
        return {"told": _listed(self.facts[: self._facts_by_then]), "epoch": self.epoch, "learners": groups}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> FitRecord:
        """Return the record whose `state` this is."""
        facts = [_fact(kind, values) for kind, values in state["told"]]
        record = cls(facts, state.get("result"), state.get("memory"), state.get("upkeep"))
        groups = state.get("learners", {})
        if groups:
            found = [groups[key] for key in sorted(groups, key=int)]
            record.end_epoch(state["epoch"], lambda: found)
        return record


class FitProgress:
    """The records of an experience's fits, by their number, and the seconds that learning had taken.

    >>> FitProgress().record(0).epoch
    -1
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._records: dict[int, FitRecord] = {}

    def record(self, index: int) -> FitRecord:
        """Return the record of a fit, a new one if it has not begun."""
        return self._records.setdefault(index, FitRecord())

    def state(self, seconds: float) -> dict[str, Any]:
        """Return what a checkpoint keeps: the records of fits that have come as far as the end of an epoch."""
        begun = {k: record for k, record in self._records.items() if record.result is not None or record.epoch >= 0}
        return {"seconds": seconds, "fits": {str(index): record.state() for index, record in begun.items()}}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> FitProgress:
        """Return the journal whose `state` this is."""
        journal = cls(state["seconds"])
        journal._records = {int(k): FitRecord.restored(record) for k, record in state.get("fits", {}).items()}
        return journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumable(Event):
    """End of an epoch, from which the fit could be resumed. For the engine alone, which may save now; never logged.

    >>> Resumable(step=0, fit=1).fit
    1
    """

    fit: int = field(compare=False)


def _listed(facts: list[Fact]) -> list[Any]:
    return [[type(fact).__name__, asdict(fact)] for fact in facts]


def _fact(kind: str, values: dict[str, Any]) -> Fact:
    if "n_correct" in values:  # what a point of a learning curve was before log format 2.0
        right, rows = (values[name] for name in ("n_correct", "n_total"))
        values = {name: value for name, value in values.items() if name not in ("n_correct", "n_total")}
        values |= counts([math.nan if count == NOT_MEASURED else count for count in right], rows)
    return FACTS[kind](**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
