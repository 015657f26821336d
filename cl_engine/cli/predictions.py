"""Answers of a finished or stopped run to some test rows, as a picture."""

from __future__ import annotations

from pathlib import Path

import torch

from cl_engine.core.torch_defaults import torch_defaults
from cl_engine.errors import UsageError
from cl_engine.learners.saved_strategy import saved_strategy
from cl_engine.results.run import open_run

ROWS = 6


@torch_defaults()
def draw_predictions(path: Path, task: int | None, file: Path, data_root: Path | None) -> None:
    """Write a picture of the answers of a run's first seed to some test rows of a task; left out: of the last it learned.

    Raises:
        UsageError: if there is no such task, nothing was saved, or the file's ending is not that of a picture.
    """
    from cl_engine.analysis.plots.predictions import predictions
    from cl_engine.analysis.plots.style import rendered

    kind = file.suffix.removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        raise UsageError(f"--predictions {file}: the file must end in .png, .svg or .pdf")
    run = open_run(path)
    tasks = run.results["experience_task"].values.tolist()
    if not tasks:
        raise UsageError(f"{run.path}: nothing has been learned yet")
    task = int(tasks[-1]) if task is None else task
    if task not in tasks:
        raise UsageError(f"--task {task}: this run has learned the tasks {min(tasks)} to {max(tasks)}")
    found = saved_strategy(run, data_root)
    stream, strategy = found.stream, found.strategy
    test, target = stream.test(task).shuffled(stream.seed), strategy.target_of(task)
    x, y = test.x[:ROWS], test.y[:ROWS]
    with torch.inference_mode():
        outputs = strategy.predict(x, task if stream.setting == "task" else None)[0]
        answers = target.answers_at(outputs, y)
    named = f"{run.strategy} on task {task}, {stream.name_of(task)}"
    note = f"seed {strategy.seeds[0]}, {len(x)} test rows" + (
        ", truth white, answers dashed, wrong ones dotted" if target.name() == "boxes" else ""
    )
    fig = predictions(x.numpy(), y.numpy(), answers.numpy(), target.name(), named, note)
    try:
        file.write_bytes(rendered(fig, kind))
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
