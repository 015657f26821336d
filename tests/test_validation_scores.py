"""Scores on validation rows: what the log has of them, whose rows they are, and that nothing else depends on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.engine import loop
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Evaluated, Event, ScoresReused, ValidationScored
from cl_engine.experiment import Experiment
from cl_engine.extension.extend import Extension
from cl_engine.results import open_run
from cl_engine.results.of_seeds import of_seeds
from cl_engine.testing import small
from cl_engine.testing.logs import assert_same_facts, facts
from tests.conftest import TINY

Tiny = Callable[..., Experiment]
ASIDE = {"stream.validation": 0.5}


def walked(experiment: Experiment, **options: Any) -> list[Event]:
    stream = experiment.stream()
    return list(simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda), **options))


def validated(events: list[Event]) -> list[ValidationScored]:
    return [event for event in events if isinstance(event, ValidationScored)]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two seeds whose stream sets rows aside."""
    folder = tmp_path_factory.mktemp("choosing") / "run"
    return Experiment.of(TINY, "finetune", (0, 1), **ASIDE).run(folder, device="cpu")


def test_the_log_has_the_scores_on_validation_rows_beside_those_on_test_rows(logged: Path):
    run = open_run(logged)
    experiment = Experiment.of(TINY, "finetune", (0, 1), **ASIDE)
    stream = experiment.stream()
    found = run.validation
    assert found is not None
    assert found["score"].shape == run.results["score"].shape
    steps = run.results["evaluation_step"].values
    rows = len(stream.validation_rows(0))
    assert rows == 3 * 10
    for row, step in enumerate(steps):
        tested = np.flatnonzero(found["n_total"].values[row, :, 0])
        assert tested.tolist() == list(range(step + 1))  # tasks met alone, none by the untrained net
        assert (found["n_total"].values[row, tested] == rows).all()
    assert run.final is not None
    assert run.validated("acc") == pytest.approx(found["score"].values[-1].mean(axis=0))
    after = np.array([found["score"].values[list(steps).index(task), task] for task in (0, 1)])
    assert run.validated("bwt") == pytest.approx((found["score"].values[-1, :2] - after).mean(axis=0), abs=1e-6)
    assert run.validated("fwt") is None


def test_scores_on_validation_rows_are_those_that_the_strategy_answers_right(tiny: Tiny):
    experiment = tiny("finetune", **ASIDE)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    events = list(simulate(stream, strategy, plan(stream, experiment.agenda), validation=True))
    rows = stream.validation_rows(2)
    right = (strategy.predict(rows.x, 2).argmax(dim=2) == rows.y).sum(dim=1)
    assert validated(events)[-1].sums[2, :, 0].tolist() == right.tolist()


def test_what_is_learned_and_tested_is_the_same_with_and_without_them(tiny: Tiny):
    def told(events: list[Event]) -> list[Event]:
        return [event for event in events if isinstance(event, Evaluated)]

    experiment = tiny("replay", **ASIDE)
    with_them, without = walked(experiment, validation=True), walked(experiment)
    assert told(with_them) == told(without)
    assert not validated(without)
    assert len(validated(with_them)) == 3


def test_a_score_that_must_hold_is_not_measured_again(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    experiment = tiny("independent", **ASIDE)
    asked = []
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    predict = strategy.predict

    def counted(x: torch.Tensor, task_id: int | None) -> torch.Tensor:
        asked.append(len(x))
        return predict(x, task_id)

    monkeypatch.setattr(strategy, "predict", counted)
    events = list(simulate(stream, strategy, plan(stream, experiment.agenda), validation=True))
    rows = len(stream.validation_rows(0))
    assert rows != len(stream.test(0))
    assert asked.count(rows) == 3  # of 1 + 2 + 3 scores
    assert [len(event.task_ids) for event in validated(events)] == [1, 2, 3]
    assert any(isinstance(event, ScoresReused) for event in events)


def test_a_stream_without_validation_rows_and_an_agenda_without_them_have_no_such_scores(tmp_path: Path):
    plain = Experiment.of(TINY, "finetune", **{"stream.n": 1}).run(tmp_path / "plain", device="cpu")
    off = Experiment.of(TINY, "finetune", **{"stream.n": 1, "agenda.validation": False}, **ASIDE)
    assert open_run(plain).validation is None
    assert open_run(off.run(tmp_path / "off", device="cpu")).validation is None
    assert open_run(plain).validated() is None


def test_the_agenda_s_new_option_leaves_experiments_what_they_were():
    assert '"validation"' not in Experiment.of(TINY, "finetune").json.partition('"agenda"')[2].partition("}")[0]
    off = Experiment.of(TINY, "finetune", **{"agenda.validation": False})
    assert off.hash != Experiment.of(TINY, "finetune").hash


def test_a_run_that_goes_on_has_the_same_scores_as_one_that_was_not_stopped(
    logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Enough(Exception):
        pass

    def stopping(event: Event) -> None:
        if event.step == 2:
            raise Enough

    experiment = Experiment.of(TINY, "finetune", (0, 1), **ASIDE)
    with pytest.raises(Enough):
        experiment.run(tmp_path / "run", device="cpu", listeners=lambda stream: [stopping])
    experiment.run(tmp_path / "run", device="cpu")
    one, other = open_run(logged).validation, open_run(tmp_path / "run").validation
    assert one is not None and other is not None
    assert one.drop_vars("evaluation").equals(other.drop_vars("evaluation"))


def test_a_checkpoint_of_before_there_were_such_scores_is_gone_on_from(tiny: Tiny, tmp_path: Path):
    experiment = tiny("finetune", **ASIDE)

    def walk(**how: Any) -> Any:
        stream = experiment.stream()
        return simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda), **how)

    old = walk(save_to=tmp_path / "state")
    for event in old:
        if isinstance(event, loop.events.Saved) and event.step == 1:
            break
    resume = loop.Store(tmp_path / "state").load()
    assert "validation" not in resume
    last = validated(list(walk(resume=resume, validation=True)))[-1]
    assert np.isfinite(last.acc).all()
    assert np.isnan(last.bwt).all()  # what tasks were right after they were learned is not known


class Late(Stream):
    """A stream of one's own whose experiences bring validation rows."""

    n_tasks, n_steps, input_shape, outputs, mean, std = 2, 4, (3,), 2, (0.0,), (1.0,)
    device = torch.device("cpu")

    def __init__(self, **options: Any) -> None:
        self.configure(options, "stream")

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step % 2

    def __getitem__(self, step: int) -> Experience:
        rows = Data(torch.full((4, 3), float(step)), torch.tensor([0, 1, 0, 1]))
        return Experience(step=step, task_id=self.task_id(step), train=rows, validation=rows, classes=2)

    def test(self, task_id: int) -> Data:
        return Data(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_validation_rows_of_a_task_are_those_of_its_first_experience_with_the_labels_that_there_are():
    assert Late().validation_rows(1).x[0, 0] == 1
    assert len(Late(unlabelled=[1]).validation_rows(1)) == 0
    assert len(Late(unlabelled=[1]).validation_rows(0)) == 4
    assert 0 < len(Late(unlabelled_share=0.5).validation_rows(0)) < 4
    with pytest.raises(IndexError, match="task 2"):
        Late().validation_rows(2)


@pytest.mark.parametrize("changes", [{}, {"unlabelled": [1]}, {"per_seed": True}, {"pieces": 5}])
def test_every_way_that_rows_arrive_in_has_them(changes: dict[str, Any]):
    how = {f"stream.{key}": value for key, value in changes.items()}
    stream = Experiment.of(small.scenario(), "finetune", (0, 1), **ASIDE, **how).stream()
    one, again = stream.validation_rows(1), stream.validation_rows(1)
    assert len(one) == (0 if changes.get("unlabelled") else len(stream[stream.n_steps - 1].validation))
    assert one.x.equal(again.x)


def test_seeds_spread_over_runs_have_their_scores_on_validation_rows_together(logged: Path, tmp_path: Path):
    for seed in (1, 0):
        Experiment.of(TINY, "finetune", (seed,), **ASIDE).run(tmp_path / str(seed), device="cpu")
    (whole,) = of_seeds([open_run(tmp_path / seed) for seed in ("1", "0")])
    one = open_run(logged).validation
    assert one is not None and whole.validation is not None
    assert whole.validation["seed"].values.tolist() == [0, 1]
    assert np.allclose(whole.validation["score"], one["score"], atol=0.1, equal_nan=True)
    assert whole.validated("acc") == pytest.approx(whole.validation["score"].values[-1].mean(axis=0))


@pytest.mark.parametrize("seeds", [(0, 1), None])
def test_an_extended_run_has_the_scores_on_validation_rows_of_one_from_the_start(
    seeds: tuple[int, ...] | None, tmp_path: Path
):
    how = {**ASIDE, "net.hidden": [64, 64, 64], "train.epochs": 1}  # too large for seeds to run as one vmap
    late = {} if seeds else {"stream.n": 3}
    short = Experiment.of(TINY, "finetune", (0,), **how, **{"stream.n": 2})
    short.run(tmp_path / "short", device="cpu")
    extension = Extension.of(tmp_path / "short", late, seeds, tmp_path / "longer")
    for step in extension.steps():
        step.experiment.run(step.folder, device="cpu", begin=step.begin)
    whole = Experiment.of(TINY, "finetune", seeds or (0,), **how, **({"stream.n": 2} if seeds else {}))
    found, its = (
        facts(folder / "log.h5") for folder in (tmp_path / "longer", whole.run(tmp_path / "whole", device="cpu"))
    )
    assert any(name.startswith("results/validation/") for name in its)
    assert_same_facts({name: fact for name, fact in found.items() if name != "environment/taken_over"}, its)
