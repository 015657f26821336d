"""Long runs: what a task costs does not grow with the number of tasks learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cl_engine import events
from cl_engine.analysis.report.page import write_report
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs.scenario import Scenario

TASKS = 160
GROWTH = 12e6  # bytes by which memory may differ: less than what allocators hold back
TABLES: dict[str, Any] = {
    "stream": {"name": "permuted", "source": "digits", "n": TASKS, "samples_per_class": 2, "test_samples_per_class": 2},
    "net": {"name": "mlp", "hidden": [8]},
    "train": {"batch": 20},
    "agenda": {"evaluate_every": 0, "save_every": 10, "save_share": 1.0},
}


@pytest.mark.parametrize(("strategy", "setting"), [("head_only", "task"), ("finetune", "domain")])
def test_memory_and_open_files_do_not_grow_with_the_tasks_learned(strategy: str, setting: str, tmp_path: Path):
    process, noted = psutil.Process(), []

    def note(event: events.Event) -> None:
        if isinstance(event, events.Scored):
            noted.append((process.memory_info().rss, process.num_fds()))

    tables = {**TABLES, "stream": {**TABLES["stream"], "setting": setting}}
    experiment = Experiment.of(Scenario.of("long", tables), strategy)
    folder = experiment.run(tmp_path / "run", device="cpu", listeners=lambda stream: [note])
    memory, descriptors = np.array(noted[TASKS // 4 : -1]).T  # the last test is of all tasks, whose rows are then kept
    assert memory[-1] - memory[0] < GROWTH
    # threads that tests before it left may open a file for a moment; one lost in every tenth experience would be twelve
    assert descriptors.max() - descriptors[0] < 8
    run = open_run(folder)
    assert run.results.sizes["experience"] == TASKS
    if setting == "task":
        page = write_report([run], tmp_path / "report.html").read_text()
        assert strategy in page
        assert str(TASKS) in page
