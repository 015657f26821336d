"""The command `extend`: a run made longer, or of more seeds, without computing anew what is the same."""

from __future__ import annotations

from pathlib import Path

import click

from cl_engine.cli import arguments, completion
from cl_engine.cli.sweep import saying_how_to_go_on


@click.command()
@click.argument("run", type=click.Path(path_type=Path), shell_complete=completion.runs)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=completion.settings,
    help="What is to be other: stream.n=20.",
)
@click.option("--seeds", callback=arguments.seeds, help="All the seeds that there are to be: how many (5), or which.")
@click.option("-o", "--out", type=arguments.FOLDER, help="The new run's folder.  [beside the RUN's]")
@click.option("--check", is_flag=True, help="Say what would be taken over and what computed, and end.")
@click.option("--device", default="auto", shell_complete=completion.devices, help="auto, cpu, cuda or cuda:n.  [auto]")
@click.option("--data-root", type=arguments.FOLDER, help="Where data sets are.  [$CL_DATA_ROOT]")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def extend(
    run: Path,
    settings: tuple[str, ...],
    seeds: tuple[int, ...] | None,
    out: Path | None,
    check: bool,
    device: str,
    data_root: Path | None,
    quiet: bool,
) -> None:
    """Make a RUN longer, or give it more seeds, in a new folder: all that stays the same is taken over from it.

    The new log is that of a run made so from the start. RUN stays as it is, and may be stopped or finished. The same command
    again goes on where it stopped. What cannot be taken over is refused in a sentence.

    \b
    Examples:
      python run.py extend results/permuted_digits-replay-* --set stream.n=20
      python run.py extend results/permuted_digits-replay-* --seeds 5
    """
    from cl_engine.analysis.report.terminal import print_run
    from cl_engine.cli.terminal import run_in_terminal
    from cl_engine.extension.extend import Extension
    from cl_engine.results.run import open_run

    extension = Extension.of(run, arguments.settings(settings, open_run(run).strategy), seeds, out, data_root)
    if check:
        for word, text in extension.checked(device):
            click.echo(f"{word:<12} {text}")
        return
    with saying_how_to_go_on(without="--check"):
        command = arguments.command()
        for step in extension.steps(device):
            said = "" if quiet else step.said
            run_in_terminal(
                step.experiment, step.folder, False, quiet, device, data_root, command, begin=step.begin, said=said
            )
    extension.clear()
    print_run(open_run(extension.out))
