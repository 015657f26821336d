"""Online scores: how rows were answered by the forward pass that trained on them, from logs that hold it (format 2.1)."""

from __future__ import annotations

import numpy as np

from cl_engine.results.run import Run

Array = np.ndarray


def online_scores(run: Run) -> Array:
    """Return the online score of each experience ``[E, S]``: the mean over the rows of its first fit that was scored.

    Epochs count alike: with several, rows are scored as often as they are learned. The mean over experiences is the total
    average online accuracy (Kumar et al. 2023). NaN where nothing was scored.
    """
    seeds, found = (
        run.results["seed"].values,
        np.full((run.results.sizes["experience"], run.results.sizes["seed"]), np.nan),
    )
    if not run.tables.get("online"):
        return found
    table = run.table("online")
    table = table[table["score"].notna() & (table["step"] < len(found))]
    table = table[table["fit"] == table.groupby("step")["fit"].transform("min")]
    table = table.assign(right=table["score"] * table["rows"])
    sums = table.groupby(["step", "seed"])[["right", "rows"]].sum()
    wide = (sums["right"] / sums["rows"]).unstack("seed").reindex(columns=seeds)
    found[wide.index.to_numpy(dtype=int)] = wide.to_numpy()
    return found
