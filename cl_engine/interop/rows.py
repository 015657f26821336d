"""Rows of an Avalanche data set as tensors, and tensors as an Avalanche data set."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.errors import UsageError
from cl_engine.interop.lazy_import import attribute
from cl_engine.interop.randomness import drawing

Group = Literal["train", "eval"]
PROBED = 4  # rows looked at to find out whether a transformation is random
TRIES = (1, 2, 3, 4)


def labels_of(dataset: Any) -> np.ndarray:
    """Return the class of each row, ``[N]``, without reading the rows.

    Raises:
        UsageError: for a label that is not a whole number.
    """
    return _whole(dataset.targets, "labels")


def task_labels_of(dataset: Any) -> np.ndarray:
    """Return the task label of each row, ``[N]``; 0 where the data set has none."""
    found = getattr(dataset, "targets_task_labels", None)
    if found is None:
        return np.zeros(len(dataset), dtype=np.int64)
    return _whole(found, "task labels")


def _whole(given: Any, what: str) -> np.ndarray:
    """Return whole numbers as int64; a `UsageError` for what would become another number."""
    found = np.asarray(list(given))
    if found.size == 0 or found.dtype.kind == "b":
        return found.astype(np.int64)
    if found.ndim == 1 and found.dtype.kind in "iuf":
        odd = found[~((found == np.rint(found)) & (np.abs(found.astype(np.float64)) < 2.0**63))]
        if not len(odd):
            return found.astype(np.int64)
        raise UsageError(f"the benchmark's {what} must be whole numbers, found {odd[0]}")
    raise UsageError(
        f"the benchmark's {what} must be whole numbers, a row each, found {found.dtype} of shape {found.shape}"
    )


def inputs_of(dataset: Any, index: Sequence[int], group: Group, seed: int = 0) -> Tensor:
    """Return the inputs of these rows ``[N, …]`` as the transformations of ``group`` show them.

    Random transformations draw from ``seed``, so that the same call gives the same tensor.

    Raises:
        UsageError: for rows that are not tensors, differ in shape, or hold numbers that float32 does not have.
    """
    shown = dataset.with_transforms(group)
    with drawing(seed):
        rows = [shown[int(row)][0] for row in index]
    odd = next((row for row in rows if not isinstance(row, Tensor | np.ndarray | float | int)), None)
    if odd is not None:
        raise UsageError(
            f"the benchmark gives inputs of type {type(odd).__name__}; tensors are needed: end its transformations of "
            f"the group '{group}' with torchvision.transforms.ToTensor()"
        )
    tensors = [torch.as_tensor(row) for row in rows]
    shapes = {tuple(row.shape) for row in tensors}
    if len(shapes) > 1:
        raise UsageError(f"the benchmark gives inputs of several shapes, {sorted(shapes)[:2]}: bring them to one")
    stacked = torch.stack(tensors) if tensors else torch.empty(0)
    return stacked if stacked.dtype == torch.uint8 else _as_float32(stacked)


def _as_float32(x: Tensor) -> Tensor:
    """Return inputs as float32; a `UsageError` for complex and infinite ones, NaN, and whole numbers too large to stay so."""
    if x.is_complex():
        raise UsageError(
            f"the benchmark gives inputs of type {x.dtype}; real numbers are needed: torch.view_as_real makes two of each"
        )
    found = x.to(torch.float32)
    if not found.isfinite().all():
        raise UsageError("the benchmark gives inputs that are not finite numbers, or too large for float32")
    if not x.is_floating_point() and x.numel() and float(largest := x.to(torch.float64).abs().max()) > 2**24:
        raise UsageError(
            f"the benchmark gives whole numbers up to {int(largest)} as inputs; float32 tells them apart up to {2**24}"
        )
    return found


def is_random(dataset: Any, group: Group) -> bool:
    """Return whether the transformations of a group show the same row differently from time to time."""
    index = random.Random(0).sample(range(len(dataset)), min(PROBED, len(dataset)))
    first = inputs_of(dataset, index, group, seed=0)
    return any(not torch.equal(first, inputs_of(dataset, index, group, seed=seed)) for seed in TRIES)


def by_class(labels: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each class, in the order in which they are given."""
    return [rows[labels[rows] == label] for label in np.unique(labels[rows])]


def of_each_class(labels: np.ndarray, rows: np.ndarray, most: int | None) -> np.ndarray:
    """Return the first rows of each class, up to the limit, in ascending order."""
    kept = [own[:most] for own in by_class(labels, rows)]
    return np.sort(np.concatenate(kept)) if kept else rows


def dataset_of(
    x: Tensor,
    y: Tensor,
    task_label: int | Tensor,
    more: Mapping[str, Tensor] | None = None,
    shown: Callable[[Tensor], Tensor] | None = None,
) -> Any:
    """Return an Avalanche data set of rows ``x [N, …]``, labels ``y [N]`` and task labels (one, or ``[N]``).

    ``more`` holds further tensors ``[N, …]`` that come with every row, by name; ``shown`` is what training shows of a row.
    """
    utils = "avalanche.benchmarks.utils"
    groups = None if shown is None else {"train": (shown, None), "eval": (None, None)}
    make = partial(attribute(utils, "_make_taskaware_tensor_classification_dataset"), transform_groups=groups)
    labels = [task_label] if isinstance(task_label, int) else task_label.tolist()
    if len(set(labels)) < 2:
        found = make(x.cpu(), y.cpu(), task_labels=labels[0] if labels else 0)
    else:  # in two, the first a constant: Avalanche fails to join a constant to what is one list
        halves = [
            make(x[:1].cpu(), y[:1].cpu(), task_labels=labels[0]),
            make(x[1:].cpu(), y[1:].cpu(), task_labels=labels[1:]),
        ]
        found = attribute("avalanche.benchmarks.utils.utils", "concat_datasets")(halves)
    if not more:
        return found
    kind = attribute("avalanche.benchmarks.utils.data_attribute", "TensorDataAttribute")
    flat = attribute("avalanche.benchmarks.utils.flat_data", "FlatData")
    given = [kind(flat([list(rows.cpu())]), name=name, use_in_getitem=True) for name, rows in more.items()]
    return attribute(utils, "make_avalanche_dataset")(found, data_attributes=given)


def tensors_of(dataset: Any) -> dict[str, Tensor]:
    """Return all rows that an Avalanche data set holds: ``x``, ``y``, ``t`` and what else comes with a row, by name."""
    y, t = torch.from_numpy(labels_of(dataset)), torch.from_numpy(task_labels_of(dataset))
    x = inputs_of(dataset, range(len(dataset)), "eval")
    attributes = dataset._data_attributes.values()
    extra = [a for a in attributes if a.name not in ("targets", "targets_task_labels") and a.use_in_getitem]
    return {"x": x, "y": y, "t": t, **{a.name: torch.stack([torch.as_tensor(v) for v in a]) for a in extra}}
