"""What the fits of an experience have come to, so that a run that is killed in the middle of a long one can go on from there.

A generator cannot be saved. But all that `learn` does follows from the state before the experience and from what its fits
return: so it is run again from that state, fits that were over return at once what they returned, and the one that was
running goes on from the end of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from cl_engine.core.tree import Tree, tree_map
from cl_engine.events import CurvePoint, EarlierTaskTested, EpochEnded, Event, NotFinite

Fact = EpochEnded | NotFinite | CurvePoint | EarlierTaskTested
FACTS: dict[str, Callable[..., Fact]] = {
    **{kind.__name__: kind for kind in (EpochEnded, NotFinite, CurvePoint, EarlierTaskTested)},
    "EarlierTested": EarlierTaskTested,  # its name in checkpoints of version 0.1
}


class FitRecord:
    """One fit: what it has told so far, and what it returned, or where it is.

    Attributes:
        told: its passes, and the tests in the middle of it, in order.
        result: the tree that it returned; None: it is not over.
        epoch: the last pass after which its learners were looked at; -1: none.
    """

    def __init__(self, told: list[Fact] | None = None, result: Tree | None = None) -> None:
        self.told, self.result = told or [], result
        self.epoch = -1
        self._told_by_then = len(self.told)
        self._learners: Callable[[], list[Tree]] = list

    @property
    def stopped(self) -> set[int]:
        """The seeds whose loss was not finite."""
        return {seed for fact in self.told if isinstance(fact, NotFinite) for seed in fact.seeds}

    def note(self, fact: Fact) -> None:
        """Take in what the fit, or a test in the middle of it, has told."""
        self.told.append(fact)

    def reached(self, epoch: int, learners: Callable[[], list[Tree]]) -> None:
        """Take in that a pass is over, and what says how the learners are now."""
        self.epoch, self._learners, self._told_by_then = epoch, learners, len(self.told)

    def forget(self) -> None:
        """Begin anew, where what was kept is of learners put together in another way."""
        self.told, self.epoch, self._learners = [], -1, list

    def over(self, result: Tree) -> None:
        """Take in what the fit returns, as a copy."""
        self.result, self._learners = tree_map(Tensor.clone, result), list

    @property
    def learners(self) -> list[Tree]:
        """The state of each learner after the last pass."""
        return self._learners()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        if self.result is not None:
            return {"told": _listed(self.told), "result": self.result}
        learners = {str(k): learner for k, learner in enumerate(self.learners)}
        return {"told": _listed(self.told[: self._told_by_then]), "epoch": self.epoch, "learners": learners}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> FitRecord:
        """Return the record whose `state` this is."""
        record = cls([_fact(kind, values) for kind, values in state["told"]], state.get("result"))
        learners = state.get("learners", {})
        if learners:
            found = [learners[key] for key in sorted(learners, key=int)]
            record.reached(state["epoch"], lambda: found)
        return record


class FitProgress:
    """The records of an experience's fits, by their number, and the seconds that learning had taken."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._records: dict[int, FitRecord] = {}

    def record(self, index: int) -> FitRecord:
        """Return the record of a fit, a new one if it has not begun."""
        return self._records.setdefault(index, FitRecord())

    def state(self, seconds: float) -> dict[str, Any]:
        """Return what a checkpoint keeps: the records of fits that have come as far as the end of a pass."""
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
    """A pass is over, and the fit could be taken up from here. For the engine alone, which may save now; never logged."""

    fit: int = field(compare=False)


def _listed(facts: list[Fact]) -> list[Any]:
    return [[type(fact).__name__, asdict(fact)] for fact in facts]


def _fact(kind: str, values: dict[str, Any]) -> Fact:
    return FACTS[kind](**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
