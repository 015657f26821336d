"""Runs that are killed (SIGKILL) at chosen moments, in the middle of writes too: the short form of `benchmarks.kills`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from benchmarks.killed import checkpoint
from benchmarks.kills import ANY, Runs, end_of, forked, set_bomb
from cl_engine.checkpoints.file import flat
from cl_engine.experiment import Experiment
from cl_engine.testing.logs import assert_same_facts, facts
from tests.conftest import TINY


@pytest.mark.filterwarnings(
    "ignore:This process.*is multi-threaded:DeprecationWarning"
)  # the runner of tests has threads
@pytest.mark.parametrize("strategy", ["skill_recall"])  # the one that has every kind of moment; the long form has all
@pytest.mark.parametrize("large", [0, 1])
def test_a_run_that_is_killed_whatever_it_does_has_a_log_that_opens_and_ends_as_one_that_was_not(
    tmp_path: Path, strategy: str, large: int
):
    runs = Runs(strategy, tmp_path, random.Random(large))
    wanted = {"learning", "consolidating", "writing the checkpoint", "renaming", ANY}
    wanted |= {"appending to the log", "appending a block"} if large else {"copying the log", "writing the log"}
    for moment in runs.moments(large):
        if moment in wanted:
            runs.kill(moment, large)
    found = runs.tally
    assert not found.wrong
    assert set(found.kills) >= wanted - {ANY}
    assert found.opened + found.early == sum(found.kills.values())
    assert found.equal == found.taken_up >= len(wanted) - 1
    assert found.again <= 2  # of two seeds: what was lost is never more than the pass at hand


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("upkeep", ["continual_backprop?rate=0.05&maturity=5", "upgd?sigma=0.01"])
def test_a_run_with_upkeep_that_is_killed_three_times_ends_with_the_log_and_the_state_of_one_that_was_not(
    tmp_path: Path, upkeep: str
):
    kept = {"train.keep_optimizer": True, "train.upkeep": upkeep, "stream.setting": "domain", "stream.n": 12}
    experiment = Experiment.of(TINY, "finetune", (0,), **kept, **{"agenda.window": 3, "agenda.online": True})
    experiment.run(tmp_path / "whole")

    def killed_at(step: int) -> None:
        set_bomb("learning", step, random.Random(0))
        experiment.run(tmp_path / "out")

    for step in (7, 19, 11):
        status = end_of(forked(lambda step=step: killed_at(step), tmp_path / "said"))
        assert os.WIFSIGNALED(status), (tmp_path / "said").read_text()
    experiment.run(tmp_path / "out")
    assert_same_facts(facts(tmp_path / "out" / "log.h5"), facts(tmp_path / "whole" / "log.h5"))
    states = [flat(checkpoint(tmp_path / end)["strategy"]) for end in ("out", "whole")]
    assert {name.partition("/")[0] for name in states[0]} == {"net", "optimizer", "upkeep"}
    assert_same_facts(*states, why="states: ")
