"""What was measured of a run's first moments, and what it tells of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Cost:
    """Measured costs: seconds to learn the first experiences and to test one task, and the state after the first, by part.

    >>> Cost(learned=(2.0, 1.0, 1.0), test=0.1, state=None).learning(10)
    10.0

    Attributes:
        learned: seconds of each experience in turn; of the first as far as it came, if that was not to its end.
        growing: whether the strategy says that a task costs more with every task before it.
        of_targets: where tasks ask for several things, seconds to learn and to test a task that asks for each, by
            `Target.key`.
    """

    learned: tuple[float, ...]
    test: float
    state: dict[str, int] | None
    growing: bool = False
    apart: int = 0
    of_targets: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def line(self) -> tuple[float, float]:
        """Seconds of the first experience and how many more each costs than the one before: a line through what was measured.

        Of one experience alone, where a task's cost grows, that is in proportion to the tasks there are.
        """
        later = self.learned[1:] or self.learned  # much is imported and set up in the first
        if not self.growing:
            return sum(later) / len(later), 0.0
        if len(later) < 2:
            return self.learned[-1] / len(self.learned), self.learned[-1] / len(self.learned)
        slope, base = np.polyfit(np.arange(1, len(later) + 1), later, 1)
        slope = max(0.0, float(slope))
        return max(0.0, float(base)) if slope else sum(later) / len(later), slope

    def at(self, experience: int) -> float:
        """Return the seconds that learning an experience would take."""
        first, more = self.line
        return first + more * experience

    def learning(self, experiences: int) -> float:
        """Return the seconds that learning ``experiences`` experiences would take."""
        first, more = self.line
        return experiences * first + more * experiences * (experiences - 1) / 2


@dataclass(frozen=True)
class Mark:
    """A moment in an experience: after how many seconds it is, and what share is done by then.

    >>> Mark(seconds=6.0, done=0.25).whole(Mark(7.0, 0.75))
    2.0
    """

    seconds: float = 0.0
    done: float = 0.0

    def whole(self, later: Mark) -> float:
        """Return what the whole would take at the pace from here to a later moment."""
        return (later.seconds - self.seconds) / (later.done - self.done)
