"""Losses that are NaN or infinite, and answers that are NaN, stop a seed or the run, and what was measured stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from cl_engine.cli import main
from cl_engine.core.tree import leaves_with_path
from cl_engine.data.stream import Experience
from cl_engine.errors import RunFailed
from cl_engine.events import Event, Saved
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.strategies.finetune import Finetune
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.training.seed_group import SeedGroup
from tests.conftest import STRATEGIES

Tiny = Callable[..., Experiment]
BAD, STEP = 1, 1  # the seed whose weights become NaN, and the experience in which they do
GO_ON = {"train.not_finite": "stop_seed"}


@pytest.fixture
def nan_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the weights of a seed become NaN in the second pass of an experience."""
    original = SeedGroup.start_epoch

    def start_epoch(learner: SeedGroup, epoch: int, batches: int) -> None:
        original(learner, epoch, batches)
        if BAD in learner.seeds and (learner.job.step, epoch) == (STEP, 1):
            with torch.no_grad():
                for _, leaf in leaves_with_path(learner.params):
                    (leaf[learner.seeds.index(BAD)] if len(learner.seeds) > 1 else leaf).fill_(torch.nan)

    monkeypatch.setattr(SeedGroup, "start_epoch", start_epoch)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tiny: Tiny, tmp_path: Path, nan_weights: None):
    with pytest.raises(
        RunFailed, match=r"the loss of seed 1 is nan at step 1 \(task 1\), epoch 1: lower train.lr, now 0.01"
    ):
        tiny("finetune", (0, 1)).run(tmp_path)
    run = open_run(tmp_path)
    assert (run.status, run.results.sizes["experience"]) == ("failed", 1)
    assert np.isfinite(run.results["acc"].sel(evaluation=1)).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_seed_can_be_stopped_alone_and_the_others_learn_as_they_would_have(
    tiny: Tiny, tmp_path: Path, nan_weights: None, name: str
):
    experiment = tiny(name, (0, BAD, 2), **GO_ON)
    experiment.run(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.status == "finished"
    results = run.results.sel(seed=BAD)
    late = results["evaluation_step"] >= STEP
    measured = (results["n_total"] > 0).any("task")
    stops = run.table("events").query("kind == 'SeedStopped' and name == 'stopped'")
    if not len(stops):  # nothing was fitted in that pass: it learns in other ways
        pytest.skip(f"{name} makes no second pass in this experience")
    assert measured[~late].all() and not measured[late].any()
    assert stops.set_index("seed")["value"].to_dict() == {0: 0.0, 1: 1.0, 2: 0.0}
    others = run.results.sel(seed=[0, 2])
    assert np.isfinite(others["acc"][others["evaluation_step"].values >= 0]).all()
    losses = run.table("epochs")
    assert losses[(losses.seed == BAD) & (losses.step > STEP)]["loss"].isna().all()


def test_a_stopped_seed_leaves_the_numbers_of_the_others_as_they_are(tiny: Tiny, tmp_path: Path, nan_weights: None):
    tiny("replay", (0, BAD), **GO_ON).run(tmp_path / "both")
    tiny("replay", (0,), **GO_ON).run(tmp_path / "alone")
    both, alone = (open_run(tmp_path / name).results.sel(seed=0) for name in ("both", "alone"))
    np.testing.assert_array_equal(both["accuracy"], alone["accuracy"])


def test_a_run_with_a_stopped_seed_goes_on_the_same_after_a_kill(tiny: Tiny, tmp_path: Path, nan_weights: None):
    class Cut(BaseException):
        pass

    experiment = tiny("finetune", (0, BAD), **GO_ON, **{"agenda.save_every_epochs": 1, "train.epochs": 3})
    saves = 0

    def cutting(event: Event) -> None:
        nonlocal saves
        if isinstance(event, Saved):
            saves += 1
            if saves % 2 == 0:
                raise Cut

    experiment.run(tmp_path / "whole")
    for _ in range(20):
        try:
            experiment.run(tmp_path / "cut", listeners=lambda stream: [cutting])
            break
        except Cut:
            continue
    assert_same_facts(facts(tmp_path / "cut" / "log.h5"), facts(tmp_path / "whole" / "log.h5"))


def test_when_the_last_seed_is_stopped_so_is_the_run(tiny: Tiny, tmp_path: Path, nan_weights: None):
    with pytest.raises(RunFailed, match=r"the loss of the last seed is not finite at step 1"):
        tiny("finetune", (BAD,), **GO_ON).run(tmp_path)


@pytest.fixture
def nan_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a seed answer with NaN once it has learned an experience."""
    original = Finetune.predict

    def predict(strategy: Finetune, x: Tensor, task_id: int | None) -> Tensor:
        answers = original(strategy, x, task_id).clone()
        spoilt = bool(strategy.__dict__.get("spoilt", 0) > STEP) and BAD in strategy.seeds
        if spoilt:
            answers[strategy.seeds.index(BAD)] = torch.nan
        return answers

    learn = Finetune.learn

    def learning(strategy: Finetune, experience: Experience) -> Any:
        yield from learn(strategy, experience)
        strategy.__dict__["spoilt"] = experience.step + 1

    monkeypatch.setattr(Finetune, "predict", predict)
    monkeypatch.setattr(Finetune, "learn", learning)


@pytest.mark.parametrize("setting", ["task", "domain"])
def test_answers_that_are_nan_end_the_run_and_are_not_scored_as_the_first_class(
    tiny: Tiny, tmp_path: Path, nan_answers: None, setting: str
):
    said = r"an answer of seed 1 is nan in the test of task \d after step 1, which is no answer: look at what `predict`"
    with pytest.raises(RunFailed, match=said):
        tiny("finetune", (0, BAD), **{"stream.setting": setting}).run(tmp_path)
    run = open_run(tmp_path)
    assert run.status == "failed"
    assert np.isfinite(run.results["acc"].sel(evaluation=1)).all()


def test_a_seed_whose_answers_are_nan_can_be_stopped_alone(tiny: Tiny, tmp_path: Path, nan_answers: None):
    tiny("finetune", (0, BAD, 2), **GO_ON).run(tmp_path)
    run = open_run(tmp_path)
    assert run.status == "finished"
    late = run.results["evaluation_step"].values >= STEP
    acc = run.results["acc"]
    assert acc.sel(seed=BAD)[late].isnull().all() and np.isfinite(acc.sel(seed=[0, 2])[late]).all()
    stops = run.table("events").query("kind == 'SeedStopped' and name == 'stopped'")
    assert stops.set_index("seed")["value"].to_dict() == {0: 0.0, 1: 1.0, 2: 0.0}


def test_an_answer_of_minus_infinity_is_one(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    original = Finetune.predict

    def predict(strategy: Finetune, x: Tensor, task_id: int | None) -> Tensor:
        answers = original(strategy, x, task_id).clone()
        answers[..., -1] = -torch.inf
        return answers

    monkeypatch.setattr(Finetune, "predict", predict)
    tiny("finetune", (0,)).run(tmp_path)
    assert open_run(tmp_path).status == "finished"


def test_nan_before_anything_is_learned_is_warned_of(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    original = Finetune.predict

    def predict(strategy: Finetune, x: Tensor, task_id: int | None) -> Tensor:
        return original(strategy, x, task_id) * (1.0 if "learned" in strategy.__dict__ else torch.nan)

    learn = Finetune.learn

    def learning(strategy: Finetune, experience: Experience) -> Any:
        yield from learn(strategy, experience)
        strategy.__dict__["learned"] = True

    monkeypatch.setattr(Finetune, "predict", predict)
    monkeypatch.setattr(Finetune, "learn", learning)
    tiny("finetune", (0,)).run(tmp_path)
    assert [record.message for record in caplog.records if "is nan in the test" in record.message] == [
        "an answer of seed 0 is nan in the test of task 0 before anything is learned: the score is that of chance"
    ]


def test_a_run_with_a_stopped_seed_is_shown_reported_on_and_compared(tiny: Tiny, tmp_path: Path, nan_weights: None):
    tiny("finetune", (0, BAD, 2), **GO_ON).run(tmp_path / "a")
    tiny("replay", (0, BAD, 2), **GO_ON).run(tmp_path / "b")
    typed: list[list[Any]] = [
        ["show", tmp_path / "a"],
        ["report", tmp_path, "-o", tmp_path / "report.html"],
        ["compare", tmp_path],
        ["export", tmp_path, "--to", "csv", "-o", tmp_path / "csv"],
    ]
    for arguments in typed:
        done = CliRunner().invoke(main, [str(word) for word in arguments])
        assert (done.exit_code, done.exception) == (0, None), done.output
