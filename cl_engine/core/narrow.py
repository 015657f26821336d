"""Lines and tables on terminals that are narrower than they are: what has no room stands below, and nothing is cut off."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

LEAST = 12  # cells that a column of words is left with before a table is taken apart
NARROWEST = 20  # cells beside a label, below which a text stands under it


def flow(parts: Iterable[Text], width: int, gap: int = 2, indent: int = 0) -> Text:
    """Return parts one after the other, on as many lines as they need; empty ones are left out, one that is too long folds.

    >>> print(flow([Text("ACC 0.912"), Text(""), Text("BWT -0.020"), Text("2 min 5 s left")], width=24))
    ACC 0.912  BWT -0.020
    2 min 5 s left
    """
    lines: list[Text] = []
    for part in parts:
        if not part.plain:
            continue
        if lines and lines[-1].cell_len + gap + part.cell_len <= width:
            lines[-1].append(" " * gap).append_text(part)
        else:
            lines.append(Text(" " * (indent if lines else 0)).append_text(part))
    return Text("\n").join(lines)


def bar(share: float, width: int) -> Text:
    """Return a bar of ``width`` cells, a share of which is full."""
    full = round(width * min(1.0, share))
    return Text("━" * full, style="green").append_text(Text("━" * (width - full), style="dim"))


def fitted(table: Table, out: Console) -> RenderableType:
    """Return a table as it is where it has room; where not, each of its rows as a block of lines with the heads beside.

    Columns of words may fold, down to `LEAST` cells; those that may not (``no_wrap``) need the room of their longest cell.
    """
    gap = 2 * (len(table.columns) - 1)
    if sum(_needed(column) for column in table.columns) + gap <= out.width:
        return table
    heads = [str(column.header) for column in table.columns]
    rows: list[Text] = []
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *rest = (_as_text(cell) for cell in cells)
        held = [
            Text(f"{head} ", style="dim").append_text(cell) for head, cell in zip(heads[1:], rest, strict=True) if cell
        ]
        rows.append(Text("\n").join([first, Text("  ").append_text(flow(held, out.width, indent=2))]))
    return Group(*rows)


def labelled(rows: Sequence[tuple[str, str]], width: int = 22) -> list[str]:
    """Return lines of a label and a text each; on a narrow terminal the text goes on below itself, or stands under its label.

    Where the output is no terminal each row is one line, for programs that read them.
    """
    lines: list[str] = []
    for label, text in rows:
        row, room = f"{label:<{width}} {text}", terminal_width()
        beside = room is not None and room - width > NARROWEST and len(label) <= width
        if room is None or len(row) <= room:
            lines.append(row)
        elif beside:
            lines += folded(row, width + 1)
        else:
            lines += [*folded(label, 4), *folded(f"    {text}", 4)]
    return lines


def folded(line: str, indent: int) -> list[str]:
    """Return a line as several where the terminal is narrower; the second and all that follow begin with ``indent`` blanks."""
    room = terminal_width()
    if room is None or len(line) <= room:
        return [line]
    begin = line[: len(line) - len(line.lstrip())]
    head, rest = line[:indent], line[indent:]
    if len(head) == indent and head.endswith(" ") and head.strip():  # what stands beside a label keeps its blanks
        first, *others = textwrap.wrap(rest, room - indent, break_on_hyphens=False) or [""]
        return [head + first, *(" " * indent + each for each in others)]
    return textwrap.wrap(
        line.strip(), room, initial_indent=begin, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def terminal_width() -> int | None:
    """Return the width of the terminal in cells; None where the output is none."""
    return max(NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def _needed(column: Column) -> int:
    longest = max(cell_len(line) for cell in (column.header, *column.cells) for line in (str(cell).split("\n") or [""]))
    return longest if column.no_wrap else min(longest, LEAST)


def _as_text(cell: RenderableType) -> Text:
    return Text(" ").join((cell if isinstance(cell, Text) else Text(str(cell))).split("\n"))
