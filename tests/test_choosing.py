"""Choosing without cheating: scores on validation rows, what choices go by, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from cl_engine.cli import main
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.engine import loop
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import Evaluated, Event, ScoresReused, ValidationScored
from cl_engine.experiment import Experiment
from cl_engine.results import open_run
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.folder import Entry, SweepFolder
from cl_engine.sweep.halving import goals
from cl_engine.sweep.log_summary import LogSummary, rows_of
from cl_engine.sweep.status import Status
from cl_engine.sweep.sweep import Sweep
from cl_engine.testing import small
from tests.conftest import TINY

Tiny = Callable[..., Experiment]
ASIDE = {"stream.validation": 0.5}


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def sweep(**changes: Any) -> SweepOptions:
    return SweepOptions(**{"scenarios": [str(TINY)], "strategies": ["finetune", "replay"], **changes})


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


def look(test: float, validation: float | None = None, learned: int = 3) -> LogSummary:
    aside = () if validation is None else ((learned, validation),)
    return LogSummary("finished", learned, 1.0, ((learned, test),), validated=aside)


def test_choices_go_by_validation_rows_where_all_have_them_and_by_test_rows_where_one_has_none():
    assert rows_of([look(0.5, 0.6), look(0.7, 0.4)], sweep()) == "validation"
    assert rows_of([look(0.5, 0.6), look(0.7)], sweep()) == "test"
    assert rows_of([look(0.5, 0.6)], sweep(objective_on="test")) == "test"
    assert rows_of([look(0.5)], sweep(objective_on="validation")) == "validation"
    assert rows_of([look(0.5, 0.6)], sweep(objective="memory")) is None
    assert rows_of([], sweep()) == "test"


def tally_of(options: SweepOptions, **looks: LogSummary) -> Status:
    tally = Status(options)
    for name, found in looks.items():
        tally.enter(Entry(name, name, "tiny", name, [0], {"train.lr": 0.1}), name, found)
    return tally


def test_the_best_run_is_named_with_the_rows_that_it_was_chosen_by():
    looks = {"one": look(0.5, 0.6), "other": look(0.7, 0.4)}
    tally = tally_of(sweep(), **looks)
    assert tally.shown_best() == "best acc 0.600 (chosen on validation rows; 0.500 on test rows): tiny, one"
    assert "chosen on validation rows: test rows took no part" in tally.warning
    tally = tally_of(sweep(objective_on="test"), **looks)
    assert tally.shown_best() == "best acc 0.700 (chosen on test rows): tiny, other"
    assert tally.warning.endswith("run what was chosen on other seeds")
    tally = tally_of(sweep(), one=look(0.5), other=look(0.7))
    assert tally.shown_best() == "best acc 0.700 (chosen on test rows): tiny, other"
    assert tally.warning.startswith(
        "These runs are ordered by ACC, chosen on test rows: that of the best one is no result"
    )
    assert "stream.validation sets some aside" in tally.warning
    tally = tally_of(sweep(objective="memory"), **looks)
    assert "rows" not in tally.shown_best() + tally.warning
    tally = tally_of(sweep(objective_on="validation"), one=look(0.5))
    assert tally.shown_best() == "no run has measured acc on validation rows, so none is the best"


def test_halving_keeps_the_best_on_validation_rows_and_says_so():
    looks = {"a": look(0.5, 0.6, 2), "b": look(0.7, 0.4, 2)}
    looks = {name: LogSummary(**{**vars(found), "status": "stopped"}) for name, found in looks.items()}
    halving = {"tasks": 2, "factor": 2}
    found = goals(["a", "b"], looks, set(), sweep(halving=halving))
    assert (found["b"].dropped_at, found["b"].rows, found["a"].dropped_at) == (2, "validation", None)
    assert goals(["a", "b"], looks, set(), sweep(halving=halving, objective_on="test"))["a"].dropped_at == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"objective_on": "validation"}, r"stream.validation is 0 in tiny-finetune: set rows aside"),
        ({"objective_on": "validation", "objective": "fwt"}, "fwt is measured on test rows alone"),
        ({"objective_on": "test", "objective": "memory"}, "memory is measured on no rows"),
        (
            {"objective_on": "validation", "set": {"stream.validation": 0.5, "agenda.validation": False}},
            "agenda.validation is false",
        ),
        ({"search": "optuna", "set": {"stream.validation": [0, 0.5]}}, "fix it, or choose on test rows"),
    ],
)
def test_a_choice_by_rows_that_are_not_there_is_refused_before_anything_runs(
    changes: dict[str, Any], sentence: str, tmp_path: Path
):
    with pytest.raises(UsageError, match=sentence):
        Sweep(sweep(**changes), tmp_path / "sweep", device="cpu", quiet=True)


def test_a_sweep_chooses_on_validation_rows_and_says_so_in_table_report_and_folder(tmp_path: Path):
    typed = ("sweep", TINY, "-s", "finetune", "--set", "lr=1e-5,1e-2", "--set", "stream.validation=0.5", "--jobs", "1")
    result = call(*typed, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "(chosen on validation rows; " in result.stdout
    assert "acc, validation" in result.stdout
    assert "acc, test" in result.stdout
    assert SweepFolder(tmp_path / "out").plan["chosen_on"] == "chosen on validation rows"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "ordered by ACC, chosen on validation rows" in page
    again = call(*typed, "--out", tmp_path / "out", "--objective-on", "test", "--no-report")
    assert " (chosen on test rows): " in again.stdout
    assert SweepFolder(tmp_path / "out").plan["chosen_on"] == "chosen on test rows"
