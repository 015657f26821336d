"""Whether a digit is odd."""

from __future__ import annotations

from cl_engine.data.label_function import DigitRule


class Parity(DigitRule):
    """Whether the digit is odd.

    >>> Parity.answers[7]
    1
    """

    answers = (0, 1, 0, 1, 0, 1, 0, 1, 0, 1)
