"""What a guest is told of the arrivals so far: which classes each had, and, for joint training, its rows."""

from __future__ import annotations

from typing import Any

import torch

from cl_engine.core.state import State
from cl_engine.data.augmentation import Augmentation
from cl_engine.data.stream import Data, Experience, Setting
from cl_engine.nn.net import Net


def counted(before: State, experience: Experience, outputs: int, rows: bool) -> State:
    """Return the part of a state that tells of all arrivals, this one added; its rows too where ``rows`` asks for them.

    ``classes [1, arrivals, outputs]``, ``tasks [1, arrivals]``, ``rows [1, arrivals]`` (how many), ``x`` and ``y [1, N, …]``.
    """
    x, y = experience.train.x, experience.train.y
    there = torch.zeros(1, 1, outputs, dtype=torch.uint8)
    there[0, 0, y.unique().cpu()] = 1
    new = {"classes": there, "tasks": torch.tensor([[experience.task_id]]), "rows": torch.tensor([[len(y)]])}
    if rows:
        new |= {"x": x.unsqueeze(0), "y": y.unsqueeze(0)}
    return {name: torch.cat([before[name].to(own.device), own], dim=1) if before else own for name, own in new.items()}


def benchmark_of(
    met: State, experience: Experience, net: Net, setting: Setting, augmentation: Augmentation
) -> tuple[Any, list[int]]:
    """Return Avalanche's view of all arrivals so far, and which of them are to be trained on.

    Classes not yet met stand in one last experience without rows, for strategies that count them.
    """
    from cl_engine.interop.tensor_benchmark import Rows, TensorBenchmark

    classes = [row.nonzero().flatten().tolist() for row in met["classes"][0]]
    tasks = met["tasks"][0].tolist()
    last = len(tasks) - 1
    rest = sorted(set(range(net.outputs)).difference(*classes))
    labels = [task if setting == "task" else 0 for task in [*tasks, *([tasks[-1]] if rest else [])]]
    prepared = {last: experience.train}
    steps = [last]
    if "x" in met:
        sizes = met["rows"][0].tolist()
        parts = zip(met["x"][0].split(sizes), met["y"][0].split(sizes), strict=True)
        prepared, steps = dict(enumerate(Data(x, y) for x, y in parts)), list(range(last + 1))

    def rows(index: int) -> Data:
        return Data(net.prepare(prepared[index].x), prepared[index].y)

    shown = augmentation.one_by_one(net.pad_value(experience.train.x.dtype))
    return TensorBenchmark(Rows(rows, labels, [*classes, *([rest] if rest else [])], shown)), steps


def classes_of(met: State, task_id: int | None, outputs: int) -> list[int]:
    """Return the classes that a task is known to have (None: any of those met); all there are, for one not yet met."""
    of_it = [k for k, task in enumerate(met["tasks"][0].tolist()) if task_id in (None, task)] if met else []
    if not of_it:
        return list(range(outputs))
    found: list[int] = met["classes"][0, of_it].any(dim=0).nonzero().flatten().tolist()
    return found
