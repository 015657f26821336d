"""Readers and logs of any shape: whatever the recorder may write is read, and what is broken takes nothing else down."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from cl_engine import events
from cl_engine.analysis.comparison.compare import compared
from cl_engine.analysis.comparison.tables import KINDS, written
from cl_engine.analysis.discovery import find_runs
from cl_engine.analysis.live.snapshot import snapshot
from cl_engine.analysis.plots import one_run
from cl_engine.analysis.plots.gallery import of_all, of_run, save_pictures
from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.report.terminal import print_run
from cl_engine.analysis.scores.measures import MEASURES
from cl_engine.analysis.scores.run_scores import recomputed
from cl_engine.errors import UsageError
from cl_engine.export import frames
from cl_engine.export.registry import exported
from cl_engine.loggers.recorder import Recorder
from cl_engine.results.run import Run, open_run
from cl_engine.targets.classes import Classes

OPTIONS = {"stream": {"name": "any"}, "net": {}, "train": {}, "strategy": {}}
AGENDA = {"curve_epochs": 0, "curve_batches": 3}


class Anything:
    """A stream whose tasks have names."""

    n_tasks: int | None = None
    only_accuracy = True
    most_sums = 2

    def is_free(self, task_id: int) -> bool:
        return False

    def name_of(self, task_id: int) -> str:
        return f"task {task_id}"

    def target(self, task_id: int) -> Classes:
        return Classes.of(classes=2)


def odd_log(folder: Path, number: int, scenario: str = "odd", strategy: str = "any") -> Path:
    """Write a log of whatever events, in an order that the recorder takes, of which much is missing; return its folder."""
    draw = random.Random(number)
    seeds, tasks = list(range(draw.choice((1, 1, 2, 3)))), draw.choice((1, 2, 4))
    stream = Anything()
    stream.n_tasks = draw.choice((None, tasks))
    folder.mkdir(parents=True)
    recorder = Recorder(folder, seeds, stream)  # type: ignore[arg-type]
    experiment = {"seeds": seeds, "scenario": scenario, "strategy": strategy, "options": {**OPTIONS, "agenda": AGENDA}}
    attributes = {"run_id": f"{number:032x}", "strategy": strategy, "scenario": scenario}
    recorder.begin(attributes, {"experiment": json.dumps(experiment, sort_keys=True), "scenario": ""})
    row, met, known = 0, [], [0]  # tasks are numbered as they are met

    def counts() -> dict[str, object]:
        missing = draw.random() < 0.1
        return events.counts([np.nan if missing else draw.randint(0, 10) for _ in seeds], 10)

    def test(step: int) -> None:
        nonlocal row
        ahead = range(tasks) if draw.random() < 0.3 else sorted(set(met))
        known.extend(ahead)
        chosen = [task for task in ahead if draw.random() < 0.8]
        for task in chosen:
            recorder(events.Evaluated(step=step, evaluation=row, task_id=task, **counts()))  # type: ignore[arg-type]
        if draw.random() < 0.9:
            whole = met and set(met) <= set(chosen)  # no score without its cells
            scores = {
                name: tuple(draw.random() if whole and draw.random() < 0.7 else np.nan for _ in seeds)
                for name in ("acc", "bwt", "fwt", "forgetting")
            }
            recorder(events.Scored(step=step, evaluation=row, seconds=0.1, **scores))
            row += 1
        elif chosen:
            row += 1

    if draw.random() < 0.5:
        test(-1)
    for step in range(draw.randint(0, 5)):
        task = draw.randint(0, min(tasks - 1, max(known)))
        known.append(task + 1)
        where = {"step": step, "task_id": task}
        recorder(events.TaskStarted(rows=20, **where))
        for epoch in range(draw.randint(0, 3)):
            loss = tuple(draw.random() for _ in seeds)
            recorder(events.EpochEnded(fit=0, epoch=epoch, epochs=3, loss=loss, seconds=0.1, **where))
        for batch in range(draw.choice((0, 1, 4))):
            point = {"batch": batch, "epoch": 0, "seconds": 0.1, "step": step}
            if draw.random() < 0.8:
                recorder(events.CurvePoint(task_id=task, **point, **counts()))  # type: ignore[arg-type]
            for other in sorted(set(met)):
                recorder(events.EarlierTaskTested(task_id=other, **point, **counts()))  # type: ignore[arg-type]
        met.append(task)
        if draw.random() < 0.1:
            break  # broken off
        memory = {} if draw.random() < 0.2 else {"model": 100, **({"buffer": 9} if step else {})}
        recorder(events.TaskLearned(memory=memory, seconds=0.1, **where))
        if draw.random() < 0.7:
            test(step)
    recorder.publish(draw.choice(("finished", "running", "failed")))
    recorder.close()
    return folder


def read_by_all(run: Run, out: Path) -> None:
    print_run(run)
    assert snapshot(run.path).seeds == run.results.sizes["seed"]
    recomputed(run)
    for picture in (*of_run(run, [run]), *of_all([run])):
        picture.draw()
    for kind in ("csv", "l2logger", "netcdf", "parquet", "tensorboard"):
        assert list(exported([run], kind, out / kind))
    for measure in MEASURES:
        comparison = compared([run], measure)
    for kind in KINDS:
        assert written(comparison, kind)


@pytest.mark.parametrize("number", [0, 1, 7, 16, 17, 20, 25, 33, 37, 39, 44, 53])
def test_every_reader_reads_whatever_the_recorder_writes(number: int, tmp_path: Path):
    (run,), refused = find_runs([odd_log(tmp_path / "run", number)])
    assert not refused
    read_by_all(run, tmp_path / "out")


def whole(folder: Path, strategy: str) -> Path:
    return odd_log(folder, 20, strategy=strategy)


def test_one_broken_log_takes_no_report_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs = [open_run(whole(tmp_path / name, name)) for name in ("one", "two")]
    bad = open_run(odd_log(tmp_path / "bad", 33, strategy="bad"))
    real = Run.table

    def table(run: Run, name: str) -> object:
        if run is bad:
            raise IndexError("index 9 is out of bounds")
        return real(run, name)

    monkeypatch.setattr(Run, "table", table)
    text = write_report([*runs, bad], tmp_path / "report.html").read_text()
    assert f"Not in this page: {bad.path} is odd: IndexError: index 9 is out of bounds" in text
    assert "2 runs" in text
    comparison = compared([*runs, bad])
    assert comparison.methods == ["one", "two"]
    assert any("bad: left out, as" in remark for remark in comparison.remarks)
    with pytest.raises(UsageError, match=r"no run can be shown; .*bad"):
        write_report([bad], tmp_path / "report.html")
    with pytest.raises(UsageError, match=r"no run can be compared; .*bad"):
        compared([bad])


def test_a_picture_that_cannot_be_drawn_is_named_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    run = open_run(whole(tmp_path / "one", "one"))

    def fails(run: Run) -> None:
        raise ZeroDivisionError("nothing is there")

    before = len(save_pictures([run], tmp_path / "before"))
    monkeypatch.setattr(one_run, "tasks_over_stream", fails)
    text = write_report([run], tmp_path / "report.html").read_text()
    assert "The picture run-1-1-tasks could not be drawn: ZeroDivisionError: nothing is there" in text
    assert text.count("<figure") > 3
    assert len(save_pictures([run], tmp_path / "after")) == before - 1
    assert "could not be drawn: ZeroDivisionError" in caplog.text


def test_one_run_that_cannot_be_exported_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    one, two = (open_run(odd_log(tmp_path / str(number), number)) for number in (20, 19))
    real = frames.tables
    monkeypatch.setattr(frames, "tables", lambda run: real(run.nothing if run is one else run))
    (folder,) = exported([one, two], "csv", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [folder.name]
    assert f"left out: {one.path} is odd: AttributeError" in caplog.text
    with pytest.raises(UsageError, match="is odd: AttributeError"):
        list(exported([one], "csv", tmp_path / "again"))


def test_tests_of_some_tasks_alone_are_shown_and_said_to_give_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recorder = Recorder(tmp_path, [0], Anything())  # type: ignore[arg-type]
    experiment = {"seeds": [0], "scenario": "odd", "strategy": "any", "options": {**OPTIONS, "agenda": AGENDA}}
    attributes = {"run_id": "0" * 32, "strategy": "any", "scenario": "odd"}
    recorder.begin(attributes, {"experiment": json.dumps(experiment)})
    for step in range(2):
        recorder(events.TaskLearned(step=step, task_id=step, memory={}, seconds=0.1))
    recorder(events.Evaluated(step=1, evaluation=0, task_id=0, **events.counts((3,), 4)))
    undefined = dict.fromkeys(("acc", "bwt", "fwt", "forgetting"), (np.nan,))
    recorder(events.Scored(step=1, evaluation=0, seconds=0.1, **undefined))
    recorder.publish("finished")
    recorder.close()
    run = open_run(tmp_path)
    print_run(run)
    shown = capsys.readouterr().out
    assert ".750" in shown
    assert "there are no scores: no test was of all tasks learned" in shown
    assert (
        "no test was of all tasks learned, so there are no scores"
        in write_report([run], tmp_path / "r.html").read_text()
    )


def test_methods_that_share_no_stream_are_reported_together(tmp_path: Path):
    runs = [open_run(odd_log(tmp_path / name, 20, scenario=name, strategy=name)) for name in ("one", "two")]
    assert "2 runs" in write_report(runs, tmp_path / "report.html").read_text()


def test_a_row_that_a_run_was_broken_off_in_says_which_experience_it_was_tested_after(tmp_path: Path):
    def recorder(folder: Path) -> Recorder:
        folder.mkdir(exist_ok=True)
        return Recorder(folder, [0], Anything())  # type: ignore[arg-type]

    def cell(step: int, evaluation: int, task: int) -> events.Evaluated:
        return events.Evaluated(step=step, evaluation=evaluation, task_id=task, **events.counts((3,), 4))

    begun = recorder(tmp_path / "run")
    attributes = {"run_id": "0" * 32, "strategy": "any", "scenario": "odd"}
    begun.begin(attributes, {"experiment": json.dumps({"seeds": [0], "options": {**OPTIONS, "agenda": AGENDA}})})
    scores = dict.fromkeys(("acc", "bwt", "fwt", "forgetting"), (0.75,))
    for step in range(3):
        begun(events.TaskLearned(step=step, task_id=step, memory={}, seconds=0.1))
        begun(cell(step, step, 0))
        begun(events.Saving(step=step, cursor=0))
        if step < 2:
            begun(events.Scored(step=step, evaluation=step, seconds=0.1, **scores))
    begun.publish("failed")
    begun.close()
    assert open_run(tmp_path / "run").results["evaluation_step"].values.tolist() == [0, 1, 2]
    again = recorder(tmp_path / "run")
    again.resume(1)
    assert len(again.matrix._begun) == 0
    again.publish("stopped")
    again.close()
    assert open_run(tmp_path / "run").results["evaluation_step"].values.tolist() == [0, 1]


def test_rows_after_a_task_that_returned_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recorder = Recorder(tmp_path, [0], Anything())  # type: ignore[arg-type]
    recorder.begin(
        {"run_id": "0" * 32, "strategy": "any", "scenario": "odd"},
        {"experiment": json.dumps({"seeds": [0], "options": {**OPTIONS, "agenda": AGENDA}})},
    )
    for step, task in enumerate((0, 1, 0)):
        recorder(events.TaskLearned(step=step, task_id=task, memory={}, seconds=0.1))
        recorder(events.Evaluated(step=step, evaluation=step, task_id=0, **events.counts((3,), 4)))
        scores = dict.fromkeys(("acc", "bwt", "fwt", "forgetting"), (0.75,))
        recorder(events.Scored(step=step, evaluation=step, seconds=0.1, **scores))
    recorder.publish("finished")
    recorder.close()
    print_run(open_run(tmp_path))
    shown = capsys.readouterr().out
    assert [row for row in ("task 0 (0)", "task 1 (1)", "task 0 (2)") if row in shown] == [
        "task 0 (0)",
        "task 1 (1)",
        "task 0 (2)",
    ]
