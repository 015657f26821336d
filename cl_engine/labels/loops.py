"""The number of loops in a digit."""

from __future__ import annotations

from cl_engine.data.label_function import DigitRule


class Loops(DigitRule):
    """The number of loops in the digit: one in 0, 6 and 9, two in 8.

    >>> Loops.answers[7]
    0
    """

    answers = (1, 0, 0, 0, 0, 0, 1, 0, 2, 1)
