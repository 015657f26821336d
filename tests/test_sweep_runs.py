"""Sweeps that run: on this machine, with whatever may happen to a worker, a run or the driver."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import psutil
import pytest
from click.testing import CliRunner, Result

from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.results.run import open_run
from cl_engine.sweep.combinations import Cell, Combination
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.folder import SweepFolder
from cl_engine.sweep.status import Status
from cl_engine.sweep.sweep import Sweep
from cl_engine.testing.logs import assert_same_facts, facts
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
TROUBLED = "tests.sweep_of_users:Troubled"
LR = [0.001, 0.002]


def troubled(trace: Path, trouble: str, jobs: int = 1, retries: int = 2, **changes: Any) -> SweepOptions:
    axes = {"train.lr": LR, "trace": [str(trace)], "trouble": [trouble], **changes.pop("set", {})}
    fixed = {"scenarios": [str(TINY)], "strategies": [TROUBLED], "set": axes, "retries": retries}
    return SweepOptions(**{**fixed, "resources": {"jobs": jobs, "memory": 0.1}, **changes})


def run(options: SweepOptions, out: Path, **arguments: Any) -> Status:
    return Sweep(options, out, device="cpu", quiet=True).run(**arguments)


def begun(trace: Path) -> list[tuple[float, int]]:
    """Return which learning rate began which experience, in order."""
    lines = [line.rsplit(" ", 2) for line in trace.read_text().splitlines()]
    return [(float(lr), int(step)) for _, lr, step in lines]


def outcomes(out: Path, name: str) -> list[str]:
    return [noted["outcome"] for noted in SweepFolder(out).attempts(name)]


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Return a sweep that was run from the command line, and what it said."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    sets = ("--set", "lr=1e-3,1e-2", "--set", "samples=5", "--jobs", "1")
    return out, call("sweep", TINY, "-s", "finetune", "-s", "replay", *sets, "--with-reference", "--out", out)


def test_a_sweep_ends_with_a_table_a_report_and_a_log_for_each_run(swept: tuple[Path, Result]):
    out, result = swept
    assert result.exit_code == 0
    assert "5 of 5 done; best acc" in result.stdout
    assert " (chosen on test rows): " in result.stdout
    assert "chosen on test rows: that of the best one is no result" in " ".join(result.stdout.split())
    assert "5/5 tiny, " in result.stderr
    found = [open_run(out / entry.name) for entry in SweepFolder(out).entries]
    assert {each.status for each in found} == {"finished"}
    assert sorted(each.strategy for each in found) == ["finetune"] * 2 + ["independent"] + ["replay"] * 2
    page = (out / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "lr=0.01-samples=5" in page
    assert "ordered by ACC, chosen on test rows: that of the best one is no result" in page
    assert SweepFolder(out).plan["chosen_on"] == "chosen on test rows"


def test_a_run_of_a_sweep_has_the_log_of_the_run_alone(swept: tuple[Path, Result], tmp_path: Path):
    out = swept[0]
    name = next(entry.name for entry in SweepFolder(out).entries if entry.changes.get("samples") == 5)
    lr = open_run(out / name).experiment["options"]["train"]["lr"]
    typed = ("run", TINY, "-s", "replay", "--set", f"train.lr={lr}", "--set", "samples=5", "--quiet", "--out", tmp_path)
    assert call(*typed).exit_code == 0
    assert_same_facts(facts(out / name / "log.h5"), facts(tmp_path / "log.h5"))
    assert f"{out / name} is finished" in call(*typed[:-1], out / name).stderr


def test_the_same_command_again_runs_nothing_and_status_says_the_same(swept: tuple[Path, Result]):
    out = swept[0]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/log.h5")}
    sets = ("--set", "lr=1e-3,1e-2", "--set", "samples=5", "--jobs", "1")
    again = call(
        "sweep", TINY, "-s", "finetune", "-s", "replay", *sets, "--with-reference", "--out", out, "--no-report"
    )
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/log.h5")} == before
    status = call("status", out)
    assert status.stdout.splitlines()[:7] == again.stdout.splitlines()[:7]
    assert "finished (reference)" in status.stdout


def test_a_log_that_points_elsewhere_is_damaged_and_a_disk_that_stutters_is_not(
    swept: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = next(swept[0].glob("*/log.h5"))
    folder, log = SweepFolder(tmp_path), tmp_path / "run" / "log.h5"
    log.parent.mkdir()
    shutil.copy(source, log)
    real, failures = h5py.File, iter([OSError("stale file handle")])

    def stutters(*arguments: Any, **named: Any) -> h5py.File:
        for failure in failures:
            raise failure
        return real(*arguments, **named)

    monkeypatch.setattr(h5py, "File", stutters)
    assert folder.look("run", "acc").status == "finished"
    with real(log, "a") as file:
        del file["results/acc"]
        file["results/acc"] = h5py.ExternalLink(str(source), "/results/acc")
    assert folder.look("run", "acc").status == "damaged"


def test_a_killed_worker_loses_nothing_but_the_experience_at_hand(tmp_path: Path):
    tally = run(troubled(tmp_path / "trace", "kill", set={"only": [LR[0]]}), tmp_path / "out")
    assert len(tally.done) == 2
    assert not tally.failed
    expected = {LR[0]: [0, 1, 1, 2], LR[1]: [0, 1, 2]}  # what was at hand is begun again, what was before it is not
    for name in tally.done:
        lr = tally.entries[name].changes["train.lr"]
        assert [step for rate, step in begun(tmp_path / "trace") if rate == lr] == expected[lr]
        died = ["started", "died"] if lr == LR[0] else []
        assert outcomes(tmp_path / "out", name) == [*died, "started", "finished"]
    assert (
        "SIGKILL"
        in (tmp_path / "out" / tally.done[0] / "attempts.jsonl").read_text()
        + (tmp_path / "out" / tally.done[1] / "attempts.jsonl").read_text()
    )


def test_a_run_that_fails_is_tried_again_so_often_then_reported_and_tried_anew_on_demand(tmp_path: Path):
    options = troubled(tmp_path / "trace", "error", retries=1, set={"times": [3], "train.lr": [0.001]})
    tally = run(options, tmp_path / "out")
    (name,) = tally.failed
    assert tally.failed[name] == "ValueError: no[31m good"
    assert outcomes(tmp_path / "out", name) == ["started", "failed"] * 2
    said = (tmp_path / "out" / name / "output.txt").read_text()
    assert "learning 0" in said
    assert "Traceback" in said
    assert "\x1b" not in call("status", tmp_path / "out").stdout
    assert "failed   tiny, " in call("status", tmp_path / "out").stdout
    before = (tmp_path / "trace").read_text()
    assert run(options, tmp_path / "out").failed
    assert (tmp_path / "trace").read_text() == before
    assert not run(options, tmp_path / "out", retry_failed=True).failed
    assert open_run(tmp_path / "out" / name).status == "finished"


def test_a_run_that_others_stop_goes_on_and_is_given_up_where_that_has_no_end(tmp_path: Path):
    for times, retries, ends in ((1, 1, ["finished"]), (9, 1, [])):
        out = tmp_path / str(times)
        tally = run(
            troubled(tmp_path / f"{times}.txt", "stop", retries=retries, set={"times": [times], "only": [LR[0]]}), out
        )
        (name,) = (name for name in tally.entries if tally.entries[name].changes["train.lr"] == LR[0])
        assert outcomes(out, name) == ["started", "died", "started", *(ends or ["died"])]
        assert list(tally.failed.values()) == ([] if ends else ["it was stopped, and not by the sweep"])
        assert len(tally.done) == 1 + len(ends)


def test_what_cannot_be_done_is_refused_once_and_the_command_ends_with_one(tmp_path: Path):
    typed = ("sweep", TINY, "-s", "finetune", "--set", "stream.task_order=[0,1,2],[0,1]", "--out", tmp_path / "out")
    result = call(*typed, "--jobs", "1", "--no-report")
    assert result.exit_code == 1
    assert "1 of 2 done, 1 failed" in result.stdout
    assert "stream.task_order must name each of the tasks 0 to 2 once" in result.stdout
    assert "Failed: 1 of 2 runs failed" in result.stderr
    (name,) = Status.of(SweepFolder(tmp_path / "out")).failed
    assert outcomes(tmp_path / "out", name) == ["started", "refused"]


def test_halving_drops_the_worse_runs_and_a_later_sweep_without_it_goes_on_with_them(tmp_path: Path):
    axes = {"train.lr": [1e-5, 1e-2, 2e-5], "train.epochs": [15]}
    options = troubled(tmp_path / "trace", "none", set=axes, halving={"tasks": 1, "factor": 3})
    tally = run(options, tmp_path / "out")
    assert [tally.entries[name].changes["train.lr"] for name in tally.done] == [1e-2]
    assert set(tally.dropped.values()) == {1}
    for name in tally.dropped:
        cut = [noted for noted in SweepFolder(tmp_path / "out").attempts(name) if noted["outcome"] == "dropped"]
        assert [noted["chosen_on"] for noted in cut] == ["chosen on test rows"]
    assert {open_run(tmp_path / "out" / name).status for name in tally.dropped} == {"stopped"}
    assert begun(tmp_path / "trace").count((1e-5, 1)) == 0
    assert Status.of(SweepFolder(tmp_path / "out")).dropped == tally.dropped
    before = (tmp_path / "trace").read_text()
    assert run(options, tmp_path / "out").dropped == tally.dropped
    assert (tmp_path / "trace").read_text() == before
    assert len(run(options.model_copy(update={"halving": None}), tmp_path / "out").done) == 3
    assert begun(tmp_path / "trace").count((1e-2, 2)) == 1


def test_optuna_asks_for_no_more_than_its_trials_and_a_driver_that_starts_again_knows_them(tmp_path: Path):
    pytest.importorskip("optuna")
    axes = {"train.lr": {"from": 1e-3, "to": 1e-1, "log": True}, "train.batch": [10, 20]}
    options = SweepOptions(
        scenarios=[str(TINY)], strategies=["finetune"], set=axes, search="optuna", trials=3, resources={"jobs": 1}
    )
    first = run(options, tmp_path)
    names = set(first.done)
    assert 1 <= len(names) <= 3
    assert {entry.changes["train.batch"] for entry in first.entries.values()} <= {10, 20}
    assert set(run(options, tmp_path).done) == names
    more = run(options.model_copy(update={"trials": 5}), tmp_path)
    assert names <= set(more.done)
    assert sum(len(entry.trial["params"]) for entry in more.entries.values()) == 5


def test_values_that_go_alone_and_not_together_cost_an_adaptive_search_that_trial_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("optuna")
    combination = Cell.combination

    def picky(self: Cell, point: dict[str, Any], strategies: Any) -> Combination:
        if point["train.batch"] != round(point["train.epochs"]) * 10:
            raise UsageError("not together")
        return combination(self, point, strategies)

    axes = {"train.batch": [10, 20], "train.epochs": [1, 2]}
    options = SweepOptions(
        scenarios=[str(TINY)], strategies=["finetune"], set=axes, search="optuna", trials=6, resources={"jobs": 1}
    )
    wanted = Sweep(options, tmp_path, device="cpu", quiet=True)
    monkeypatch.setattr(Cell, "combination", picky)
    tally = wanted.run()
    assert tally.done
    assert not tally.failed
    assert sum(len(entry.trial["params"]) for entry in tally.entries.values()) < 6


def test_check_says_what_a_sweep_would_take_and_runs_nothing(tmp_path: Path):
    result = call(
        "sweep", TINY, "-s", "replay", "--set", "lr=0.1,0.2", "--out", tmp_path / "out", "--check", "--jobs", "1"
    )
    assert result.exit_code == 0
    assert all(
        word in result.stdout for word in ("tiny-replay", "2 runs:", "core-hours", "1 at a time (resources.jobs = 1)")
    )
    assert not list(tmp_path.rglob("log.h5"))
    need = json.loads((tmp_path / "out" / "needs.json").read_text())["tiny-replay"]
    assert need["experiences"] == 3
    assert need["memory"] > 50e6


def _started(trace: Path, out: Path) -> subprocess.Popen[str]:
    """Start a sweep of two slow runs side by side in a process of its own; return when both learn."""
    sets = [f"train.lr={','.join(map(str, LR))}", f"trace='{trace}'", "trouble=slow", "stream.n=12"]
    typed = [sys.executable, str(ROOT / "run.py"), "sweep", str(TINY), "-s", TROUBLED, "--jobs", "2", "--out", str(out)]
    typed += [part for setting in sets for part in ("--set", setting)] + ["--no-report", "--memory", "0.1"]
    process = subprocess.Popen(typed, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if trace.exists() and {(lr, 3) for lr in LR} <= set(begun(trace)):
            break
        time.sleep(0.05)
    assert process.poll() is None
    return process


def _gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=60)[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_ended_leaves_no_process_and_the_same_command_goes_on(tmp_path: Path, number: int):
    trace, out = tmp_path / "trace", tmp_path / "out"
    process = _started(trace, out)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len([each for each in workers if "cl_engine.sweep.worker" in " ".join(each.cmdline())]) == 2
    assert "2 running" in call("status", out).stdout
    process.send_signal(number)
    said = process.communicate(timeout=90)[1]
    assert _gone(workers)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        assert "Stopped. To go on: " in said
    # each run has what its last save holds, by its own process
    statuses = {open_run(path).status for path in out.glob("*/log.h5")}
    assert statuses == {"stopped"}
    assert call("status", out).stdout.startswith("0 of 2 done, 2 waiting")
    again = call("sweep", *_command_of(process)[3:])
    assert again.exit_code == 0
    assert "2 of 2 done" in again.stdout
    for lr in LR:
        steps = [step for rate, step in begun(trace) if rate == lr]
        assert steps.count(0) == 1
        assert sorted(set(steps)) == list(range(12))
        assert len(steps) <= 12 + 3  # begun again is what was at hand, and what a save was put off for
    assert {tuple(outcomes(out, name)[-2:]) for name in SweepFolder(out).known().values()} == {("started", "finished")}


def _command_of(process: subprocess.Popen[str]) -> list[str]:
    assert isinstance(process.args, list)
    return [str(part) for part in process.args]


def test_a_folder_that_another_driver_holds_is_refused(tmp_path: Path):
    with SweepFolder(tmp_path):
        result = call("sweep", TINY, "-s", "finetune", "--out", tmp_path)
    assert result.exit_code == 2
    assert "another process drives the sweep" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_status_of_what_is_no_sweep_is_refused_in_a_sentence(tmp_path: Path):
    result = call("status", tmp_path)
    assert result.exit_code == 2
    assert "there is no sweep in" in result.stderr
