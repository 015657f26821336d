"""The command ``save``."""

from __future__ import annotations

from pathlib import Path

import click

from cl_engine.cli import arguments


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
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
