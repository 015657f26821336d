"""The commands ``sweep`` and ``status``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cl_engine.cli import arguments, completion

_SET = (
    "Values of an option: train.lr=1e-3,3e-3 (all of them), or a range to draw from: train.lr=log:1e-4..1e-1. Without a "
    "dot: an option of the strategies that have it, else of [train]. STRATEGY.KEY: of that strategy. Repeatable."
)
_TRIALS = "Points that random and optuna try, for each scenario, strategy and order, and, with --spread, seed.  [20]"


@click.command()
@click.argument("targets", nargs=-1, required=True, shell_complete=completion.scenarios, metavar="SWEEP.toml|SCENARIO…")
@click.option(
    "-s",
    "--strategy",
    "strategies",
    multiple=True,
    shell_complete=completion.strategies,
    help="A strategy; may be given several times.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE,…", shell_complete=completion.settings, help=_SET)
@click.option(
    "--seeds",
    callback=arguments.seeds,
    help="How many seeds (5), or which (0,3,7; of one: 7,); side by side in a run.  [1]",
)
@click.option("--spread/--together", default=None, help="Each seed a run of its own.  [together]")
@click.option("--orders", type=int, help="Task orders 0 (the stream's own) to K − 1 as an axis (stream.task_order).")
@click.option("--search", type=click.Choice(["grid", "random", "optuna"]), help="Which combinations.  [grid]")
@click.option("--trials", type=int, help=_TRIALS)
@click.option("--objective", help="acc, bwt, fwt, forgetting, memory or seconds.  [acc]")
@click.option(
    "--objective-on",
    type=click.Choice(["validation", "test"]),
    help="Rows that choices go by.  [validation, where the stream sets some aside]",
)
@click.option("--with-reference/--without-reference", "reference", default=None, help="Also run `independent` once.")
@click.option(
    "--halving", metavar="TASKS[:FACTOR]", help="After TASKS experiences one run in FACTOR goes on, and so forth."
)
@click.option("--retries", type=int, help="How often a run that failed is tried again.  [2]")
@click.option("--retry-failed", is_flag=True, help="Try runs again that an earlier command has given up.")
@click.option("--jobs", type=int, help="Runs at a time.  [as many as cores, GPUs and memory allow]")
@click.option("--threads", type=int, help="CPU threads of a run.  [1]")
@click.option("--gpus", type=float, help="GPUs of a run, or a share of one.  [measured]")
@click.option("--memory", type=float, metavar="GB", help="Memory of a run.  [measured]")
@click.option("--on", type=click.Choice(["local", "ray"]), default="local", help="Where runs run.  [local]")
@click.option("--address", help="Of a Ray cluster (HOST:PORT, or auto); with --on ray. Left out: this machine alone.")
@click.option("--device", default="auto", shell_complete=completion.devices, help="auto, cpu, cuda or cuda:n.  [auto]")
@click.option(
    "--data-root", type=arguments.FOLDER, help="Where data sets are, in torchvision's layout.  [$CL_DATA_ROOT]"
)
@click.option("--out", type=arguments.FOLDER, help="The sweep's folder.  [results/sweep-…]")
@click.option(
    "--check", is_flag=True, help="Say what the sweep would take, measured on a run of each kind; run nothing."
)
@click.option("--report/--no-report", default=True, help="Write report.html at the end.  [report]")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.option("--accept-changes", is_flag=True, help=arguments.ACCEPT)
def sweep(
    targets: tuple[str, ...],
    out: Path | None,
    check: bool,
    report: bool,
    retry_failed: bool,
    on: str,
    address: str | None,
    device: str,
    data_root: Path | None,
    quiet: bool,
    accept_changes: bool,
    **given: Any,
) -> None:
    """Run all combinations of scenarios, strategies and options; the same command again goes on where it stopped.

    Each combination is an ordinary run in a folder of its own. See docs/sweeps.md.

    \b
    Examples:
      python run.py sweep permuted_digits -s finetune -s replay --set lr=1e-3,3e-3 --seeds 10
      python run.py sweep permuted_digits -s replay --set samples=50..2000 --search random --trials 12 --halving 2
      python run.py sweep paper.toml --on ray --address 10.0.0.1:6379
    """
    from cl_engine.errors import UsageError
    from cl_engine.sweep.config import requested
    from cl_engine.sweep.sweep import Sweep, finish

    if address is not None and on != "ray":
        raise UsageError(f"--address {address}: only --on ray goes to a cluster")
    options = requested(targets, _given(**given))
    folder = out or _folder(targets)
    wanted = Sweep(
        options,
        folder,
        on=on,
        address=address,
        device=device,
        data_root=data_root,
        quiet=quiet,
        command=arguments.command(),
        accept_changes=accept_changes,
    )
    with saying_how_to_go_on(without=("--retry-failed", "--accept-changes")):
        if check:
            wanted.check()
            return
        tally = wanted.run(retry_failed)
    finish(tally, folder, report)


@click.command()
@click.argument("sweep", type=click.Path(path_type=Path), shell_complete=completion.sweeps)
def status(sweep: Path) -> None:
    """Print how a SWEEP (its folder) stands: what is done, runs, has failed or waits, and its runs, the best first.

    Reads files alone, so it can be asked while the sweep goes on, and from any machine that sees the folder.
    """
    from cl_engine.sweep.folder import SweepFolder
    from cl_engine.sweep.status import Status
    from cl_engine.sweep.view import print_status

    print_status(Status.of(SweepFolder(sweep)))


@contextmanager
def saying_how_to_go_on(without: str | tuple[str, ...]) -> Iterator[None]:
    """End the program with the sentence that says how to go on, where a sweep is asked to stop."""
    from cl_engine.runs.signals import Stopped

    try:
        yield
    except (Stopped, KeyboardInterrupt) as stop:
        click.echo(f"Stopped. To go on: {arguments.command(without=without)}", err=True)
        raise SystemExit(128 + (stop.signal if isinstance(stop, Stopped) else 2)) from None


def _given(
    strategies: tuple[str, ...], settings: tuple[str, ...], halving: str | None, **values: Any
) -> dict[str, Any]:
    """Return what was typed by the keys of a sweep's file, without what was not."""
    from cl_engine.errors import UsageError
    from cl_engine.sweep.axes import assigned

    found: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
    resources = {key: found.pop(key) for key in ("jobs", "threads", "gpus", "memory") if key in found}
    found |= {"seeds": list(found["seeds"])} if "seeds" in found else {}
    found |= {"strategies": list(strategies)} if strategies else {}
    axes: dict[str, Any] = {}
    for setting in settings:
        key, values = assigned(setting)
        if key in axes:
            raise UsageError(
                f"--set {setting}: {key} was set already; name all of its values at once, as KEY=VALUE,VALUE"
            )
        axes[key] = values
    found |= {"set": axes} if axes else {}
    found |= {"resources": resources} if resources else {}
    found |= {"halving": _halving(halving)} if halving else {}
    return found


def _halving(text: str) -> dict[str, int]:
    tasks, colon, factor = text.partition(":")
    if not tasks.isdigit() or (colon and not factor.isdigit()):
        raise click.BadParameter(f"'{text}' is neither TASKS (2) nor TASKS:FACTOR (2:3)", param_hint="--halving")
    return {"tasks": int(tasks), **({"factor": int(factor)} if colon else {})}


def _folder(targets: tuple[str, ...]) -> Path:
    return Path("results") / ("sweep-" + "-".join(Path(target).stem for target in targets)[:80])
