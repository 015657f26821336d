"""netCDF-4: one file, the labelled arrays in the group results and each table in a group of its own."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from cl_engine.export import frames
from cl_engine.results.run import Run


def export(run: Run, folder: Path) -> None:
    """Write ``run.nc`` into a folder: ``results``, a group a table along ``row``, and what was run as attributes."""
    tables = {
        name: xr.Dataset({column: ("row", table[column].to_numpy()) for column in table})
        for name in run.tables
        for table in [run.table(name)]
    }
    groups = {
        "/": xr.Dataset(attrs={**run.attributes, "experiment": frames.about(run)}),
        "/results": run.results.load(),
    }
    tree = xr.DataTree.from_dict({**groups, **{f"/{name}": table for name, table in tables.items()}})
    tree.to_netcdf(folder / "run.nc", engine="h5netcdf")
