"""Rows that arrive in pieces: each row once, each arrival learned before the next, with no more memory than a whole task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.data.gradual_stream import arranged
from cl_engine.data.pieced_stream import PiecedStream, first_apart, pieces_of
from cl_engine.engine.lookahead import look_ahead
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from cl_engine.runs import plugins
from cl_engine.strategies.finetune import Finetune
from cl_engine.streams.permuted import Permuted
from cl_engine.testing.small import images
from cl_engine.training.rehearsal import as_rows_arrive, reservoir

TINY: dict[str, Any] = {
    "stream.samples_per_class": 4,
    "stream.test_samples_per_class": 4,
    "stream.n": 2,
    "train.epochs": 1,
}


def run(folder: Path, strategy: str = "finetune", seeds: tuple[int, ...] = (0, 1), **options: Any) -> Run:
    Experiment.of("permuted_digits", strategy, seeds, **{**TINY, **options}).run(folder, device="cpu")
    return open_run(folder)


def scores(found: Run) -> np.ndarray:
    return np.asarray(found.results["score"].values)


def permuted(**options: Any) -> Permuted:
    return Permuted(images(), source="given", setting="domain", **{"n": 2, **options})


@pytest.mark.parametrize("stretch", [0, 1, 3])
@pytest.mark.parametrize("per_seed", [False, True])
def test_every_row_arrives_once_in_a_drawn_order_that_is_the_same_whenever_asked_for(stretch: int, per_seed: bool):
    whole = arranged(permuted(per_seed=per_seed), (0, 1))
    pieced = arranged(permuted(per_seed=per_seed, pieces=7, stretch=stretch), (0, 1))
    assert pieced.n_steps is not None
    for task in (0, 1):
        steps = [step for step in range(pieced.n_steps) if pieced.task_id(step) == task]
        for place in (0, 1):
            x, y = whole[task].train.of(place)
            parts = [pieced[step].train.of(place) for step in reversed(steps)][::-1]
            assert [len(y) for _, y in parts] == [pieced.train_rows(step) for step in steps]
            found_x, found_y = (torch.cat(halves) for halves in zip(*parts, strict=True))
            assert not torch.equal(found_y, y)
            both = (torch.cat([a.flatten(1), b[:, None]], dim=1).tolist() for a, b in ((x, y), (found_x, found_y)))
            as_rows = [sorted(map(tuple, rows)) for rows in both]
            assert as_rows[0] == as_rows[1]
    assert torch.equal(pieced[0].train.x, pieced[0].train.x)


def test_a_stream_without_end_arrives_in_pieces_without_end():
    pieced = arranged(permuted(n=None, pieces=10, stretch=2), (0,))
    assert pieced.n_steps is None
    assert [pieced.task_id(step) for step in (0, 1, 2, 5)] == [0, 0, 0, 1] or pieced.task_id(5) > 0
    assert len(pieced[40].train) <= 20


def test_a_task_that_comes_in_one_piece_is_learned_as_ever_bit_for_bit(tmp_path: Path):
    whole, pieced = run(tmp_path / "whole"), run(tmp_path / "pieced", **{"stream.pieces": 1000})
    np.testing.assert_array_equal(scores(whole), scores(pieced))
    np.testing.assert_array_equal(whole.table("epochs")["loss"], pieced.table("epochs")["loss"])


@pytest.mark.parametrize(
    "options",
    [
        {"train.keep_optimizer": True},
        {"train.optimizer": "sgd", "train.lr": 0.05, "train.momentum": 0.9},
        {"train.keep_optimizer": True, "train.epochs": 3, "stream.stretch": 2, "agenda.online": True},
    ],
)
def test_arrivals_within_one_fit_are_learned_as_experiences_of_their_own_are(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = {"stream.pieces": 7, **options}
    at_once = run(tmp_path / "at once", **given)
    monkeypatch.setattr(Finetune, "takes_arrivals", False)
    one_by_one = run(tmp_path / "one by one", **given)
    np.testing.assert_allclose(scores(at_once), scores(one_by_one), atol=0.051)  # a row or two of 40: rounding
    losses = [found.table("epochs")["loss"].to_numpy() for found in (at_once, one_by_one)]
    np.testing.assert_allclose(*losses, rtol=0.05)


def test_online_scores_count_each_row_once_however_often_an_arrival_is_learned(tmp_path: Path):
    found = run(tmp_path, **{"stream.pieces": 7, "train.epochs": 3, "agenda.online": True, "stream.n": 1})
    online = found.table("online")
    assert online["rows"].tolist() == [40, 40]
    assert (online["score"] * 40).tolist() == (online["score"] * 40).round().tolist()


def test_the_memory_of_replay_takes_in_each_arrival_before_the_next():
    draw = np.random.default_rng(0)
    seen: list[int] = []

    def keep(there: np.ndarray, before: int) -> np.ndarray:
        seen.append(before)
        return reservoir(len(there) - min(4, 10 - before), 3 + before, min(4, 10 - before), 5, draw)

    joined, kept = as_rows_arrive(3, 10, 4, 2, 6, keep, draw)
    assert joined.shape == (6, 6)
    assert seen == [0, 4, 8]
    assert len(kept) == len(set(kept.tolist())) == 5
    for number, batch in enumerate(joined):
        assert batch.max() < 3 + (number // 2) * 4, "a batch is joined by rows that came before it"


def test_a_memory_filled_piece_by_piece_holds_every_row_with_equal_probability():
    counts = np.zeros(24)
    for trial in range(3000):
        draw = np.random.default_rng(trial)
        keep = lambda there, before, draw=draw: reservoir(len(there) - 5, 4 + before, 5, 6, draw)  # noqa: E731
        counts[as_rows_arrive(4, 20, 5, 1, 1, keep, draw)[1]] += 1
    assert abs(counts / 3000 - 6 / 24).max() < 0.03


@pytest.mark.parametrize("selection", ["reservoir", "balanced"])
def test_replay_of_pieces_remembers_as_much_as_of_whole_tasks(selection: str, tmp_path: Path):
    given = {"samples": 24, "selection": selection, "stream.pieces": 6}
    found = run(tmp_path, "replay", **given)
    told = found.table("events")
    assert told[told["name"] == "rows"]["value"].tolist() == [6, 24, 24]
    of_last = told[(told["name"] == "of_this_task") & (told["step"] == 1)]["value"]
    assert ((of_last > 4) & (of_last < 20)).all()


@pytest.mark.parametrize("strategy", ["replay", "der", "er_ace", "agem"])
@pytest.mark.parametrize("pieces", [0, 5])
def test_a_memory_of_so_many_bytes_holds_no_more_however_rows_arrive(strategy: str, pieces: int, tmp_path: Path):
    found = run(tmp_path, strategy, (0,), **{"bytes": 6000, "stream.pieces": pieces})
    held = found.results["memory"].sel(part="memory").values
    assert 5000 < held.max() <= 6000 + 8  # beside the rows, how many have been seen


def test_the_first_arrival_can_be_learned_apart():
    experience = PiecedStream(permuted(), 5, 0)[0]
    first, rest = first_apart(experience)
    assert torch.equal(torch.cat([first.train.x, rest.train.x]), experience.train.x)
    assert (len(first.train), first.pieces, rest.pieces) == (5, 0, 5)
    assert len({piece.key for piece in pieces_of(experience)} | {first.key, rest.key}) > 2


@pytest.mark.parametrize("strategy", plugins.names("strategies"))
def test_no_strategy_needs_more_memory_for_a_task_in_pieces(strategy: str, tmp_path: Path):
    options = {"stream.n": 1, "stream.validation": 0.25, "agenda.save_every": 0}
    try:
        whole = run(tmp_path / "whole", strategy, (0,), **options)
    except UsageError as error:
        pytest.skip(f"does not learn single questions of this kind: {error}")
    pieced = run(tmp_path / "pieced", strategy, (0,), **{**options, "stream.pieces": 15})
    last = [found.results["memory"].sum("part").values[-1] for found in (pieced, whole)]
    assert last[0] <= last[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stream.pieces": 7, "train.schedule": "cosine"}, "train.schedule"),
        ({"stream.pieces": 13, "net.norm": "batch"}, "stream.pieces: batch normalisation"),
        ({"stream.stretch": 3}, "stream.stretch"),
    ],
)
def test_what_has_no_meaning_for_pieces_is_refused_beforehand(options: dict[str, Any], said: str):
    experiment = Experiment.of("permuted_digits", "finetune", (0,), **{**TINY, **options})
    with pytest.raises(UsageError, match=said):
        stream = experiment.stream()
        look_ahead(stream, experiment.build_strategy(stream))
