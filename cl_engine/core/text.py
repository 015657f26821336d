"""Numbers and names as people read them, safe to print."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
HIDDEN = ("Cc", "Cf", "Co", "Cs")  # control and format signs, private use, halves of pairs
FORMULA = re.compile(r"[=+\-@\t\r]")  # how formulas begin (OWASP: CSV injection)
UNDEFINED = "–"
LONGEST = 2000  # letters of an error


def clean(text: str) -> str:
    """Return a text from a log without what could move a terminal's cursor or turn the direction of writing."""
    text = CONTROL.sub("", text)
    return text if text.isascii() else "".join(sign for sign in text if unicodedata.category(sign) not in HIDDEN)


def encodable(text: str) -> str:
    """Return a text that UTF-8 and HDF5 can hold; bytes of a file's name that are no UTF-8 become ``\\udcff``."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def sentence(text: str) -> str:
    """Return an error on one line, safe to print; what is very long, because it tells what was found, is cut in the middle."""
    line = clean(" ".join(encodable(text).split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


def cell(text: str) -> str:
    """Return a text that a spreadsheet shows and does not run: what it would take for a formula begins with ``'``."""
    return f"'{text}" if FORMULA.match(text) else text


def number(value: float, digits: int = 3, signed: bool = False) -> str:
    """Return a score, ``–`` where it is undefined."""
    if not math.isfinite(value):
        return UNDEFINED
    return f"{value:{'+' if signed else ''}.{digits}f}"


def with_interval(mean: float, half: float, signed: bool = False) -> str:
    """Return a mean with the half width of its confidence interval, where there is one."""
    text = number(mean, signed=signed)
    return f"{text} ± {half:.3f}" if math.isfinite(mean) and math.isfinite(half) else text


def duration(seconds: float) -> str:
    """Return a duration as people say it: ``0.2 s``, ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if not math.isfinite(seconds):
        return UNDEFINED
    if seconds < 10 and seconds != round(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Return a number of bytes with its unit: ``512 B``, ``1.2 MB``."""
    if not math.isfinite(count):
        return UNDEFINED
    return _scaled(count, ("B", "kB", "MB", "GB"))


def flops(count: float) -> str:
    """Return a number of operations with its unit: ``512 FLOP``, ``1.2 GFLOP``."""
    if not math.isfinite(count):
        return UNDEFINED
    return _scaled(count, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"))


def _scaled(count: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == units[0] else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {units[-1]}"
