"""Whether a digit is a prime."""

from __future__ import annotations

from cl_engine.data.label_function import DigitRule


class Prime(DigitRule):
    """Whether the digit is a prime number.

    >>> Prime.answers[7]
    1
    """

    answers = (0, 0, 1, 1, 0, 1, 0, 1, 0, 0)
