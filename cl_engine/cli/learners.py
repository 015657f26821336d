"""The commands ``save`` and ``zoo``: what runs have learned, as files."""

from __future__ import annotations

import math
from pathlib import Path

import click

from cl_engine.cli import arguments, completion


@click.command()
@click.argument("run", type=click.Path(path_type=Path), shell_complete=completion.runs)
@click.option("--task", type=int, help="The task; may be left out where there is one, or where tasks are not told.")
@click.option("--seed", type=int, help="One of the run's seeds.  [the first]")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file.")
@click.option("--data-root", type=arguments.FOLDER, help="Where its data are.  [$CL_DATA_ROOT]")
def save(run: Path, task: int | None, seed: int | None, output: Path, data_root: Path | None) -> None:
    """Write the net that a RUN, finished or stopped, answers a task with; the file's ending says how.

    .safetensors holds the weights by the names of the net's module (masks applied, codes decoded, modules put together); .pt2
    (torch.export) and .onnx are programs from inputs as they are stored to outputs, for any number of rows.

    \b
    Examples:
      python run.py save results/permuted_digits-piggyback-* --task 3 -o task3.safetensors
      python run.py save RUN --task 0 --seed 2 -o net.onnx
    """
    from cl_engine.learners import load
    from cl_engine.learners.saving import check_ending

    check_ending(output)  # before data are read
    learner = load(run, data_root)
    file = learner.save(output, task, seed)
    named, number = learner.task_named(task), learner.strategy.seeds[learner.place_of(seed)]
    click.echo(f"{file}: task {named}, seed {number}, {file.stat().st_size:,} bytes")


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), shell_complete=completion.runs)
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file, an .h5."
)
@click.option("--data-root", type=arguments.FOLDER, help="Where their data are.  [$CL_DATA_ROOT]")
def zoo(runs: tuple[Path, ...], output: Path, data_root: Path | None) -> None:
    """Pack the nets of all tasks and seeds of RUNS into one file, with their scores.

    Nets with the same tensors are rows of one array, to learn from weights (`cl_engine.results.open_zoo`); a scenario may start
    from any of them: [backbone] file = "zoo.h5?row=3".

    \b
    Examples:
      python run.py zoo results/permuted_digits-* -o zoo.h5
      python run.py run split_digits_class -s finetune --set "backbone.file=zoo.h5?row=3"
    """
    from cl_engine.learners.zoo import pack

    packed = pack(runs, output, data_root)
    for nets in packed.nets:
        numbers = sum(math.prod(shape) for _, shape, _ in nets.tensors)
        click.echo(f"{nets.net['name']:<24} {nets.count:,} nets of {numbers:,} numbers")
    best = packed.table.loc[packed.table["score"].idxmax()] if packed.table["score"].notna().any() else None
    said = "" if best is None else f"; the best score is {best['score']:.3f}, of row {best['row']:.0f}"
    click.echo(
        f"{output}: {len(packed.table):,} nets of {len(packed.runs):,} runs, {output.stat().st_size:,} bytes{said}"
    )
