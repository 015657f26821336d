"""How many units of a layer are mature, counted in Python: it depends on how many were replaced when, not on which."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


class Maturity:
    """The number of units of a layer, of one seed, that are older than an age, step by step.

    >>> ages = Maturity([0, 5, 9], 5)
    >>> ages.step(), ages.step()
    (2, 2)
    >>> ages.replace(2)
    >>> [ages.step() for _ in range(6)]
    [0, 0, 0, 1, 1, 3]
    """

    def __init__(self, ages: Sequence[int], age: int) -> None:
        """Begin with units of these ages, which count as mature when they are older than ``age``."""
        self._age, self._now = age, 0
        self._mature = sum(own > age for own in ages)
        self._due = deque(sorted(age + 1 - own for own in ages if own <= age))

    def step(self) -> int:
        """Let every unit grow a step older, and return how many are mature."""
        self._now += 1
        while self._due and self._due[0] <= self._now:
            self._due.popleft()
            self._mature += 1
        return self._mature

    def replace(self, count: int) -> None:
        """Let as many mature units begin anew."""
        self._mature -= count
        self._due.extend([self._now + self._age + 1] * count)


@dataclass
class Due:
    """What is due to be replaced in a layer: of each seed by itself, or of all seeds the same.

    >>> Due([Maturity([9, 9], 5)], [0.5]).owed
    [0.5]
    """

    mature: list[Maturity]
    owed: list[float]
