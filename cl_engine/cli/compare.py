"""The command `compare`: methods held against each other, as a table to be looked at or to be printed."""

from __future__ import annotations

from pathlib import Path

import click

from cl_engine.cli import arguments


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--by", default="acc", help="acc, bwt, forgetting, memory, … (`list metrics`), file.py:Class: what decides.  [acc]"
)
@click.option(
    "--best-by",
    type=click.Choice(["validation", "test"]),
    help="Compare the best setting of each strategy alone, picked by its scores on these rows.  [all settings]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["terminal", "csv", "latex", "markdown", "json"]),
    default="terminal",
    help="[terminal]",
)
@click.option("--latex", is_flag=True, help="The table of a paper instead: methods × streams, mean ± spread.")
@click.option("--scores", help="With --latex, the scores below each stream: acc,forgetting.  [that of --by]")
@click.option(
    "--spread",
    type=click.Choice(["sd", "sem", "ci", "none"]),
    help="With --latex, what stands behind ±: deviation, standard error, 95 % confidence.  [sd]",
)
@click.option(
    "--rename", "renames", multiple=True, metavar="OLD=NEW", help="Another name of a method or stream; several times."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file for it.  [the terminal]")
@click.option("--pictures", type=arguments.FOLDER, help="A folder for its pictures (SVG, PNG, PDF).")
def compare(
    runs: tuple[str, ...],
    by: str,
    best_by: str | None,
    kind: str,
    latex: bool,
    scores: str | None,
    spread: str | None,
    renames: tuple[str, ...],
    output: Path | None,
    pictures: Path | None,
) -> None:
    """Compare RUNS: intervals over seeds, paired tests, ranks over streams, fronts against memory and time.

    RUNS are folders of runs, folders that hold many, or patterns in quotes.

    \b
    Examples:
      python run.py compare results/permuted_digits-*
      python run.py compare results/sweep-permuted_digits --best-by validation
      python run.py compare results/reference --by forgetting --format markdown --pictures figures
      python run.py compare results/reference --latex --scores acc,forgetting --rename replay=ER -o table.tex --pictures figures
    """
    from cl_engine.analysis.comparison.labels import parsed

    if not latex:
        if scores or spread:
            raise click.UsageError(f"--{'scores' if scores else 'spread'} is of --latex")
        from cl_engine.analysis.comparison.command import compare_in_terminal

        compare_in_terminal(runs, by, kind, output, pictures, best_by, parsed(renames))
        return
    if kind not in ("terminal", "latex"):
        raise click.UsageError(f"--latex is one format, and --format {kind} another")
    from cl_engine.analysis.paper.command import paper_in_terminal

    asked = [name.strip() for name in (scores or by).split(",") if name.strip()]
    paper_in_terminal(runs, asked, parsed(renames), spread or "sd", output, pictures, best_by)  # type: ignore[arg-type]
