"""The command line: ``python run.py …`` or ``cl-engine …``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cl_engine.cli import arguments
from cl_engine.cli import completion as offers
from cl_engine.cli.compare import compare
from cl_engine.cli.extend import extend
from cl_engine.cli.group import Commands
from cl_engine.cli.learners import save, zoo
from cl_engine.cli.listed import fetch, list_
from cl_engine.cli.shells import completion
from cl_engine.cli.shown import print_log, show
from cl_engine.cli.sweep import saying_how_to_go_on, status, sweep
from cl_engine.cli.taxonomy import taxonomy
from cl_engine.runs.process_memory import collect_garbage_seldom

if TYPE_CHECKING:
    from cl_engine.experiment import Experiment

# Everything that needs torch is imported inside the commands, so that --help answers at once.

EPILOG = "\b\nStart with:  python run.py demo\nThen:        python run.py list\nand:         python run.py run --help"


def _options(function: Any) -> Any:
    """Add the options that name an experiment and where it runs."""
    root = arguments.FOLDER
    for option in reversed(
        (
            click.argument("scenario", shell_complete=offers.scenarios),
            click.option(
                "-s",
                "--strategy",
                required=True,
                multiple=True,  # so that a second one is refused
                callback=arguments.one_strategy,
                shell_complete=offers.strategies,
                help="A name of `list strategies`, module:Class, or file.py:Class.",
            ),
            click.option(
                "--seeds",
                default="1",
                callback=arguments.seeds,
                help="How many seeds (5), or which (0,3,7; of one: 7,).  [1]",
            ),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="KEY=VALUE",
                shell_complete=offers.settings,
                help=_SET_HELP,
            ),
            click.option(
                "--device", default="auto", shell_complete=offers.devices, help="auto, cpu, cuda or cuda:n.  [auto]"
            ),
            click.option(
                "--data-root", type=root, help="Where data sets are, in torchvision's layout.  [$CL_DATA_ROOT]"
            ),
        )
    ):
        function = option(function)
    return function


_SET_HELP = (
    "Change a value of the scenario (train.lr=0.1, stream.n=10) or, without a dot, an option of the strategy "
    "(pull=0.5), else of [train] (lr=0.1). May be given several times."
)


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cl-engine")
def main() -> None:
    """Run continual-learning experiments: streams of tasks, strategies that learn them, logs in HDF5."""
    collect_garbage_seldom()


@main.command()
@_options
@click.option("--out", type=arguments.FOLDER, help="The run's folder.  [results/…]")
@click.option("--fresh", is_flag=True, help="Remove what an earlier run left in the folder and start over.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.option("--deterministic", is_flag=True, help="The same bits in every run on a GPU too; slower there.")
@click.option("--accept-changes", is_flag=True, help=arguments.ACCEPT)
def run(
    out: Path | None,
    fresh: bool,
    quiet: bool,
    deterministic: bool,
    accept_changes: bool,
    device: str,
    data_root: Path | None,
    **named: Any,
) -> None:
    """Run a scenario with a strategy; the same command again goes on where it stopped.

    SCENARIO is a TOML file or a name of `list scenarios`. The run's folder holds log.h5 and the checkpoint.

    \b
    Examples:
      python run.py run permuted_digits -s replay --seeds 3
      python run.py run permuted_mnist -s piggyback --set stream.n=5 --set mask_lr=1e-3
    """
    from cl_engine.cli.terminal import run_in_terminal
    from cl_engine.runs.signals import Stopped

    experiment = _experiment(**named)
    try:
        command = arguments.command()
        folder = run_in_terminal(
            experiment, out, fresh, quiet, device, data_root, command, deterministic, accept_changes
        )
    except Stopped as stop:
        again = arguments.command(without=("--fresh", "--accept-changes"))
        click.echo(f"Stopped. To go on from the last save: {again}", err=True)
        raise SystemExit(128 + stop.signal) from None
    print_log(folder)


@main.command()
@click.option("--out", type=arguments.FOLDER, default=Path("results/demo"), help="A folder.")
@click.option("--fresh", is_flag=True, help="Remove what an earlier demo left there and start over.")
def demo(out: Path, fresh: bool) -> None:
    """Run every strategy on a benchmark that needs no data files: ten permutations of digits, three seeds.

    As many run at a time as there are cores. Ends with a table, the logs and a report. The same command again goes on
    where it stopped. At most three minutes on two cores.
    """
    from cl_engine.cli.terminal import run_demo

    with saying_how_to_go_on(without="--fresh"):
        run_demo(out, fresh, arguments.command())


@main.command()
@click.argument("runs", nargs=-1, required=True, shell_complete=offers.runs)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The HTML file.")
@click.option("--pictures", type=arguments.FOLDER, help="A folder for the pictures as files.")
@click.option(
    "--format", "kind", type=click.Choice(["svg", "png", "pdf"]), default="svg", help="Of those files.  [svg]"
)
@click.option(
    "--size",
    type=click.Choice(["screen", "column", "text", "page"]),
    default="screen",
    help="Width of those pictures: 6.4 in, or 3.25, 5.5, 6.75 in for a paper.  [screen]",
)
@click.option("--dark", is_flag=True, help="Those pictures for a dark page (the report suits both as it is).")
def report(runs: tuple[str, ...], output: Path, pictures: Path | None, kind: str, size: str, dark: bool) -> None:
    """Write one self-contained HTML page about RUNS, from their logs alone.

    RUNS are folders of runs, folders that hold many, or patterns in quotes. Logs that cannot be read are named.
    Runs in a folder `reference` below one of RUNS are left out unless it is named.

    \b
    Examples:
      python run.py report results/permuted_digits-* -o report.html
      python run.py report results -o all.html --pictures figures --format pdf --size column
    """
    from cl_engine.analysis.comparison.command import readable
    from cl_engine.analysis.discovery import without_references
    from cl_engine.analysis.plots.gallery import save_pictures
    from cl_engine.analysis.report.page import write_report

    opened, refused = readable(runs)
    opened, left_out = without_references(runs, opened)
    for sentence in left_out:
        click.echo(sentence, err=True)
    click.echo(f"report: {write_report(opened, output, refused, left_out)}")
    if pictures is not None:
        for path in save_pictures(opened, pictures, kind, size, dark):
            click.echo(f"picture: {path}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path), shell_complete=offers.runs)
@click.option(
    "--interval", type=click.FloatRange(min=0.05), default=1.0, help="Seconds between two looks at the log.  [1]"
)
@click.option("--once", is_flag=True, help="Show what the log says now, and end.")
def watch(run: Path, interval: float, once: bool) -> None:
    """Follow a RUN that goes on, from its log alone, also from another machine over a shared disk.

    Shows what is done and how long the rest takes, the last row of the accuracy matrix, how the last task was learned, memory
    and events; a line an experience where the output is no terminal. Waits for a run that has not begun.
    Ends with the run: exit code 0 if it finished (and always with --once), 1 if it failed or was stopped, 130 after Ctrl-C.
    """
    from cl_engine.analysis.live.watch import watch as follow

    try:
        status = follow(run, interval, once)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if not once and status != "finished":
        raise SystemExit(1)


@main.command()
@click.argument("runs", nargs=-1, required=True, shell_complete=offers.runs)
@click.option(
    "--to",
    "kind",
    required=True,
    shell_complete=offers.formats,
    help="csv, parquet, netcdf, tensorboard, wandb-offline or l2logger.",
)
@click.option("-o", "--output", required=True, type=arguments.FOLDER, help="A folder.")
def export(runs: tuple[str, ...], kind: str, output: Path) -> None:
    """Write RUNS for the tools of others, each into a folder of its own below the one given.

    RUNS are folders of runs, folders that hold many, or patterns in quotes.
    """
    from cl_engine.analysis.comparison.command import readable
    from cl_engine.export.registry import exported

    for folder in exported(readable(runs)[0], kind, output):
        click.echo(f"{kind}: {folder}")


@main.command()
@_options
def check(device: str, data_root: Path | None, **named: Any) -> None:
    """Refuse what would fail; print agenda, sizes, and an estimate of time and disk. Trains for a few seconds."""
    from cl_engine.cli.terminal import logged
    from cl_engine.core.narrow import labelled
    from cl_engine.estimate import check_experiment

    with logged(quiet=False):
        lines = labelled(check_experiment(_experiment(**named), device, data_root))
    for line in lines:
        click.echo(line)


main.add_command(compare)
main.add_command(completion)
main.add_command(extend)
main.add_command(fetch)
main.add_command(list_)
main.add_command(show)
main.add_command(sweep)
main.add_command(status)
main.add_command(taxonomy)
main.add_command(save)
main.add_command(zoo)


def _experiment(scenario: str, strategy: str, seeds: tuple[int, ...], settings: tuple[str, ...]) -> Experiment:
    from cl_engine.experiment import Experiment
    from cl_engine.runs import importing
    from cl_engine.runs.scenario import Scenario

    found = Scenario.load(scenario)
    with importing.looking_beside(found.folder):
        options = arguments.settings(settings, strategy, found)
    return Experiment.of(found, strategy, seeds, **options)
