"""Runs that are killed (SIGKILL) at chosen moments, in the middle of writes too: the short form of `benchmarks.kills`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.kills import ANY, Runs


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
