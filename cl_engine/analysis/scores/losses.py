"""Training losses of a run, experience by experience."""

from __future__ import annotations

import numpy as np

from cl_engine.results.run import Run


def training_losses(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """Return experiences, counted from 1 ``[E]``, and the training loss of each ``[E, S]``; None if no losses were logged.

    It is the mean loss over the rows of the last epoch of its first fit, which is that of the task's own rows.
    """
    if not run.tables.get("epochs"):
        return None
    table = run.table("epochs")
    table = table[np.isfinite(table["loss"].astype(float))]
    if table.empty:
        return None
    table = table[table["fit"] == table.groupby("step")["fit"].transform("min")]
    table = table[table["epoch"] == table.groupby("step")["epoch"].transform("max")]
    wide = table.pivot_table(index="step", columns="seed", values="loss", aggfunc="mean")
    wide = wide.reindex(columns=run.results["seed"].values)
    return wide.index.to_numpy(dtype=int) + 1, wide.to_numpy(dtype=float)
