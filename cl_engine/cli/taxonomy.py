"""The command ``taxonomy``."""

from __future__ import annotations

from pathlib import Path

import click

from cl_engine.cli import completion


@click.command()
@click.argument("run", type=click.Path(path_type=Path), shell_complete=completion.runs)
@click.option("--budget", type=int, required=True, help="How many tasks may be trained with all their labels.")
@click.option(
    "--objective",
    default="affinity",
    help="affinity, quality, gain, accuracy or matched_gain: what the policy is best in, summed over tasks.  [affinity]",
)
@click.option(
    "--outcomes",
    type=click.Choice(["errors", "losses"]),
    default="errors",
    help="What decides whether a row is won: right or wrong, a tie counting half, or the loss.  [errors]",
)
@click.option("--order", type=int, help="Most nets that a task may read.  [as many as were probed]")
@click.option("--free", metavar="TASK,…", help="Tasks whose labels cost nothing.  [those of which the log says so]")
@click.option(
    "--against",
    metavar="NAME,…",
    help="What affinity is held against: rsa, cka, labels (as the log has them), or matrix.csv, with the tasks' names in its "
    "first row and column.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file for it: .html, .csv, .json or .tex; may be given several times.",
)
def taxonomy(
    run: Path,
    budget: int,
    objective: str,
    outcomes: str,
    order: int | None,
    free: str | None,
    against: str | None,
    outputs: tuple[Path, ...],
) -> None:
    """Say whom to label: from the transfers that a RUN of the strategy `taxonomy` probed, the best policy for a budget.

    RUN is its folder or its log.h5. With -o also the scenario is written that executes the policy, beside the first file, with
    the ending .toml: `python run.py run FILE.toml -s policy`.

    \b
    Examples:
      python run.py taxonomy results/taxonomy_mnist-* --budget 3 -o page.html
      python run.py taxonomy RUN --budget 2 --objective quality --free rotation,flip --against rsa,labels,mine.csv
    """
    from cl_engine.analysis.report.taxonomy import told_of_taxonomy

    listed = None if free is None else [name.strip() for name in free.split(",") if name.strip()]
    held = [name.strip() for name in (against or "").split(",") if name.strip()]
    text, written = told_of_taxonomy(run, budget, objective, outcomes, order, listed, held, outputs)
    click.echo(text, nl=False)
    for path in written:
        click.echo(f"{path.suffix[1:]}: {path}")
