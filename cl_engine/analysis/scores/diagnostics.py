"""What a net's units and weights were like before each experience, from logs that hold it (`agenda.diagnose_every`)."""

from __future__ import annotations

import numpy as np

from cl_engine.results.run import Run

Array = np.ndarray
OF_UNITS = ("dead", "dormant", "linearised")
RANKS = ("effective_rank", "stable_rank", "rank_99", "rank_99_squares")


def diagnostics_of(run: Run, name: str) -> tuple[Array, Array]:
    """Return the experiences at whose start the net was looked at ``[n]``, and a number of the whole net there ``[n, S]``.

    Layers are put together as in the literature (Dohare et al. 2024): shares of units over the units of all layers, a rank as
    the sum of the layers' ranks over all their units, ``weight_mean`` over all weights, and norms as of one vector.
    """
    seeds = run.results["seed"].values
    if not run.tables.get("diagnostics"):
        return np.empty(0, dtype=int), np.empty((0, len(seeds)))
    table = run.table("diagnostics")
    table = table[table[name].notna()]
    values, units = table[name].astype(float), table["units"].astype(float)
    if name in OF_UNITS:
        parts, weights = values * units, units
    elif name in RANKS:
        parts, weights = values, units
    elif name == "weight_mean":
        weights = table["weights"].astype(float)
        parts = values * weights
    else:
        parts, weights = values**2, values * 0 + 1
    sums = table.assign(part=parts, weight=weights).groupby(["step", "seed"])[["part", "weight"]].sum()
    joined = sums["part"] / sums["weight"] if name in (*OF_UNITS, *RANKS, "weight_mean") else np.sqrt(sums["part"])
    wide = joined.unstack("seed").reindex(columns=seeds)
    return wide.index.to_numpy(dtype=int), wide.to_numpy()
