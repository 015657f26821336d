"""Reading logs: labelled arrays and tables from the HDF5 file alone, without torch."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cl_engine.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT, MAJOR = "cl-engine-run", 1


def open_run(path: str | Path) -> Run:
    """Open the log of a run: its folder, or the ``log.h5`` in it.

    Raises:
        UsageError: if there is none, it is not one of ours, or a newer program wrote it.
    """
    file = Path(path)
    file = file / "log.h5" if file.is_dir() else file
    if not file.is_file():
        raise UsageError(f"there is no log at {file}: give a run's folder or its log.h5")
    try:
        with h5py.File(file, "r", locking=False) as opened:
            attributes = {name: value for name, value in opened.attrs.items() if isinstance(value, str)}
    except OSError as error:
        raise UsageError(f"{file} cannot be read as HDF5: {error}") from None
    if attributes.get("format") != FORMAT:
        raise UsageError(f"{file} is not the log of a cl-engine run: its format is {attributes.get('format')!r}")
    major = attributes.get("format_version", "").split(".")[0]
    if not major.isdigit() or int(major) > MAJOR:
        raise UsageError(
            f"{file} has format version {attributes.get('format_version')!r}; this program reads up to {MAJOR}: update it"
        )
    return Run(file, attributes)


class Run:
    """A log: what was measured (``results``), tables, and the experiment that was run."""

    def __init__(self, path: Path, attributes: dict[str, str]) -> None:
        self.path, self.attributes = path, attributes

    @property
    def strategy(self) -> str:
        return self.attributes["strategy"]

    @property
    def scenario(self) -> str:
        return self.attributes["scenario"]

    @property
    def status(self) -> str:
        """One of running, stopped, failed, finished."""
        return self.attributes["status"]

    @cached_property
    def results(self) -> xr.Dataset:
        """The group ``results``, in memory: R, scores, memory and seconds, labelled."""
        import xarray as xr  # 1 s to import: only when used

        with xr.open_dataset(self.path, engine="h5netcdf", group="results") as opened:
            return opened.load()

    def table(self, name: str) -> pd.DataFrame:
        """Return a flat table: ``epochs``, ``experiences``, ``curves`` or ``events``."""
        import pandas as pd

        with h5py.File(self.path, "r", locking=False) as file:
            if name not in file or "row" not in file[name]:
                tables = [key for key in file if "row" in file[key]]
                raise UsageError(f"{self.path} has no table '{name}'; there are: {', '.join(tables)}")
            columns = {key: _column(data) for key, data in file[name].items() if key != "row"}
        return pd.DataFrame(columns)

    @cached_property
    def environment(self) -> dict[str, str]:
        """Versions, device, command, and the experiment and scenario as text."""
        with h5py.File(self.path, "r", locking=False) as file:
            return {name: data[()].decode() for name, data in file["environment"].items()}

    @cached_property
    def experiment(self) -> dict[str, Any]:
        """The experiment in full, every option resolved."""
        found: dict[str, Any] = json.loads(self.environment["experiment"])
        return found

    @cached_property
    def learned(self) -> np.ndarray:
        """The experience at which each task was learned first, −1 if not yet; ``[T]``."""
        first = np.full(self.results.sizes["task"], -1)
        for step, task in reversed(list(enumerate(self.results["experience_task"].values))):
            first[task] = step
        return first

    @property
    def final(self) -> xr.Dataset | None:
        """The scores of the last evaluation that tested all tasks met; None if there is none yet."""
        measured = np.flatnonzero(np.isfinite(self.results["acc"].values).any(axis=1))
        return self.results.isel(evaluation=int(measured[-1])) if len(measured) else None


def _column(data: h5py.Dataset) -> Any:
    return data.asstr()[:] if h5py.check_string_dtype(data.dtype) else data[:]
