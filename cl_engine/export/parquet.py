"""Parquet: a file for each table, R with a row for each measured cell, for pandas, Polars, DuckDB, Spark."""

from __future__ import annotations

from pathlib import Path

from cl_engine.export import frames
from cl_engine.export.needed import needed
from cl_engine.results.run import Run


def export(run: Run, folder: Path) -> None:
    """Write ``accuracy.parquet`` (of other measures ``score.parquet``), ``scores.parquet``, … into a folder.

    What was run is in the metadata of each, as JSON.

    Raises:
        UsageError: if pyarrow is not installed.
    """
    arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
    metadata = {"cl-engine-run": frames.about(run)}
    writer = None
    for block in frames.accuracy(run):
        table = arrow.Table.from_pandas(block, preserve_index=False).replace_schema_metadata(metadata)
        writer = writer or parquet.ParquetWriter(folder / f"{frames.cells_name(run)}.parquet", table.schema)
        writer.write_table(table.cast(writer.schema))
    if writer is not None:
        writer.close()
    for name, frame in frames.tables(run).items():
        table = arrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(metadata)
        parquet.write_table(table, folder / f"{name}.parquet")
