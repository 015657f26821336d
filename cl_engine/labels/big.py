"""Whether a digit is five or more."""

from __future__ import annotations

from cl_engine.data.label_function import DigitRule


class Big(DigitRule):
    """Whether the digit is five or more.

    >>> Big.answers[7]
    1
    """

    answers = (0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
