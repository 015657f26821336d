"""The digit."""

from __future__ import annotations

from cl_engine.data.label_function import DigitRule


class Digit(DigitRule):
    """The digit that is written.

    >>> Digit.answers[7]
    7
    """

    answers = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
