"""The command ``show``: what a log says, on the terminal."""

from __future__ import annotations

from pathlib import Path

import click

from cl_engine.cli import arguments, completion


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), shell_complete=completion.runs)
@click.option(
    "--predictions", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of answers there."
)
@click.option("--task", type=int, help="The task that they are about; left out: the one learned last.")
@click.option("--data-root", type=arguments.FOLDER, help="Where its data are.")
@click.option("--code", is_flag=True, help="Print the code that is not the engine's own, as the run was made with it.")
def show(
    runs: tuple[Path, ...], predictions: Path | None, task: int | None, data_root: Path | None, code: bool
) -> None:
    """Print the matrix of scores and what follows from it of RUNS: folders, or log.h5 in them.

    Runs that differ in seeds alone are shown as one.

    With --predictions FILE.png it draws answers beside the truth instead, of some test rows of a task; with --code it prints
    the source text of every plug-in of one's own, as it was when the run was made.
    """
    if predictions is None and not code:
        print_log(*runs)
        return
    if len(runs) > 1:
        raise click.UsageError(f"{'--code' if code else '--predictions'} is about one run: name one")
    if code or predictions is None:
        print_code(runs[0])
        return
    from cl_engine.cli.predictions import draw_predictions

    draw_predictions(runs[0], task, predictions, data_root)


def print_log(*paths: Path) -> None:
    """Print the matrix of scores of runs and what follows from it, from their logs alone; those of other seeds as one."""
    from cl_engine.analysis.report.terminal import print_run
    from cl_engine.results.of_seeds import of_seeds
    from cl_engine.results.run import open_run

    for number, run in enumerate(of_seeds([open_run(path) for path in paths])):
        if number:
            click.echo()
        print_run(run)


def print_code(path: Path) -> None:
    """Print the code that is not the engine's own with which a run was made, and what was in its place before a change.

    Raises:
        UsageError: if the log is from before logs had code.
    """
    from cl_engine.analysis.names import one_line
    from cl_engine.core.text import clean
    from cl_engine.errors import UsageError
    from cl_engine.results.code import changes_in, code_in
    from cl_engine.results.run import open_run

    run = open_run(path)
    found = code_in(run)
    if found is None:
        raise UsageError(
            f"{run.path} was begun before logs had the code of plug-ins: what it was made with is not known"
        )
    changes = changes_in(run)
    since = f", from experience {changes[-1].step} on" if changes else ""
    parts = [(f"until experience {each.step}", each.code) for each in changes] + [(since.removeprefix(", "), found)]
    if not any(code for _, code in parts):
        click.echo("all plug-ins of this run were the engine's own")
    for when, code in parts:
        for name, told in code.items():
            where = told.get("package") or told["file"]
            head = [name, where, f"SHA-256 {told['sha256']}", when]
            click.echo(f"# {one_line(', '.join(part for part in head if part))}")
            for line in told["text"].splitlines():
                click.echo(clean(line))
            click.echo()
