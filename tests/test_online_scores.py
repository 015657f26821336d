"""Online scores: every batch is scored by the forward pass that trains on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.analysis.plots import across_runs
from cl_engine.analysis.scores.measures import measured
from cl_engine.analysis.scores.online import online_scores
from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.events import OnlineScored
from cl_engine.experiment import Experiment
from cl_engine.results import open_run
from cl_engine.targets.classes import Classes
from cl_engine.testing.small import scenario
from cl_engine.training.fit_job import FitJob
from cl_engine.training.optimizers import Train
from tests.test_fit import job_of, net_of, run

ASKED = Classes.of(classes=3)


def asking(online: int | None, **changes: object) -> FitJob:
    """Return a fit whose loss is what its target says."""
    net = changes.pop("net", None) or net_of()

    def loss(params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        return ASKED.loss(net.one(params, x), y)

    return job_of(net, **{"loss": loss, "target": ASKED, "online": online, **changes})


def scored(job: FitJob) -> list[OnlineScored]:
    return [event for event in run(job)[1] if isinstance(event, OnlineScored)]


@pytest.mark.parametrize("together", [True, False])
def test_each_batch_is_scored_by_the_weights_before_its_step(together: bool):
    job = asking(1, side_by_side=together)
    found = scored(job)
    params = {name: tensor[1].clone().requires_grad_() for name, tensor in job.params.items()}
    optimizer = torch.optim.SGD(params.values(), lr=job.train.lr, momentum=job.train.momentum)
    right = []
    for epoch in range(job.train.epochs):
        order = torch.randperm(50, generator=rng.tensors(1, "order", 0, 0, epoch))
        for index in order.split([16, 16, 16, 2]):
            logits = job.net.one(params, job.rows[0][index])
            right.append((int((logits.argmax(dim=1) == job.rows[1][index]).sum()), len(index)))
            optimizer.zero_grad()
            F.cross_entropy(logits, job.rows[1][index]).backward()
            optimizer.step()
    assert [(int(event.sums[1][0]), event.rows) for event in found] == right
    assert [(event.epoch, event.batch) for event in found] == [(k // 4, k % 4 + 1) for k in range(12)]


@pytest.mark.parametrize("together", [True, False])
def test_scoring_changes_nothing_that_is_learned(together: bool):
    with_scores, without = (run(asking(online, side_by_side=together))[0] for online in (0, None))
    assert all(torch.equal(with_scores[name], without[name]) for name in without)


@pytest.mark.parametrize("every", [0, 3])
def test_what_is_told_in_pieces_adds_up_to_the_epoch(every: int):
    whole, pieces = scored(asking(0)), scored(asking(every))
    for event in whole:
        own = [piece for piece in pieces if piece.epoch == event.epoch]
        assert sum(piece.rows for piece in own) == event.rows == 50
        np.testing.assert_array_equal(np.sum([piece.sums for piece in own], axis=0), event.sums)


@pytest.mark.parametrize("most", [0, 200, 1 << 16])
def test_batches_are_counted_together_as_many_as_there_is_room_for_and_one_by_one_alike(
    most: int, monkeypatch: pytest.MonkeyPatch
):
    counted: list[int] = []
    plain = Classes.sums_of_each

    def noted(self: Classes, outputs: Tensor, y: Tensor) -> Tensor:
        counted.append(y.shape[1])
        return plain(self, outputs, y)

    expected = [event.sums for event in scored(asking(0))]
    monkeypatch.setattr("cl_engine.training.online_sums.WAITING", most)
    monkeypatch.setattr(Classes, "sums_of_each", noted)
    assert [event.sums for event in scored(asking(0, side_by_side=True))] == expected
    # batches of 16, 16, 16 and 2 rows, three outputs for each of three seeds
    assert counted == {0: [16, 16, 16, 2], 200: [32, 18], 1 << 16: [50]}[most] * 3


@pytest.mark.parametrize("together", [True, False])
def test_rehearsed_rows_are_not_scored(together: bool):
    job = asking(0, side_by_side=together)
    again = tuple(rows.expand(3, *rows.shape).clone() for rows in job.rows)
    rehearsing = asking(0, side_by_side=together, rehearsal=again, rehearsal_batch=5)
    assert {event.sums[0][1] for event in scored(rehearsing)} == {50.0}


def test_a_loss_that_asks_no_target_is_not_scored():
    found = scored(job_of(net_of(), online=0))
    assert len(found) == 3
    assert np.isnan([event.score for event in found]).all()


def test_the_score_of_several_candidates_is_told_of_each():
    job = asking(
        0, seeds=[0, 1, 0, 1], candidates=2, params=net_of().init([0, 1, 0, 1]), train=Train(epochs=1, batch=16)
    )
    found = scored(job)
    assert [(event.fit, len(event.score)) for event in found] == [(0, 2), (1, 2)]
    assert found[0].score == found[1].score


@pytest.mark.parametrize("strategy", ["finetune", "replay", "skill_recall"])
def test_the_log_has_the_online_score_of_every_experience(strategy: str, tmp_path: Path):
    options = {"agenda.online": True, "agenda.online_batches": 2}
    folder = Experiment.of(scenario(), strategy, (0, 1), **options).run(tmp_path / "run", device="cpu")
    found = open_run(folder)
    scores = online_scores(found)
    assert scores.shape == (found.results.sizes["experience"], 2)
    assert ((scores > 0) & (scores <= 1)).all()
    assert measured(found, ["online_accuracy"])["online_accuracy"] == pytest.approx(scores.mean(axis=0))
    table = found.table("online")
    rows = table[(table["step"] == 0) & (table["fit"] == 0) & (table["seed"] == 0)]
    assert rows["rows"].sum() == found.table("experiences")["rows"][0] * rows["epoch"].nunique()
    assert across_runs.online_over_stream([found]) is not None


def test_a_run_that_does_not_ask_for_it_has_no_online_score(tmp_path: Path):
    run_of = open_run(Experiment.of(scenario(), "finetune").run(tmp_path / "run", device="cpu"))
    assert np.isnan(online_scores(run_of)).all()
    assert across_runs.online_over_stream([run_of]) is None
