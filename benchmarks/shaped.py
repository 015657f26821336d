"""Drawn images in the shape and number of published sets, for machines where these are not, and runs on them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.checkpoints.store import Store, saved
from cl_engine.core import gpu
from cl_engine.data.source import Arrays, Source
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import EpochEnded, Saved, Scored, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.options import option
from cl_engine.runs import plugins
from cl_engine.runs.determinism import float32_products
from cl_engine.runs.scenario import Scenario

SHAPED = "benchmarks.shaped:Shaped"
TINY = Path(__file__).parents[1] / "tests" / "tiny.toml"


class Shaped(Source):
    """Drawn images in classes that can be told apart, in the shape and number of a published set.

    >>> Shaped.Options(rows=100).rows
    100
    """

    rows: int = option(60_000, "training rows", ge=10)
    test_rows: int = option(10_000, "test rows", ge=10)
    side: int = option(28, "height and width", ge=4)
    channels: int = option(1, "channels", ge=1)

    def load(self, root: Path) -> Arrays:
        draw = np.random.default_rng(0)
        means = draw.integers(64, 192, (10, self.channels, self.side, self.side))

        def drawn(rows: int) -> tuple[np.ndarray, np.ndarray]:
            y = np.arange(rows) % 10
            noise = draw.integers(-64, 64, (rows, *means.shape[1:]), dtype=np.int16)
            return (means[y] + noise).astype(np.uint8), y.astype(np.int64)

        return Arrays(*drawn(self.rows), *drawn(self.test_rows), 10, (128.0,) * self.channels, (50.0,) * self.channels)


def scenario(**stream: Any) -> Scenario:
    tables = {
        "stream": {"name": "permuted", "source": SHAPED, "setting": "domain", **stream},
        "net": {"name": "mlp", "hidden": [256, 256]},
        "train": {"epochs": 1, "batch": 128, "lr": 0.05},
        "agenda": {"evaluate_every": 0, "evaluate_ahead": 0},
    }
    return Scenario.of("shaped", tables)


@dataclass
class Timed:
    """What a run came to in the time it had."""

    tasks: int = 0
    epochs: int = 0
    seconds: float = 0.0
    tested: float = 0.0  # seconds of the last test
    memory: dict[str, int] = field(default_factory=dict)  # bytes of the state of a seed, by part


def timed_run(experiment: Experiment, until: float) -> Timed:
    """Run an experiment, and leave it where its time is over."""
    stream, found, began = experiment.stream(gpu.KIND), Timed(), time.perf_counter()
    strategy = experiment.build_strategy(stream)
    with float32_products():
        for event in simulate(stream, strategy, plan(stream, experiment.agenda)):
            found.epochs += isinstance(event, EpochEnded)
            if isinstance(event, TaskLearned):
                found.tasks, found.memory = found.tasks + 1, dict(event.memory)
            elif isinstance(event, Scored):
                found.tested = event.seconds
            if time.perf_counter() > until:
                break
    found.seconds = time.perf_counter() - began
    return found


def short(name: str, **changes: Any) -> Experiment:
    """Return two tasks for a strategy, on a net of three layers of twelve units; with ``changes`` of options."""
    needs = {"stream.validation": 0.25} if plugins.load("strategies", name).needs_validation else {}
    own: dict[str, Any] = {"stream.n": 2, "agenda.curve_batches": 0, "agenda.evaluate_ahead": 0}
    return Experiment.of(TINY, name, (0, 1), **{**own, **needs, **changes})


def answers(experiment: Experiment, where: str, cut: Path | None = None) -> list[torch.Tensor]:
    """Return the answers on all tasks after a run, which with ``cut`` is left at its first save in an experience and taken up."""
    stream, store = experiment.stream(where), None if cut is None else Store(cut)
    for left in (True, False) if store else (False,):
        strategy = experiment.build_strategy(stream)
        resume = None if store is None else saved(store, stream.device)
        how: dict[str, Any] = {"resume": resume, "save_to": store, "save_every_epochs": 1, **experiment.agenda.watched}
        for event in simulate(stream, strategy, plan(stream, experiment.agenda), **how):
            if left and isinstance(event, Saved) and event.midway:
                break
    told = [task if stream.setting == "task" else None for task in range(stream.n_tasks or 2)]
    return [strategy.predict(stream.test(task).x, asked).cpu() for task, asked in enumerate(told)]


def reason(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says, as rows of a table tell it."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"
