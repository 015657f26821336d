"""CSV: a file for each table, R with a row for each measured cell, and the experiment as JSON."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cl_engine.core.text import cell
from cl_engine.export import frames
from cl_engine.results.run import Run


def export(run: Run, folder: Path) -> None:
    """Write ``accuracy.csv`` (of other measures ``score.csv``), ``scores.csv``, … and ``run.json`` into a folder.

    No text and no head begins like a formula.
    """
    for number, block in enumerate(frames.accuracy(run)):
        _write(block, folder / f"{frames.cells_name(run)}.csv", first=number == 0)
    for name, table in frames.tables(run).items():
        _write(table, folder / f"{name}.csv", first=True)
    (folder / "run.json").write_text(frames.about(run), encoding="utf-8")


def _write(table: pd.DataFrame, path: Path, first: bool) -> None:
    shown = table.copy()
    for column in shown.columns:
        if not pd.api.types.is_numeric_dtype(shown[column]):
            shown[column] = [cell(str(text)) for text in shown[column]]
    shown.columns = pd.Index([cell(str(column)) for column in shown.columns])
    shown.to_csv(path, mode="w" if first else "a", header=first, index=False)
