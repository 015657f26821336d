"""Runs with a person at the terminal: progress, what was resumed or removed, the demo and its table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from cl_engine.analysis.names import one_line
from cl_engine.analysis.scores.measures import MEASURES
from cl_engine.core.narrow import folded, labelled
from cl_engine.core.text import sentence
from cl_engine.data.stream import Stream
from cl_engine.errors import RunFailed, UsageError
from cl_engine.experiment import Begin, Experiment
from cl_engine.loggers.console import Console
from cl_engine.metrics.catalogue import METRICS
from cl_engine.options import described
from cl_engine.results.log_file import LOG_NAME
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.guests import GUESTS
from cl_engine.runs.process_memory import collect_garbage_as_usual
from cl_engine.runs.run_folder import RunFolder
from cl_engine.runs.scenario import Scenario, scenario_names
from cl_engine.runs.twin_names import unknown
from cl_engine.sweep.config import ResourceOptions, SweepOptions
from cl_engine.sweep.sweep import Sweep

DEMO = "demo"
# strategies that the demo does not show: they are about tasks that serve each other, and its pixels are permuted; or about a
# pre-trained net, and there is none; or they stand for what another of their kind shows, and a demo has three minutes
NOT_SHOWN = {
    "adapt",
    "agem",
    "align",
    "auxiliary",
    "cognitive_loop",
    "conditioned",
    "der",
    "er_ace",
    "gdumb",
    "icarl",
    "lora",
    "mas",
    "nearest_mean",
    "policy",
    "ranpac",
    "si",
    "single_tasking",
    "spg",
    "taxonomy",
    "wsn",
}


def run_in_terminal(
    experiment: Experiment,
    out: Path | None,
    fresh: bool,
    quiet: bool,
    device: str,
    data_root: Path | None,
    command: str,
    deterministic: bool = False,
    accept_changes: bool = False,
    begin: Begin | None = None,
    said: str = "",
) -> Path:
    """Run with progress on the terminal; say what is resumed, removed or already done. Returns the run's folder.

    ``begin`` puts there what a run that has no log yet goes on from (`cl_engine.experiment.Experiment.run`). ``said`` is a line
    about the run, which like all that is said of it is printed once nothing can be refused any more.
    """
    path = out or experiment.folder
    if fresh:
        for file in RunFolder.cleared(path):
            click.echo(f"removed {file}", err=True)
    status, goes_on = _found(path)
    consoles: list[Console] = []

    def listeners(stream: Stream) -> list[Console]:
        collect_garbage_as_usual()  # all has been imported
        for line in (said, f"going on with {path}, which was {status}" if goes_on else ""):
            if line:
                click.echo(line, err=True)
        consoles.append(Console(f"{experiment.scenario} {experiment.strategy}", stream, quiet=quiet))
        return consoles

    try:
        with logged(quiet):
            folder = experiment.run(
                path,
                device=device,
                data_root=data_root,
                listeners=listeners,
                command=command,
                deterministic=deterministic,
                accept_changes=accept_changes,
                begin=begin,
                progress=False,  # the console is among the listeners
            )
    finally:
        for console in consoles:
            console.close()
    finished = f"{path} is finished; --fresh runs it again"
    click.echo(finished if status == "finished" else f"log: {folder / LOG_NAME}", err=True)
    return folder


@contextmanager
def logged(quiet: bool) -> Iterator[None]:
    """Show what is logged meanwhile (pre-training, seeds that cannot train as one) on standard error."""
    log, handler = logging.getLogger("cl_engine"), logging.StreamHandler()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def run_demo(out: Path, fresh: bool, command: str) -> None:
    """Run the strategies that come with the program on the demo scenario, as a sweep; print a table, write a report.

    Raises:
        RunFailed: if a strategy has failed; the others are in the table and the report.
        Stopped: if it was asked to stop; the same call goes on.
    """
    # pictures and statistics take longer to import than a run to start
    from cl_engine.analysis.report.page import write_report
    from cl_engine.analysis.report.terminal import print_comparison

    shown = sorted({*plugins.own("strategies")} - NOT_SHOWN)
    options = SweepOptions(scenarios=[DEMO], strategies=shown, seeds=3, resources=ResourceOptions(memory=1))
    sweep = Sweep(options, out, device="cpu", command=command)
    if fresh:
        for each in sweep.runs:
            for file in RunFolder.cleared(out / each.name):
                click.echo(f"removed {file}", err=True)
    tally = sweep.run(retry_failed=True)
    runs = [open_run(out / name) for name in tally.done]
    if runs:
        print_comparison(runs)
        click.echo(f"report: {write_report(runs, out / 'report.html')}")
    click.echo(f"logs:   {out}/*/{LOG_NAME}")
    if tally.failed:
        name, error = next(iter(tally.failed.items()))
        raise RunFailed(
            f"{len(tally.failed)} of {len(shown)} strategies failed; the same command tries them again; "
            f"{tally.entries[name].strategy}: {one_line(error)}"
        )


def listing(kind: str, options: bool, name: str | None = None) -> list[str]:
    """Return the lines of `list`: a name and a sentence each, and the options below if asked for.

    Raises:
        UsageError: if there is none of the ``name`` that alone is asked for.
    """
    lines: list[str] = []
    guests = {guest: about for guest, (_, about) in GUESTS.get(kind, {}).items()}
    there = scenario_names() if kind == "scenarios" else sorted({*plugins.names(kind), *guests})  # type: ignore[arg-type]
    of_runs = sorted(MEASURES) if kind == "metrics" else []
    if name is not None:
        if name not in {*there, *of_runs}:
            what = "scenario" if kind == "scenarios" else plugins.SINGULAR[kind]  # type: ignore[index]
            raise unknown(what, name, {*there, *of_runs})
        there, of_runs = ([each for each in names if each == name] for names in (there, of_runs))
    for each in there:
        model: Any = None
        try:
            if kind == "scenarios":
                about = Scenario.load(each).text.partition("\n")[0].lstrip("# ")
            else:
                about = guests.get(each) or plugins.summary(kind, each)  # type: ignore[arg-type]
                wanted = options and not (kind == "nets" and each in guests)  # whose options are those of each net
                load = plugins.net if kind == "nets" else partial(plugins.load, kind)  # type: ignore[arg-type]
                model = getattr(load(each), "Options", None) if wanted else None  # a plain module has none
        except Exception as error:  # one that is broken, in whatever way, is in nobody's
            about = sentence(str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}")
        lines += labelled([(f"  {each}", about)], width=26)
        for option, type_, default, meaning in described(model) if model else []:
            lines += folded(f"      {option} = {default}  ({type_})  {meaning}", indent=10)
    if of_runs:
        lines.append("  known of every run, for `compare --by`:")
        lines += labelled([(f"  {each}", METRICS[each].meaning or METRICS[each].title) for each in of_runs], width=26)
    return lines


def _found(path: Path) -> tuple[str, bool]:
    """Return the status of the run that a folder holds already, and whether it would be gone on with."""
    if not (path / LOG_NAME).exists():
        return "new", False
    try:
        status = open_run(path).status
    except UsageError:
        return "damaged", False  # the run itself says what that means
    return status, status != "finished" and RunFolder(path, "").checkpoint.exists()
