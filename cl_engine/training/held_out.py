"""What is learned, tested on the validation rows of its task: told in a log, and read from it to measure other losses by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import StrategyEvent
from cl_engine.nn.target import Target
from cl_engine.targets.classes import other_than_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutTested(StrategyEvent):
    """What was learned answered the validation rows of its task: the mean loss, and the share answered wrong, by seed.

    The share is NaN where the task does not ask for classes.

    >>> event = HeldOutTested(step=3, task_id=2, loss=(0.4, 0.3), error=(0.1, 0.2))
    >>> event.error
    (0.1, 0.2)
    """

    task_id: int
    loss: tuple[float, ...]
    error: tuple[float, ...]


def held_out_tested(answer: Callable[[Tensor], Tensor], target: Target, experience: Experience) -> HeldOutTested:
    """Return what the outputs ``[S, N, O, …]`` of ``answer(x)`` come to on the validation rows of an experience.

    Where each seed has rows of its own (``per_seed``), it is asked about these.
    """
    rows, target = experience.validation, target.smoothed(0.0)
    if rows.of_seeds is None:
        told = [(own, rows.y) for own in answer(rows.x)]
    else:
        each = [rows.of(place) for place in range(len(rows.of_seeds.lenses))]
        told = [(answer(x)[place], y) for place, (x, y) in enumerate(each)]
    losses = [float(target.losses(own, y).mean()) for own, y in told]
    of_classes = other_than_classes([target]) is None
    wrong = [float((target.answers(own) != y).float().mean()) if of_classes else np.nan for own, y in told]
    return HeldOutTested(step=experience.step, task_id=experience.task_id, loss=tuple(losses), error=tuple(wrong))


def logged_losses(run: str, stream: Stream, name: str) -> Tensor:
    """Return the last ``loss`` or ``error`` on validation rows of each task of a stream ``[T]``, as the log of a run tells it.

    Tasks are found by name; of several seeds it is the mean.

    Raises:
        UsageError: if the stream has no end, names do not tell tasks apart, or the log does not tell of one of them.
    """
    from cl_engine.results.run import open_run  # reads with pandas, which takes longer to import than a run to start

    if stream.n_tasks is None:
        raise stream.refuse_endless("strategy.losses_from looks tasks up by name in the log of a run")
    log = open_run(Path(run))
    table: Any = log.table("events")
    table = table[table["kind"] == "HeldOutTested"]
    if table.empty:
        raise UsageError(
            f"strategy.losses_from: {run} tells of no validation rows: take a run of `independent` with stream.validation"
        )
    by_event = table.pivot_table(index="event", columns="name", values="value", aggfunc="mean")
    of_task = dict(zip(by_event["task_id"].astype(int), by_event[name], strict=True))
    names = [str(known) for known in log.results["task_name"].values]
    found = {names[task]: value for task, value in of_task.items()}
    wanted = [stream.name_of(task) for task in range(stream.n_tasks)]
    twice = next((task for task in wanted if max(wanted.count(task), names.count(task)) > 1), None)
    if twice is not None:
        raise UsageError(f"strategy.losses_from: tasks are found by name, and several are called '{twice}'")
    odd = next((task for task in wanted if not np.isfinite(found.get(task, np.nan))), None)
    if odd is not None:
        raise UsageError(f"strategy.losses_from: {run} has no {name} of '{odd}'; it has those of: {', '.join(found)}")
    return torch.tensor([found[task] for task in wanted], dtype=torch.float32)
