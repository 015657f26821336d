"""Logs of runs whose tasks are measured by different things: what is written, resumed and read, and scores by direction."""

from __future__ import annotations

import json
import math
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cl_engine import events
from cl_engine.analysis.report.terminal import print_comparison, print_run
from cl_engine.analysis.scores import log_scores
from cl_engine.analysis.scores.measures import MEASURES, measured
from cl_engine.analysis.scores.references import delta_m_to
from cl_engine.analysis.scores.run_scores import learning_curve, recomputed, summarised
from cl_engine.core.measure import Measure
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.interop.script_log import ScriptLog, ScriptStream
from cl_engine.loggers import recorder
from cl_engine.loggers.recorder import Recorder
from cl_engine.loggers.tables import OF_TASKS
from cl_engine.metrics import matrix_scores
from cl_engine.nn.target import Target
from cl_engine.results import lazy_arrays
from cl_engine.results.log_file import array
from cl_engine.results.of_measure import by_measure
from cl_engine.results.run import Run, open_run
from cl_engine.targets.boxes import Boxes
from cl_engine.targets.class_map import ClassMap
from cl_engine.targets.classes import Classes
from cl_engine.targets.number_map import NumberMap
from cl_engine.targets.numbers import Numbers
from cl_engine.testing.logs import assert_same_facts, facts
from tests.conftest import TINY

NAN = float("nan")
SEEDS = [3, 5]
ANGLE = NumberMap.of(channels=3, kind="normals")
ASKED = (Classes.of(classes=4), ANGLE, ClassMap.of(classes=2), Boxes.of(size=[8, 8]), Numbers.of(numbers=1), ANGLE)
ANGLES = [1, 5]  # tasks measured by the angle, of which less is better
COSTS = ("memory", "seconds", "training_flops")
SHORT = [0, 1, 2, 4]  # tasks of few sums


class Stream:
    """What the recorder asks of a stream: tasks that ask for ``asked``."""

    n_steps: int | None = None

    def __init__(self, asked: Sequence[Target] = ASKED, endless: bool = False) -> None:
        self.asked, self.n_tasks = asked, None if endless else len(asked)
        known = asked[:1] if endless else asked
        self.only_accuracy = all(target.counts_answers for target in known)
        self.most_sums = max(len(target.sum_names) for target in known)

    def target(self, task_id: int) -> Target:
        return self.asked[task_id]

    def name_of(self, task_id: int) -> str:
        return f"view {task_id}"

    def is_free(self, task_id: int) -> bool:
        return task_id == 0


def told(R: np.ndarray, asked: Sequence[Target] = ASKED) -> Iterator[events.Event]:
    """Yield the events of a run that learns the tasks in turn, with scores ``R [1 + T, T, S]``, the untrained row first."""
    undefined: dict[str, Any] = dict.fromkeys(("acc", "bwt", "fwt", "forgetting"), (NAN,) * len(SEEDS))
    for row, scores in enumerate(R):
        step = row - 1
        if step >= 0:
            yield events.TaskStarted(step=step, task_id=step, rows=7)
            yield events.GuessScored(step=step, task_id=step, score=step / 10)
            yield events.CurvePoint(step=step, batch=1, epoch=0, seconds=0.1, **answers(step, scores[step], asked))
            yield events.TaskLearned(step=step, task_id=step, memory={"net": 100}, seconds=0.1)
        for task, score in enumerate(scores):
            if np.isfinite(score).any():
                yield events.Evaluated(step=step, evaluation=row, **answers(task, score, asked))
        yield events.Scored(step=step, evaluation=row, seconds=0.1, **undefined)
        yield events.Saving(step=step, cursor=row)


def answers(task: int, score: np.ndarray, asked: Sequence[Target] = ASKED) -> dict[str, Any]:
    sums = 100.0 * task + np.arange(len(asked[task].sum_names))
    return {"task_id": task, "score": tuple(score.tolist()), "sums": (tuple(sums.tolist()),) * len(SEEDS)}


def begun(folder: Path, strategy: str = "finetune", stream: Stream | None = None) -> Recorder:
    folder.mkdir(parents=True, exist_ok=True)
    made = Recorder(folder, SEEDS, stream or Stream())  # type: ignore[arg-type]
    tables: dict[str, Any] = {name: {} for name in ("stream", "net", "train", "agenda", "strategy")}
    experiment = {"scenario": "views", "strategy": strategy, "seeds": SEEDS, "options": tables}
    attributes = {"run_id": "0" * 32, "strategy": strategy, "scenario": "views"}
    made.begin(attributes, {"experiment": json.dumps(experiment)})
    return made


def logged(folder: Path, R: np.ndarray, strategy: str = "finetune", stream: Stream | None = None) -> Run:
    made = begun(folder, strategy, stream)
    for event in told(R, stream.asked if stream else ASKED):
        made(event)
    made.publish("finished")
    made.close()
    return open_run(folder)


def scores(seed: int = 0, tasks: int = len(ASKED)) -> np.ndarray:
    drawn = np.random.default_rng(seed).uniform(0.1, 0.9, (tasks + 1, tasks, len(SEEDS)))
    drawn[:, [task for task in ANGLES if task < tasks]] *= 60
    return np.asarray(drawn.astype("f4"), dtype=float)


def test_a_log_of_several_measures_holds_scores_and_sums_and_says_what_each_task_is_measured_by(tmp_path: Path):
    R = scores()
    run = logged(tmp_path, R)
    found = run.results
    assert not {"accuracy", "n_correct", "n_total"} & set(found.variables)
    np.testing.assert_array_equal(found["score"].values, R)
    assert found["sums"].dims == ("evaluation", "task", "seed", "sum")
    own = len(ASKED[4].sum_names)
    np.testing.assert_array_equal(found["sums"].values[2, 4, 0, :own], 400.0 + np.arange(own))
    assert np.isnan(found["sums"].isel(task=4).values[..., own:]).all()
    names = ["accuracy", "mean_angle", "mean_iou", "ap_50", "explained_variance", "mean_angle"]
    assert found["task_measure"].values.tolist() == names
    assert found["task_direction"].values.tolist() == [1, -1, 1, 1, 1, -1]
    assert json.loads(str(found["task_target"].values[1]))["kind"] == "normals"
    np.testing.assert_allclose(found["task_guess"].values, np.arange(6) / 10)
    assert run.measures[1] == Measure("mean_angle", "degree", higher=False)
    assert len(run.measures) == 5
    curves = run.table("curves")
    np.testing.assert_array_equal(curves["score"].values, [R[1 + t, t, s] for t in range(6) for s in range(2)])
    assert curves["n_total"].tolist() == [1, 1] + [0] * 10


def test_where_all_is_accuracy_the_score_is_the_accuracy_under_a_second_name_and_takes_no_room(tmp_path: Path):
    logged(tmp_path, np.full((3, 2, 2), 0.5), stream=Stream([Classes.of(classes=2), Classes.of(classes=3)]))
    with h5py.File(tmp_path / "log.h5") as file:
        results = file["results"]
        assert results["score"] == results["accuracy"]
        assert {"n_correct", "n_total"} <= set(results)
        assert "sums" not in results


def test_the_large_arrays_of_measures_are_read_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = logged(tmp_path, scores()).results
    read: list[tuple[Any, ...]] = []
    monkeypatch.setattr(lazy_arrays, "array", lambda *said: read.append(said) or array(*said))
    part, other = found["sums"].isel(evaluation=[1, 3], task=2), found["score"].isel(task=1)
    assert not read
    assert part.values.shape == (2, 2, len(found["sum"]))
    assert part.values[0, 0, 1] == 201.0
    assert read[0][1:] == ("sums", (slice(1, 4), slice(2, 3), slice(0, 2), slice(0, part.sizes["sum"])))
    np.testing.assert_array_equal(other.values, scores()[:, 1])


@pytest.mark.parametrize("reused", [False, True])
def test_what_a_journal_holds_of_several_measures_is_not_lost_when_a_run_is_killed(
    reused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recorder, "PUBLISHED", 1e-9)
    monkeypatch.setattr(recorder, "LATEST", 1e9)
    heard = list(told(scores()))
    if reused:  # as tasks that cannot have changed are told: those of few sums, narrower than the widest
        heard = [event for event in heard if not (isinstance(event, events.Evaluated) and event.task_id in SHORT)]
        R, width = scores(), max(len(ASKED[task].sum_names) for task in SHORT)
        for row in range(7):
            sums = np.full((4, 2, width), NAN)
            for place, task in enumerate(SHORT):
                own = len(ASKED[task].sum_names)
                sums[place, :, :own] = 100.0 * task + np.arange(own)
            said = {"task_ids": np.array(SHORT), "score": R[row][SHORT], "sums": sums}
            at = next(k for k, e in enumerate(heard) if isinstance(e, events.Scored) and e.evaluation == row)
            heard.insert(at, events.ScoresReused(step=row - 1, evaluation=row, **said))
    whole = begun(tmp_path / "whole")
    for event in heard:
        whole(event)
    whole.publish("finished")
    cut = next(k for k, event in enumerate(heard) if isinstance(event, events.TaskStarted) and event.step == 4)
    killed = begun(tmp_path / "killed")
    for event in heard[: cut + 2]:
        killed(event)
    assert len(open_run(tmp_path / "killed").results["evaluation"]) < 5  # the rest is in the journal alone
    again = Recorder(tmp_path / "killed", SEEDS, Stream())  # type: ignore[arg-type]
    again.resume(3)
    for event in heard[cut:]:
        again(event)
    again.publish("finished")
    assert_same_facts(facts(whole.path), facts(again.path))
    np.testing.assert_array_equal(open_run(tmp_path / "killed").results["score"].values, scores())


def test_a_run_whose_log_and_journal_are_of_before_scores_and_sums_goes_on(tmp_path: Path):
    with tarfile.open(Path(__file__).parent / "logs" / "stopped-1.5.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    folder = tmp_path / "stopped-1.5"
    changes = {"stream.n": 4, "agenda.spot_checks": 0.0, "agenda.curve_tasks": 1, "train.epochs": 1}
    experiment = Experiment.of(TINY, "independent", (0, 1), **changes)
    run = open_run(experiment.run(folder, device="cpu"))
    whole = open_run(experiment.run(tmp_path / "whole", device="cpu"))
    assert (run.status, run.attributes["format_version"]) == ("finished", "1.5")
    np.testing.assert_array_equal(run.results["n_total"].values, whole.results["n_total"].values)
    apart = np.abs(run.results["n_correct"].values - whole.results["n_correct"].values)
    assert apart.max() <= 2  # rows of fifty: another processor rounds otherwise
    np.testing.assert_array_equal(run.results["score"].values, run.results["accuracy"].values)
    assert run.results["task_measure"].values.tolist() == ["accuracy"] * 4
    table = run.table("curves")
    assert len(table) == len(whole.table("curves"))
    np.testing.assert_array_equal(table["score"], table["n_correct"] / table["n_total"])
    for name, values in recomputed(run).items():
        np.testing.assert_allclose(run.results[name].values, values, atol=1e-12)


class Weighted(Classes):
    """An accuracy whose sums are no counts of rows."""

    sum_names = ("right by weight", "weight")


def test_an_accuracy_that_is_no_count_of_rows_is_logged_by_its_sums(tmp_path: Path):
    run = logged(tmp_path, np.full((2, 1, 2), 0.25), stream=Stream([Weighted.of(classes=2)]))
    assert "n_total" not in run.results
    assert run.results["sums"].values[1, 0, 0].tolist() == [0.0, 1.0]
    assert run.measures == [Measure("accuracy")]


@pytest.mark.parametrize("first", [Classes.of(classes=2), ANGLE])
def test_a_stream_without_end_that_keeps_a_target_to_itself_is_told_so_when_the_task_arrives(
    first: Target, tmp_path: Path
):
    made = begun(tmp_path, stream=Stream([first, Boxes.of(size=[8, 8])], endless=True))
    made(events.TaskStarted(step=0, task_id=0, rows=1))
    with pytest.raises(UsageError, match=r"task 1 is measured by ap_50 .* `targets` names"):
        made(events.TaskStarted(step=1, task_id=1, rows=1))


def test_the_scores_of_each_measure_are_those_of_its_tasks_alone_and_never_of_others(tmp_path: Path):
    R = scores()
    parts = by_measure([logged(tmp_path, R)])
    assert [part.scenario for part in parts][1] == "views: mean_angle (degree, less is better)"
    assert [part.results.sizes["task"] for part in parts] == [1, 2, 1, 1, 1]
    steps, learned = np.arange(-1, 6), np.array([1, 5])
    angle = parts[1]
    np.testing.assert_array_equal(angle.learned, learned)
    better = -R[:, ANGLES]
    for name, sign in (("acc", -1), ("bwt", 1), ("fwt", 1), ("forgetting", 1)):
        expected = sign * getattr(matrix_scores, name)(better, steps, learned)
        np.testing.assert_allclose(angle.results[name].values, expected, atol=1e-5)
    for part, task in zip((parts[0], *parts[2:]), (0, 2, 3, 4), strict=True):
        np.testing.assert_allclose(summarised(part).acc.values, R[-1, task], atol=1e-6)
    assert angle.table("curves")["task"].unique().tolist() == [0, 1]


def test_a_whole_run_of_several_measures_has_no_mean_and_says_which_evaluation_was_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    R = scores()
    R[6, 2] = NAN  # the last evaluation lacks a task
    run = logged(tmp_path, R)
    final = run.final
    assert final is not None
    assert int(final["evaluation_step"]) == 4
    assert np.isnan(final["acc"].values).all()
    monkeypatch.setitem(run.experiment["options"]["agenda"], "curve_batches", 1)
    values = measured(run, [name for name in MEASURES if name not in COSTS], [run])
    assert {name for name, of_seeds in values.items() if np.isfinite(of_seeds).any()} == set()
    assert learning_curve(run) is None
    ways = [measure.higher for measure in run.task_measures]
    raw = np.diff(R, axis=0)[3]
    np.testing.assert_allclose(
        log_scores.transfer_matrix(run, normalised=False)[3], np.where(np.array(ways)[:, None], raw, -raw), atol=1e-5
    )


def falling() -> np.ndarray:
    """Return angles that fall from experience to experience: two tasks, the second untrained and then learned."""
    return np.array([[60, 50], [30, 40], [20, 10]], dtype=float)[:, :, None] * np.ones(2)


def test_an_angle_that_falls_is_an_improvement_in_every_score(tmp_path: Path):
    run = logged(tmp_path, falling(), stream=Stream([ANGLE, ANGLE]))
    found = {name: values[-1, 0] for name, values in recomputed(run).items()}
    assert found == {"acc": 15.0, "bwt": 10.0, "fwt": 10.0, "forgetting": -10.0}
    contrasts = log_scores.transfer_matrix(run)[..., 0]
    np.testing.assert_allclose(contrasts, [[30 / 90, 10 / 90], [10 / 50, 30 / 50]])
    assert log_scores.transfer_matrix(run, normalised=False)[1, 1, 0] == 30
    assert log_scores.performance_maintenance(run).values[0] == 10
    # scores of shares have no meaning for degrees
    assert np.isnan(log_scores.remembering(run).values).all()
    assert np.isnan(log_scores.sample_efficiency(run, [run]).values).all()


def test_against_independent_less_of_an_angle_is_a_gain(tmp_path: Path):
    asked = Stream([ANGLE, ANGLE])
    alone = logged(tmp_path / "alone", 2 * falling(), "independent", asked)
    run = logged(tmp_path / "run", falling(), stream=asked)
    summary = summarised(run, [run, alone])
    assert summary.transfer.mean == (30 + 10) / 2
    assert summary.delta_m.mean == 0.5


def test_delta_m_is_the_mean_relative_change_over_tasks_of_all_measures_worked_by_hand(tmp_path: Path):
    asked = Stream([ASKED[0], ANGLE, ASKED[2]])
    alone = np.array([[0.5, 20, 0.4]]).repeat(4, axis=0)[:, :, None] * np.ones(2)
    ours = alone.copy()
    ours[-1] = [[0.25, 0.5], [15, 20], [0.5, 0.4]]
    beside = logged(tmp_path / "alone", alone, "independent", asked)
    run = logged(tmp_path / "run", ours, stream=asked)
    expected = [(-0.25 / 0.5 + 5 / 20 + 0.1 / 0.4) / 3, 0.0]
    np.testing.assert_allclose(summarised(run, [run, beside]).delta_m.values, expected, atol=1e-6)
    assert np.isnan(summarised(run, [run]).delta_m.values).all()
    np.testing.assert_allclose(
        delta_m_to(run, beside), expected, atol=1e-6
    )  # whatever the net, which here is said outright
    zero = logged(tmp_path / "zero", alone * [[0], [1], [1]], "independent", asked)
    assert math.isnan(summarised(run, [run, zero]).delta_m.mean)  # nothing is relative to 0


def test_show_tells_of_measures_apart_and_of_all_by_delta_m(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    asked = [ASKED[k % 3] for k in range(14)]
    R = np.random.default_rng(0).uniform(0.1, 0.9, (15, 14, 2))
    run = logged(tmp_path / "run", R, stream=Stream(asked))
    print_run(run)
    shown = capsys.readouterr().out
    assert shown.count("after") == 1
    rows = [line for line in shown.splitlines() if line.startswith(("task ", "untrained"))]
    assert len(rows) == 12  # of many rows some, those that tested all tasks met
    assert "mean_angle (degree, less is better)" in shown
    alone = logged(tmp_path / "alone", R[::-1], "independent", Stream(asked))
    print_comparison([run, alone])
    shown = capsys.readouterr().out
    heads = [line for line in shown.splitlines() if line.startswith("views")]
    assert [head.split(", 2 seeds")[0] for head in heads] == [
        "views: accuracy",
        "views: mean_angle (degree, less is better)",
        "views: mean_iou",
        "views: all measures",
    ]
    across = shown.split("views: all measures")[1]
    delta = f"{summarised(run, [run, alone]).delta_m.mean:+.3f}"
    assert re.search(rf"finetune +{re.escape(delta)} ±", across)
    none = logged(tmp_path / "none", R[::-1] * (np.arange(14) > 0)[:, None], "independent", Stream(asked))
    print_comparison([run, none])
    assert "no Δm where `independent` scores 0 on a task" in capsys.readouterr().out


def test_the_log_of_a_script_of_before_scores_and_sums_is_gone_on_with(tmp_path: Path):
    experiment = json.dumps({"scenario": "s", "strategy": "Naive", "seeds": [0], "options": {"agenda": {}}})
    stream = ScriptStream(["experience 0", "experience 1"])

    def write(log: ScriptLog, step: int) -> None:
        said: dict[str, Any] = {"step": step, "task_id": step, **events.counts((3 + step,), 4)}
        log.write(events.CurvePoint(batch=1, epoch=0, seconds=0.1, **said))
        log.write(events.TaskLearned(step=step, task_id=step, memory={}, seconds=0.1))
        log.write(events.Evaluated(evaluation=step, **said))
        log.write(
            events.Scored(
                step=step, evaluation=step, acc=(NAN,), bwt=(NAN,), fwt=(NAN,), forgetting=(NAN,), seconds=0.1
            )
        )

    first = ScriptLog(tmp_path, experiment, stream)
    write(first, 0)
    lengths = first.lengths()
    first.close("stopped")
    with h5py.File(tmp_path / "log.h5", "r+") as file:
        for name in ("results/score", "curves/score", *(f"results/{name}" for name in OF_TASKS if name != "task_name")):
            del file[name]
        file.attrs["format_version"] = "1.5"
    again = ScriptLog(tmp_path, experiment, stream, lengths)
    write(again, 1)
    again.close("finished")
    run = open_run(tmp_path)
    assert run.table("curves")["score"].tolist() == [0.75, 1.0]
    np.testing.assert_array_equal(run.results["score"].values[..., 0], [[0.75, NAN], [NAN, 1.0]])
    assert run.results["task_measure"].values.tolist() == ["accuracy", "accuracy"]
