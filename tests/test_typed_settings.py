"""What is set on the command line: one rule for a run and for a sweep, and what a check says of it beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cl_engine.cli import arguments, main
from cl_engine.experiment import Experiment
from cl_engine.sweep.axes import assigned, axes_of
from cl_engine.sweep.combinations import expanded
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.search import points
from tests.conftest import TINY

SETTINGS = ["lr=0.1", "replay.samples=7", "samples=7", "net.hidden=[3, 4]", "train.lr=0.2", "replay.train.lr=0.3"]


@pytest.mark.parametrize("typed", SETTINGS)
def test_what_is_set_means_the_same_in_a_run_and_in_a_sweep(typed: str):
    alone = Experiment.of(TINY, "replay", **arguments.settings([typed], "replay"))
    options = SweepOptions(scenarios=[str(TINY)], strategies=["replay"], set=dict([assigned(typed)]))
    (swept,) = expanded(options, points(options, axes_of(options.set)))
    assert swept.experiment.hash == alone.hash
    assert alone.hash != Experiment.of(TINY, "replay").hash


@pytest.mark.parametrize(("typed", "what"), [("lr=0.1,0.2", "these are 2"), ("lr=log:1e-3..1e-1", "this is a range")])
def test_a_run_takes_one_value_of_each_option(typed: str, what: str):
    result = CliRunner().invoke(main, ["check", str(TINY), "-s", "replay", "--set", typed])
    assert result.exit_code == 2
    assert f"--set {typed}: a run takes one value of each option, and {what}" in result.stderr


def test_a_check_of_a_sweep_names_what_a_run_would_be_refused_for(tmp_path: Path):
    typed = ["sweep", TINY, "-s", "finetune", "--set", "stream.task_order=[0,1]", "--out", tmp_path / "out"]
    result = CliRunner().invoke(main, list(map(str, [*typed, "--check", "--jobs", "1"])))
    assert result.exit_code == 2
    assert "tiny-finetune cannot be run: stream.task_order must name each of the tasks 0 to 2 once" in result.stderr
