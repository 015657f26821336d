"""The columns of a log's tables that its readers count on."""

from __future__ import annotations

# what readers of a table count on; newer columns are asked for
COLUMNS: dict[str, tuple[str, ...]] = {
    "epochs": ("step", "task", "fit", "epoch", "seed", "loss", "seconds"),
    "experiences": ("step", "task", "rows", "memory", "seconds"),
    "curves": ("step", "task", "batch", "epoch", "seed", "n_correct", "n_total"),
    "stability": ("step", "task", "batch", "epoch", "seed", "n_correct", "n_total"),
    "online": ("step", "task", "fit", "epoch", "batch", "seed", "rows", "score"),
    "events": ("event", "step", "kind", "name", "seed", "value"),
    "diagnostics": ("step", "task", "layer", "units", "weights", "seed", "dead", "effective_rank", "weight_mean"),
    "metrics": ("step", "evaluation", "task", "metric", "seed", "value"),
    "metric_sums": ("step", "evaluation", "task", "metric", "seed", "place", "value"),
    "transfers": ("step", "task", "sources", "kind", "labels", "seed", "score", "rows"),
    "outcomes": ("step", "loss", "error"),
}
NAMES = ("kind", "name", "sources", "layer", "metric")  # the columns of texts
