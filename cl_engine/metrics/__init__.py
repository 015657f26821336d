"""Scores of the accuracy matrix R by their published definitions, and the running ledger of a run."""

from cl_engine.metrics.matrix_scores import (
    acc,
    bwt,
    diagonal,
    forgetting,
    fwt,
    intransigence,
    lca,
    learning_accuracy,
    learning_curve_area,
    model_size_efficiency,
    transfer,
)

__all__ = [
    "acc",
    "bwt",
    "diagonal",
    "forgetting",
    "fwt",
    "intransigence",
    "lca",
    "learning_accuracy",
    "learning_curve_area",
    "model_size_efficiency",
    "transfer",
]
