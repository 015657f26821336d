"""Runs as tables in the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cl_engine.analysis.code import code_remarks
from cl_engine.analysis.names import names_of, one_line
from cl_engine.analysis.scores import own_metrics
from cl_engine.analysis.scores.references import delta_m, reference
from cl_engine.analysis.scores.run_scores import Score, Summary, summarised
from cl_engine.core.measure import Measure
from cl_engine.core.narrow import fitted
from cl_engine.core.text import duration, number, size, with_interval
from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import METRICS
from cl_engine.results.of_measure import by_measure, of_each_measure
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run

APART = "not counted, as it follows from the seeds or serves diagnostics alone"
OLDER = "all of the state, as logs counted before format 1.5"
ROUNDING = 1e-9
SHOWN = 12  # most rows and columns of the matrix
NARROW = 100  # width where the output is no terminal

IN_SHORT = ("acc", "bwt", "forgetting", "fwt")
HEADS = "ACC: mean accuracy at the end. BWT, FWT: backward and forward transfer. ±: 95 % confidence over seeds."


def print_run(run: Run) -> None:
    """Print a run: its matrix, its scores by seed, its memory and its time."""
    out, summary, parts = _console(), summarised(run), by_measure([run])
    steps = run.results.sizes["experience"]
    seeds = ", ".join(str(seed) for seed in run.results["seed"].values)
    head = f"{run.scenario}, {run.strategy}: {run.status}, {steps} experiences, seeds {seeds}"
    out.print(_text(head, "bold"))
    if run.tested:
        _print_matrix(out, run)
    if len(parts) > 1 and run.tested:
        _print_by_measure(out, [summarised(part) for part in parts])
    elif run.final is not None:
        _print_scores(out, summary)
    elif run.tested:
        out.print(_text("there are no scores: no test was of all tasks learned"))
    else:
        out.print(_text("nothing has been tested yet"))
    if "backbone" in run.environment:
        out.print(_text(f"start   {_start(run.environment['backbone'])}"))
    for remark in code_remarks(run):
        out.print(_text(f"code    {remark}"))
    if not summary.experiences:
        return
    rule = "" if summary.memory_apart is not None else f": {OLDER}"
    held = f" ({_sizes(summary.memory_parts)})" if summary.memory_parts else ""
    out.print(_text(f"memory  {size(summary.memory)} a seed at the end{held}{rule}"))
    if summary.memory_apart:
        out.print(_text(f"apart   {_sizes(summary.memory_apart)}: {APART}"))
    phases = ", ".join(f"{name} {duration(seconds)}" for name, seconds in summary.seconds_phases.items())
    out.print(_text(f"time    {duration(summary.seconds)} ({phases})"))


def _print_by_measure(out: Console, summaries: Sequence[Summary]) -> None:
    """Print the scores of each measure, mean over seeds: those of different measures are never averaged."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("mean over seeds", overflow="fold")
    asked = list(summaries[0].run.metrics.values())
    for name in ("tasks", *(METRICS[score].title for score in IN_SHORT)):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in summaries:
        measure = summary.run.measures[0]
        scores = (_interval(getattr(summary, name), METRICS[name].signed) for name in IN_SHORT)
        table.add_row(_text(measure.title), str(summary.run.results.sizes["task"]), *scores)
    out.print(fitted(table, out))
    if asked:
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("mean over seeds", overflow="fold")
        for about in asked:
            table.add_column(about.title, justify="right", overflow="fold")
        for summary in summaries:
            own = (_interval(score, about.signed) for about, score in own_metrics.scores(summary.run))
            table.add_row(_text(summary.run.measures[0].title), *own)
        out.print(fitted(table, out))


def _sizes(parts: dict[str, int]) -> str:
    return ", ".join(f"{one_line(name)} {size(held)}" for name, held in parts.items())


def _start(text: str) -> str:
    """Return what is said of the backbone, as it stands where it is not as we write it."""
    try:
        return ", ".join(f"{key} {value}" for key, value in json.loads(text).items())
    except (ValueError, RecursionError, AttributeError):
        return text


def print_comparison(runs: Sequence[Run]) -> None:
    """Print runs side by side, the best ACC first.

    Raises:
        UsageError: if there are no runs.
    """
    if not runs:
        raise UsageError("a comparison needs at least one run")
    runs = of_seeds(runs)
    out, groups = _console(), of_each_measure(runs)
    for group in groups.values():
        _print_group(out, group, sum(len(run.measures) > 1 for run in runs) > 1)
    _print_across(out, [run for run in runs if len(run.measures) > 1])
    heads = HEADS if list(groups) == [Measure("accuracy")] else HEADS.replace("mean accuracy", "mean score")
    out.print(_text(heads, "dim"))


def _print_group(out: Console, runs: Sequence[Run], across: bool) -> None:
    """Print runs of one measure side by side; ``across``: with Δm, which tells of other measures too."""
    order = runs[0].sign
    summaries = [summarised(run, runs) for run in runs]
    summaries.sort(key=lambda found: -np.nan_to_num(order * found.acc.mean, nan=-np.inf))
    table = _comparison(summaries, across)
    if table.__rich_measure__(out, out.options).maximum > out.width:
        table = _comparison(summaries, across, between="\n")  # a number is never cut: its interval goes below it
    scenarios = ", ".join(dict.fromkeys(run.scenario for run in runs))
    counts = "/".join(map(str, sorted({summary.seeds for summary in summaries})))
    out.print(_text(f"{scenarios}, {counts} seed{'s' if counts != '1' else ''}", "bold"))
    out.print(fitted(table, out))


def _print_across(out: Console, runs: Sequence[Run]) -> None:
    """Print Δm of runs of several measures over all tasks, the greatest first; nothing if ``independent`` is not among them."""
    found = [(name, Score(delta_m(run, runs))) for name, run in zip(names_of(runs), runs, strict=True)]
    if not any(reference(run, runs, "independent") for run in runs):
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("strategy", overflow="fold")
    table.add_column(METRICS["delta_m"].title, justify="right", no_wrap=True)
    for name, score in sorted(found, key=lambda pair: -np.nan_to_num(pair[1].mean, nan=-np.inf)):
        table.add_row(_text(name), _interval(score, signed=True))
    scenarios = ", ".join(dict.fromkeys(run.scenario for run in runs))
    out.print(_text(f"{scenarios}: all measures", "bold"))
    out.print(fitted(table, out))
    if not all(np.isfinite(score.mean) for _, score in found):
        out.print(_text("there is no Δm where `independent` scores 0 on a task, to which nothing is relative", "dim"))


def _comparison(summaries: Sequence[Summary], across: bool = False, between: str = " ") -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("strategy", overflow="fold")
    shown = (*IN_SHORT, *["delta_m"] * across)
    for name in (*shown, "memory", "seconds"):
        table.add_column(METRICS[name].title, justify="right", no_wrap=True)
    for summary, name in zip(summaries, names_of([summary.run for summary in summaries]), strict=True):
        scores = ((getattr(summary, score), METRICS[score].signed) for score in shown)
        table.add_row(
            _text(name),
            *(_interval(score, signed).replace(" ±", f"{between}±") for score, signed in scores),
            size(summary.memory),
            duration(summary.seconds),
        )
    return table


def _print_matrix(out: Console, run: Run) -> None:
    found = run.results
    matrix = found["score"].mean("seed").values
    full = np.flatnonzero(run.tests_of_all | (found["evaluation_step"].values < 0))
    rows = _chosen(np.arange(len(matrix)) if len(matrix) <= SHOWN or not len(full) else full)
    learned, steps, tasks = run.learned, found["evaluation_step"].values, found["experience_task"].values
    again = len(np.unique(tasks)) < len(tasks)  # a task that returns is not told apart by its number alone
    after = [_after(int(steps[row]), tasks, again) for row in rows]
    wide = max((len(_cell(score)) for score in matrix[rows].ravel() if not np.isnan(score)), default=1)
    columns = _chosen(np.arange(matrix.shape[1]), (out.width - max(map(len, ("after", *after)))) // (wide + 1))
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("after", style="dim", no_wrap=True)
    for task in columns:
        table.add_column(str(task), justify="right", no_wrap=True)
    for row, named in zip(rows, after, strict=True):
        step = int(steps[row])
        cells = [
            Text("·", style="dim")
            if np.isnan(matrix[row, task])
            else Text(
                _cell(matrix[row, task]),
                style="bold" if learned[task] == step else ("" if 0 <= learned[task] < step else "dim"),
            )
            for task in columns
        ]
        table.add_row(named, *cells)
    what = run.measures[0].title if len(run.measures) == 1 else "score"
    said = f"{what} on each task (columns), mean over seeds; just learned in bold"
    out.print(_text(f"{said}; in brackets which experience it was" if again else said))
    out.print(table)
    names = [f"{task} {found['task_name'].values[task]}{_asked(run, task)}" for task in columns]
    out.print(_text("tasks   " + ", ".join(names), "dim"))
    if len(rows) < len(matrix) or len(columns) < matrix.shape[1]:
        out.print(
            _text(f"{len(rows)} of {len(matrix)} rows and {len(columns)} of {matrix.shape[1]} tasks are shown", "dim")
        )


def _after(step: int, tasks: np.ndarray, again: bool) -> str:
    """Return what a row of the matrix is called; ``again``: with the experience's number, as tasks come back."""
    if step < 0:
        return "untrained"
    # no task is known of an experience that was broken off while it was tested
    return f"task {int(tasks[step])}{f' ({step})' if again else ''}" if step < len(tasks) else f"experience {step}"


def _asked(run: Run, task: int) -> str:
    """Return what a task is measured by, and what a guess comes to, where that does not go without saying."""
    guess = float(run.results["task_guess"].values[task])
    said = [run.measure_of(task).title] * (len(run.measures) > 1)
    said += [f"a guess {0.0 if abs(guess) < ROUNDING else guess:.3g}"] * bool(np.isfinite(guess))
    return f" ({', '.join(said)})" if said else ""


def _cell(score: float) -> str:
    """Return a score as a cell of the matrix: three digits of a share, three figures of all else."""
    if 0 <= score < 1:
        return f"{score:.3f}"[1:]
    return "1.00" if score == 1 else f"{score:#.3g}"


def _print_scores(out: Console, summary: Summary) -> None:
    """Print the scores by seed, as many seeds beside each other as there is room for, and their mean."""
    shown = {
        METRICS[name].title: (getattr(summary, name), METRICS[name].signed)
        for name in (*IN_SHORT, "learning_accuracy", "online_accuracy", "curve_area")
        if np.isfinite(getattr(summary, name).values).any() or name in IN_SHORT
    }
    shown |= {about.title: (score, about.signed) for about, score in own_metrics.scores(summary.run)}
    seeds = summary.run.results["seed"].values
    columns = [
        (f"seed {seed}", [number(score.values[k], signed=signed) for score, signed in shown.values()])
        for k, seed in enumerate(seeds)
    ]
    columns.append(("mean", [_interval(score, signed) for score, signed in shown.values()]))
    room = out.width - max(map(len, shown))
    for group in _side_by_side(columns, room):
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("", no_wrap=True)
        for head, _ in group:
            table.add_column(head, justify="right", no_wrap=True)
        for name, *cells in zip(shown, *(cells for _, cells in group), strict=True):
            table.add_row(name, *cells)
        out.print(table)


Column = tuple[str, list[str]]


def _side_by_side(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """Return columns in groups that are at most ``room`` wide, with a gap of two before each."""
    groups: list[list[Column]] = [[]]
    left = room
    for head, cells in columns:
        width = 2 + max(map(len, (head, *cells)))
        if groups[-1] and width > left:
            groups.append([])
            left = room
        groups[-1].append((head, cells))
        left -= width
    return groups


def _chosen(numbers: np.ndarray, room: int = SHOWN) -> list[int]:
    """Return as many of the numbers as can be shown, evenly spread."""
    places = np.linspace(0, len(numbers) - 1, min(len(numbers), SHOWN, max(1, room))).round().astype(int)
    return [int(number) for number in numbers[places]]


def _interval(score: Score, signed: bool = False) -> str:
    return with_interval(score.mean, score.half_width, signed)


def _text(text: str, style: str = "") -> Text:
    return Text(one_line(text), style=style)


def _console() -> Console:
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=max(NARROW, out.width))
