"""Numbers in the pages stand in the outputs that were kept of the commands that measured them.

Above a table, list or paragraph with measured numbers a page says where they stand, ``<!-- output: benchmarks/output/x.txt -->``.
Each number with decimals or thousands in it, but for those in code and in a table's first column, is found there, rounded as
printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OUTPUT, NONE = re.compile(r"^<!-- output: (.+) -->$"), "<!-- no output was kept -->"
SAID = re.compile(
    r"(?<![\w.,])(?P<sign>[+−-]?)(?P<number>\d{1,3}(?:,\d{3})+|\d*\.\d+)(?P<unit> %| kB| MB)?(?![\w.]*\w)(?! (?:ms|s)\b)"
)
UNITS = {" %": (1.0, 0.01), " kB": (1e3, 1.0), " MB": (1e6, 1.0), None: (1.0,)}


def blocks(page: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, mark (the line before; empty where it is no comment) and text of tables, and of marked blocks."""
    lines = page.splitlines()
    start = 0
    while start < len(lines):
        end = start + 1
        if lines[start] and not lines[start].startswith("<!--"):
            while end < len(lines) and lines[end] and not lines[end].startswith("<!--"):
                end += 1
            before = next((line for line in reversed(lines[:start]) if line), "")
            yield start + 1, before if before.startswith("<!--") else "", "\n".join(lines[start:end])
        start = end


def said(block: str) -> Iterator[tuple[str, float, int, tuple[float, ...]]]:
    """Yield the measured numbers of a block: as printed, value, decimals, and what it may be a multiple of."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|!\[[^]]*\]", " ", block)
    lines = text.splitlines()
    if lines[0].startswith("|"):
        lines = ["|".join(line.split("|")[2:]) for line in lines[2:]]
    for found in SAID.finditer("\n".join(lines)):
        number = found["number"].replace(",", "")
        value = float(number) * (-1 if found["sign"] in ("−", "-") else 1)
        yield found[0].strip(), value, len(number.partition(".")[2]), UNITS[found["unit"]]


def held(output: str) -> list[float]:
    """Return all numbers in an output."""
    found = re.findall(r"(?<![\w.])[+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:e[+-]?\d+)?(?![\d])", output)
    return [float(text.replace(",", "").replace("−", "-")) for text in found if re.search(r"\d", text)]


def missing(block: str, outputs: list[str]) -> list[str]:
    """Return the numbers of a block that no output has."""
    numbers = [number for output in outputs for number in held(output)]
    return [
        text
        for text, value, decimals, factors in said(block)
        if not any(
            abs(number / factor - value) <= 0.5000001 * 10**-decimals for factor in factors for number in numbers
        )
    ]


def test_a_number_that_an_output_does_not_have_is_found_out():
    table = "| a .3 | b |\n|---|---|\n| .5 | .123 ± .002, 1,700, `.9` |\n| | −.04 or 73 % or 1.7 MB |"
    assert missing(table, ["x 0.1234 +- 0.0016, 1700 -0.0413 0.73 1,703,111"]) == []
    assert missing(table, ["x 0.1236 +- 0.0016, 1700 0.0413 0.74 1,603,111"]) == [".123", "−.04", "1.7 MB"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_measured_numbers_stand_in_the_outputs_that_a_page_names(page: Path):
    odd = []
    for line, mark, block in blocks(page.read_text(encoding="utf-8")):
        if named := OUTPUT.match(mark):
            outputs = [(ROOT / name).read_text(encoding="utf-8") for name in named[1].split()]
            odd += [f"{page.name}:{line}: {number} is not in {named[1]}" for number in missing(block, outputs)]
        elif block.startswith("|") and mark != NONE and any(said(block)):
            odd.append(f"{page.name}:{line}: a table with measured numbers names no output")
    assert not odd, "\n".join(odd)
