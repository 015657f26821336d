"""An estimate of what a run takes, made by starting it: agenda, sizes, time and disk."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cl_engine.core.gpu import is_gpu
from cl_engine.core.state import bytes_by_part
from cl_engine.core.text import duration, size
from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import Evaluate, Item, Learn, Save, plan
from cl_engine.engine.loop import simulate
from cl_engine.events import EpochEnded, Progress, Scored, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.runs.cost import Cost, Mark
from cl_engine.runs.devices import resolved_device
from cl_engine.runs.metrics import metrics_of
from cl_engine.runs.resource_errors import explained
from cl_engine.strategy import Strategy
from cl_engine.training.optimizers import Train
from cl_engine.training.pretraining import Backbone

PATIENCE = 5.0  # seconds of training the estimate is made from
LONGEST = 4 * PATIENCE  # seconds after which no other target is tried
TRIED = 12  # most experiences it is made from
CELL_BYTES = 12  # n_correct, n_total and accuracy of one task and seed
SCORE_BYTES, SUM_BYTES = 4, 8  # where they are not all accuracy


@dataclass(frozen=True)
class Need:
    """The estimated needs of a run, as far as its first experiences tell.

    >>> Need(seconds=90.0, experiences=10, log=2**20, checkpoint=2**20, gpu=0).seconds
    90.0

    Attributes:
        seconds: from start to end; NaN where the stream has no end.
        experiences: how many there are; 0 where the stream has no end.
        log, checkpoint: most bytes on disk, and at the first experience.
        gpu: most bytes of the GPU held for tensors, also between them; 0 on a CPU.
    """

    seconds: float
    experiences: int
    log: int
    checkpoint: int
    gpu: int


def need(experiment: Experiment, device: str, data_root: Path | None) -> Need:
    """Return what a run would take, from some seconds of training.

    Raises:
        UsageError: for what would fail.
        RunFailed: for memory that cannot be had.
    """
    with explained(Train(**experiment.resolved["train"]), len(experiment.seeds), "", go_on=""):
        return _need(experiment, device, data_root)


def _need(experiment: Experiment, device: str, data_root: Path | None) -> Need:
    stream = _opened(experiment, device, data_root)
    backbone = experiment.backbone(stream, data_root)
    strategy = experiment.build_strategy(stream, backbone)
    metrics_of(experiment.agenda.metrics, stream)
    cost = measured(stream, strategy, tried=1, validation=experiment.agenda.validation)
    cost = replace(cost, of_targets=_by_targets(experiment, stream, backbone, data_root))
    gpu = _held(stream)
    if stream.n_steps is None:
        return Need(math.nan, 0, 0, _state(cost, strategy), gpu)
    items = list(plan(stream, experiment.agenda))
    learning, testing = _seconds(items, stream, strategy, cost)
    return Need(learning + testing, stream.n_steps, _log(items, stream, strategy), _state(cost, strategy), gpu)


def _opened(experiment: Experiment, device: str, data_root: Path | None) -> Stream:
    """Return the stream; of a GPU's memory, what earlier jobs of this process have held is no longer counted."""
    stream = experiment.stream(resolved_device(device), data_root)
    if is_gpu(stream.device):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(stream.device)
    return stream


def _held(stream: Stream) -> int:
    """Return the most bytes of the GPU that have been held since, also between tensors; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(stream.device) if is_gpu(stream.device) else 0


def check_experiment(experiment: Experiment, device: str, data_root: Path | None) -> list[tuple[str, str]]:
    """Return lines about what a run would do and take; raises what `need` does."""
    with explained(Train(**experiment.resolved["train"]), len(experiment.seeds), "", go_on=""):
        return _lines(experiment, device, data_root)


def _lines(experiment: Experiment, device: str, data_root: Path | None) -> list[tuple[str, str]]:
    stream = _opened(experiment, device, data_root)
    backbone = experiment.backbone(stream, data_root)
    strategy = experiment.build_strategy(stream, backbone)
    metrics_of(experiment.agenda.metrics, stream)
    cost = measured(stream, strategy, validation=experiment.agenda.validation)
    cost = replace(cost, of_targets=_by_targets(experiment, stream, backbone, data_root))
    endless = stream.n_steps is None
    items = list(plan(stream, experiment.agenda)) if not endless else []
    lines = [
        ("scenario", f"{experiment.scenario}, strategy {experiment.strategy}, {len(experiment.seeds)} seed(s)"),
        ("device", str(stream.device)),
        ("stream", _stream(stream)),
        ("net", f"{strategy.net.parameters:,} weights, inputs {stream.input_shape}, {stream.outputs} outputs"),
        *([("backbone", ", ".join(f"{k} {v}" for k, v in backbone.about.items()))] if backbone.about else []),
        ("agenda", "without end" if endless else _agenda(items)),
        ("learning a task", _from_to(cost.at(0), [learning for learning, _ in cost.of_targets.values()])),
        ("testing a task", _from_to(cost.test, [testing for _, testing in cost.of_targets.values()])),
        ("memory, first task", _memory(cost, strategy)),
        *([("memory of the GPU", f"{size(_held(stream))} at most so far")] if is_gpu(stream.device) else []),
        ("time", _endless(cost) if endless else _time(items, stream, strategy, cost)),
    ]
    if not endless:
        lines.append(("disk", _disk(items, stream, cost, strategy)))
    return lines


def _by_targets(
    experiment: Experiment, stream: Stream, backbone: Backbone, data_root: Path | None
) -> dict[str, tuple[float, float]]:
    """Return seconds to learn and to test a task that asks for each of several things; empty where that cannot be told.

    The task learned is the first of a stream in another order: not every strategy can begin in the middle.
    """
    options, tasks = experiment.resolved["stream"], range(stream.n_tasks or 0)
    if len(stream.targets) < 2 or "task_order" not in options:
        return {}

    def beginning(first: int | None) -> Stream:
        order = 0 if first is None else [first, *(task for task in tasks if task != first)]
        changed = {**experiment.resolved, "stream": {**options, "task_order": order}}
        return replace(experiment, resolved=changed).stream(str(stream.device), data_root)

    plain = stream if options["task_order"] == 0 else beginning(None)
    found: dict[str, tuple[float, float]] = {}
    began = time.perf_counter()
    for task in tasks:
        key = plain.target(task).key
        if time.perf_counter() - began < LONGEST and key not in found:
            own = beginning(task)
            cost = measured(own, experiment.build_strategy(own, backbone), 1, PATIENCE / len(stream.targets))
            found[key] = cost.at(0), cost.test
    mean = (
        float(np.mean([learning for learning, _ in found.values()])),
        float(np.mean([test for _, test in found.values()])),
    )
    return {target.key: found.get(target.key, mean) for target in stream.targets}  # the last of many are guessed


def measured(
    stream: Stream, strategy: Strategy, tried: int = TRIED, patience: float | None = None, validation: bool = False
) -> Cost:
    """Learn the first experiences, for a few seconds at most, and test the first, with ``validation`` on those rows too.

    What comes before the end of the first step (imports, reading, setting up) is no part of what an experience takes, and of
    one that is not learned to its end the later half of what was seen tells: a busy machine takes its time to get going.
    """
    patience = PATIENCE if patience is None else patience
    began = time.perf_counter()
    learned: list[float] = []
    test, state, apart = 0.0, None, 0
    marks: list[Mark] = []  # of the first experience
    steps = range(1, tried if stream.n_steps is None else min(tried, stream.n_steps))
    items: list[Item] = [Learn(0), Evaluate(0, [stream.task_id(0)]), *map(Learn, steps)]
    for event in simulate(stream, strategy, items, validation=validation):
        elapsed = time.perf_counter() - began
        if isinstance(event, Progress | EpochEnded) and not learned:
            done = event.done if isinstance(event, Progress) else (event.epoch + 1) / event.epochs
            if not marks or done > marks[-1].done:  # a second fit begins anew
                marks.append(Mark(elapsed, done))
        warm = marks[0] if marks else Mark()
        if isinstance(event, TaskLearned):
            learned.append(event.seconds if learned or warm.done == 1 else warm.whole(Mark(elapsed, 1.0)))
            state, apart = (state, apart) if state else (event.memory, sum(event.apart.values()))
        elif isinstance(event, Scored):
            test = event.seconds
        if elapsed - warm.seconds > patience and isinstance(event, Progress | Scored | TaskLearned):
            if not learned:
                if len(marks) < 2:
                    continue
                learned.append(marks[(len(marks) - 1) // 2].whole(marks[-1]))
            if not isinstance(event, TaskLearned) or len(learned) > 1:
                break
    if state is None:
        rows = stream.test(stream.task_id(0))
        began = time.perf_counter()
        strategy.predict(rows.x, stream.task_id(0) if stream.setting == "task" else None)
        test = time.perf_counter() - began
    return Cost(tuple(learned), test, state, strategy.growing, apart)


def duration_or_ms(seconds: float) -> str:
    """Return a short duration with milliseconds."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else duration(seconds)


def _from_to(one: float, several: Sequence[float]) -> str:
    """Return seconds, or where they differ by what tasks ask for from the least to the most."""
    ends = list(dict.fromkeys(map(duration_or_ms, (min(several), max(several))))) if several else [duration_or_ms(one)]
    return " to ".join(ends) + (", by what it asks for" if len(ends) > 1 else "")


def _stream(stream: Stream) -> str:
    first = stream[0]
    tasks = "tasks without end" if stream.n_tasks is None else f"{stream.n_tasks} tasks"
    steps = "" if stream.n_steps in (None, stream.n_tasks) else f" in {stream.n_steps} experiences"
    rows = f"first task: {len(first.train):,} training, {len(first.validation):,} validation"
    return f"{tasks}{steps}, setting {stream.setting}; {rows} and {len(stream.test(first.task_id)):,} test rows"


def _agenda(items: Iterable[Item]) -> str:
    items = list(items)
    counts = {kind: sum(isinstance(item, kind) for item in items) for kind in (Learn, Save)}
    return f"{counts[Learn]} experiences, {_cells(items):,} tests of a task, {counts[Save]} saves"


def _cells(items: Iterable[Item]) -> int:
    return sum(len(item.task_ids) for item in items if isinstance(item, Evaluate))


def _memory(cost: Cost, strategy: Strategy) -> str:
    parts = cost.state or bytes_by_part(strategy.state)
    note = "" if cost.state else " (before learning)"
    each = ", ".join(f"{k} {size(v)}" for k, v in parts.items())
    return f"{size(sum(parts.values()))} a seed{note}" + (f": {each}" if each else "")


def _time(items: list[Item], stream: Stream, strategy: Strategy, cost: Cost) -> str:
    learning, testing = _seconds(items, stream, strategy, cost)
    text = f"about {duration(learning + testing)} ({duration(learning)} learning)"
    if cost.growing:
        steps = sum(isinstance(item, Learn) for item in items)
        last = duration_or_ms(cost.at(steps - 1))
        text += f"; the cost of a task grows with the number of tasks before it: {last} for the last one"
    if _reused(stream, strategy):
        text += "; tests of tasks whose answers cannot have changed are reused"
    return text


def _endless(cost: Cost) -> str:
    if not cost.growing:
        return "per task as above, until stopped"
    tenth, hundredth = (duration_or_ms(cost.at(step)) for step in (9, 99))
    return f"until stopped; the cost of a task grows: {tenth} for the 10th, {hundredth} for the 100th"


def _seconds(items: list[Item], stream: Stream, strategy: Strategy, cost: Cost) -> tuple[float, float]:
    """Return the seconds that learning and testing would take."""
    steps = sum(isinstance(item, Learn) for item in items)
    learning = cost.learning(steps)
    cells = min(_cells(items), 3 * steps) if _reused(stream, strategy) else _cells(items)
    if not cost.of_targets:
        return learning, cells * cost.test
    of_task = [cost.of_targets[stream.target(task).key] for task in range(stream.n_tasks or 0)]
    own = [of_task[stream.task_id(item.step)][0] for item in items if isinstance(item, Learn)]
    testing = [of_task[task][1] for item in items if isinstance(item, Evaluate) for task in item.task_ids]
    return sum(own) + cost.line[1] * steps * (steps - 1) / 2, sum(testing) * cells / max(1, len(testing))


def _reused(stream: Stream, strategy: Strategy) -> bool:
    return stream.setting == "task" and strategy.fingerprint(0) is not None


def _disk(items: list[Item], stream: Stream, cost: Cost, strategy: Strategy) -> str:
    log, state = _log(items, stream, strategy), _state(cost, strategy)
    return f"log at most {size(log)}; checkpoint {size(state)} at the first task, and as much more as the state grows"


def _log(items: list[Item], stream: Stream, strategy: Strategy) -> int:
    of_a_cell = CELL_BYTES if stream.only_accuracy else SCORE_BYTES + SUM_BYTES * stream.most_sums
    return 60_000 + _cells(items) * len(strategy.seeds) * of_a_cell


def _state(cost: Cost, strategy: Strategy) -> int:
    return len(strategy.seeds) * (cost.apart + sum((cost.state or bytes_by_part(strategy.state)).values()))
