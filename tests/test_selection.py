"""Which rows a memory keeps: by ring, greedily, in equal shares and by herding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.engine.lookahead import look_ahead
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.testing.walking import after_each_task
from cl_engine.training.selection import GroupSlots, OneByOne, greedily, herded, herding, newest

TINY = Path(__file__).parent / "tiny.toml"


def arrived(how: OneByOne, groups: list[int], room: int, seed: int = 0) -> list[int]:
    """Return the rows kept of those that arrive one by one."""
    return sorted(GroupSlots([], room, how, np.random.default_rng(seed)).taken_by(groups, 0).tolist())


def test_a_ring_keeps_the_newest_rows_of_each_group():
    assert arrived("ring", [0, 0, 0, 0, 1, 1, 0, 1, 1, 1], 4) == [3, 6, 8, 9]
    groups = np.array([0, 0, 1, 0, 0, 0, 0])
    assert newest(groups, 7, 3, np.random.default_rng(0)).tolist() == [2, 5, 6]


def test_greedily_rows_of_a_group_that_has_its_share_are_left():
    kept = arrived("greedy", [0] * 6 + [1] * 6 + [0] * 6, 4)
    assert max(kept) < 12
    assert Counter(row // 6 for row in kept) == {0: 2, 1: 2}


@pytest.mark.parametrize("how", ["balanced", "ring", "greedy"])
def test_a_memory_is_always_full_and_in_equal_shares_once_rows_of_every_group_have_come(how: OneByOne):
    groups = [0] * 30 + [1] * 3 + [2] * 30
    for seed in range(5):
        kept = arrived(how, groups, 13, seed)
        assert len(kept) == len(set(kept)) == 13
        assert Counter(groups[row] for row in kept) == {0: 5, 1: 3, 2: 5}


def test_in_equal_shares_every_row_of_a_group_is_kept_with_the_same_probability():
    counts = np.zeros(24)
    for seed in range(2000):
        counts[arrived("balanced", [0, 1] * 12, 6, seed)] += 1
    assert abs(counts / 2000 - 6 / 24).max() < 0.05


def test_whole_tasks_are_taken_in_greedily_in_a_drawn_order():
    groups, draw = np.array([0] * 8 + [1] * 8), np.random.default_rng(0)
    kept = greedily(groups, 0, 6, draw)
    assert Counter(groups[kept].tolist()) == {0: 3, 1: 3}
    assert sorted(kept.tolist()) != [0, 1, 2, 8, 9, 10]


def test_herding_chooses_what_brings_the_mean_nearest_to_that_of_all():
    features = torch.nn.functional.normalize(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    chosen: list[int] = []
    for _ in range(8):  # the published way: all that are left are tried
        left = [row for row in range(30) if row not in chosen]
        apart = [(features[[*chosen, row]].mean(dim=0) - features.mean(dim=0)).norm() for row in left]
        chosen.append(left[int(torch.stack(apart).argmin())])
    assert herding(features.double(), 8).tolist() == chosen


def test_what_is_kept_of_a_group_that_does_not_come_again_is_the_beginning_of_its_earlier_choice():
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    kept = herded(features, groups, np.array([2, 0, 3, 1]), 4)
    assert [row for row in kept.tolist() if row < 4] == [2, 0]
    assert len(kept) == 4


@pytest.mark.parametrize("selection", ["ring", "greedy", "herding"])
@pytest.mark.parametrize("strategy", ["replay", "der"])
def test_a_memory_of_each_kind_is_filled_in_equal_shares(selection: str, strategy: str):
    options = {"samples": 20, "selection": selection, "stream.setting": "class", "stream.name": "split", "stream.n": 2}
    *_, (_, learner) = after_each_task(Experiment.of(TINY, strategy, (0, 1), **options))
    memory = learner.state["memory"]
    assert memory["x"].shape[:2] == (2, 20)
    for place in (0, 1):
        assert set(Counter(memory["y"][place].tolist()).values()) == {2}
    assert not torch.equal(memory["x"][0], memory["x"][1])


def test_exemplars_of_a_class_are_fewer_with_each_class_and_the_most_telling_stay():
    options: dict[str, Any] = {"samples": 12, "stream.setting": "class", "stream.name": "split", "stream.n": 5}
    before: dict[int, set[bytes]] = {}
    for _, learner in after_each_task(Experiment.of(TINY, "icarl", (0,), **options)):
        memory = learner.state["memory"]
        counts = Counter(memory["y"][0].tolist())
        assert max(counts.values()) - min(counts.values()) <= 1
        now = {c: {x.numpy().tobytes() for x in memory["x"][0][memory["y"][0] == c]} for c in counts}
        assert all(now[c] <= before[c] for c in before)
        before = now
    assert len(before) == 10


def test_gdumb_is_the_same_whichever_way_tasks_came_if_its_memory_is():
    options: dict[str, Any] = {"samples": 500, "stream.setting": "class", "stream.name": "split", "stream.n": 2}
    *_, (stream, learner) = after_each_task(Experiment.of(TINY, "gdumb", (0,), **options))
    first = learner.state["net"]
    learner.state = {**learner.state, "net": {name: leaf + 1 for name, leaf in first.items()}}
    for _ in learner.learning(stream[1]):
        pass
    held = learner.state["memory"]["y"].shape[1]
    assert held == 2 * len(stream[1].train) + len(stream[0].train)  # nothing of what the net was is left
    assert all(bool((leaf - first[name]).abs().max() < 0.9) for name, leaf in learner.state["net"].items())


def test_herding_is_refused_where_rows_are_taken_in_before_they_are_learned():
    experiment = Experiment.of(TINY, "replay", (0,), **{"selection": "herding", "stream.pieces": 5})
    with pytest.raises(UsageError, match="selection: 'herding' chooses by what the net makes of rows once"):
        stream = experiment.stream()
        look_ahead(stream, experiment.build_strategy(stream))
