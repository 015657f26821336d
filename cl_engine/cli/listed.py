"""The commands ``list`` and ``fetch``: what there is, and data that are not."""

from __future__ import annotations

from pathlib import Path

import click

from cl_engine.cli import arguments
from cl_engine.cli import completion as offers

KINDS = ("strategies", "streams", "sources", "labels", "targets", "nets", "upkeep", "metrics", "scenarios")


@click.command(name="list")
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.argument("name", required=False, shell_complete=offers.of_kind)
def list_(kind: str | None, name: str | None) -> None:
    """List what there is, one line each; with a KIND also every option, its type, default and meaning; with a NAME of one alone.

    \b
    Examples:
      python run.py list strategies
      python run.py list strategies replay
    """
    from cl_engine.cli.terminal import listing

    for each in (kind,) if kind else KINDS:
        lines = listing(each, options=kind is not None, name=name)
        click.echo(click.style(each, bold=True))
        for line in lines:
            click.echo(line)


@click.command()
@click.argument("source", shell_complete=offers.sources)
@click.option("--data-root", type=arguments.FOLDER, help="Where to.  [$CL_DATA_ROOT]")
def fetch(source: str, data_root: Path | None) -> None:
    """Download the files of a SOURCE, once."""
    from cl_engine.runs import plugins
    from cl_engine.runs.data_root import default_data_root

    root = data_root or default_data_root()
    plugins.source(source).fetch(root)
    click.echo(f"{source} is under {root}")
