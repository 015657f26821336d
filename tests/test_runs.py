"""Runs from start to end: resumed after a kill, refused where they must be, flat over a thousand tasks."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from cl_engine.checkpoints import file as checkpoint
from cl_engine.cli import main
from cl_engine.core.state import bytes_by_part
from cl_engine.data.digest import difference, digest
from cl_engine.data.source import Arrays, Source
from cl_engine.engine.agenda import AgendaOptions, plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import Evaluated, Event, Saving, Scored, ScoresReused, StreamEnded, TaskLearned, cells
from cl_engine.experiment import Experiment
from cl_engine.loggers.recorder import JOURNAL
from cl_engine.results.code import changes_in
from cl_engine.results.run import open_run
from cl_engine.runs import checkout
from cl_engine.runs.data_root import DataRoot
from cl_engine.runs.run_folder import RunFolder
from cl_engine.runs.signals import Stopped
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.testing.small import images
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
Tiny = Callable[..., Experiment]
LONG = {"stream.n": 16, "stream.samples_per_class": 20, "train.epochs": 4}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), *map(str, arguments)]


def long_run(out: Path) -> list[str]:
    sets = [part for key, value in LONG.items() for part in ("--set", f"{key}={value}")]
    return command("run", TINY, "-s", "replay", "--seeds", "0,1", "--quiet", "--out", out, *sets)


def interrupted(out: Path, number: int) -> tuple[int, str]:
    """Start a run, send it a signal when it has been saved twice or more; return its exit code and what it said."""
    process = subprocess.Popen(long_run(out), cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (out / JOURNAL).exists():
            break
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the facts of the long run in one go."""
    return facts(Experiment.of(TINY, "replay", (0, 1), **LONG).run(tmp_path_factory.mktemp("whole") / "run") / "log.h5")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_ended_by_a_signal_and_started_again_has_the_log_of_one_that_was_not(
    tmp_path: Path, number: int, undisturbed: dict[str, Any]
):
    code, said = interrupted(tmp_path / "cut", number)
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
        assert open_run(tmp_path / "cut").status == "running"
    else:
        assert code == 128 + number
        assert "To go on from the last save:" in said
        assert open_run(tmp_path / "cut").status == "stopped"
    again = CliRunner().invoke(main, long_run(tmp_path / "cut")[2:])
    assert again.exit_code == 0 and "going on with" in again.stderr
    assert_same_facts(facts(tmp_path / "cut" / "log.h5"), undisturbed)
    finished = CliRunner().invoke(main, long_run(tmp_path / "cut")[2:])
    assert finished.exit_code == 0 and "is finished; --fresh runs it again" in finished.stderr


def test_the_same_experiment_twice_gives_the_same_log(tiny: Tiny, tmp_path: Path):
    one, other = (facts(tiny("replay").run(tmp_path / name) / "log.h5") for name in ("one", "other"))
    assert_same_facts(one, other)


def test_a_folder_of_another_experiment_is_refused_with_the_difference(tiny: Tiny, tmp_path: Path):
    tiny("finetune").run(tmp_path)
    before = facts(tmp_path / "log.h5")
    with pytest.raises(UsageError, match=r"another experiment \(its train.lr is 0.01, not 0.5\)"):
        tiny("finetune", **{"train.lr": 0.5}).run(tmp_path)
    assert_same_facts(before, facts(tmp_path / "log.h5"))


class Drawn(Source):
    """Images and labels that are drawn: others with another seed, more with more rows."""

    seed, rows, classes = 0, 8, 6

    def load(self, root: Path) -> Arrays:
        found = images(self.classes, self.rows)
        return dataclasses.replace(found, train_x=(found.train_x.astype(int) + self.seed).astype(np.uint8))


DRAWN = {"stream.source": "tests.test_runs:Drawn", "stream.samples_per_class": 4, "agenda.save_share": 1.0}


def stopped(experiment: Experiment, out: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Scored) and event.step == 1:
            raise Stopped(signal.SIGINT)

    with pytest.raises(Stopped):
        experiment.run(out, listeners=lambda stream: [stop])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"seed": 1},
            "source 'tests.test_runs:Drawn': checksum [0-9a-f]{32} then, [0-9a-f]{32} now: these are not what",
        ),
        ({"rows": 9}, "training rows 48 then, 54 now; checksum"),
        ({"classes": 7}, "classes 6 then, 7 now"),
    ],
)
def test_a_stopped_run_does_not_go_on_with_other_data(
    tiny: Tiny, changed: dict[str, int], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stopped(tiny("finetune", **DRAWN), tmp_path / "run")
    with monkeypatch.context() as patch:
        for name, value in changed.items():
            patch.setattr(Drawn, name, value)
        with pytest.raises(UsageError, match=sentence):
            tiny("finetune", **DRAWN).run(tmp_path / "run")
        tiny("finetune", **DRAWN).run(tmp_path / "other")
        (tmp_path / "checkpoint").write_bytes((tmp_path / "other" / "checkpoint.safetensors").read_bytes())
    kept = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint").replace(tmp_path / "run" / "checkpoint.safetensors")
    with pytest.raises(UsageError, match="is of another run, from other data or weights, than the log beside it"):
        tiny("finetune", **DRAWN).run(tmp_path / "run")
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(kept)
    tiny("finetune", **DRAWN).run(tmp_path / "run")
    found = open_run(tmp_path / "run")
    assert found.status == "finished"
    told = json.loads(found.environment["digests"])["source 'tests.test_runs:Drawn'"]
    assert {key: told[key] for key in ("training rows", "test rows", "classes", "inputs")} == {
        "training rows": 48,
        "test rows": 24,
        "classes": 6,
        "inputs": "uint8 (1, 5, 5)",
    }


def test_a_finished_run_is_left_alone_whatever_has_become_of_its_data(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny("finetune", **DRAWN).run(tmp_path)
    before = (tmp_path / "log.h5").read_bytes()
    monkeypatch.setattr(Drawn, "rows", 9)
    tiny("finetune", **DRAWN).run(tmp_path)
    assert (tmp_path / "log.h5").read_bytes() == before


def test_a_stopped_run_goes_on_with_other_data_where_that_is_accepted_and_its_log_says_from_where_on(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stopped(tiny("finetune", **DRAWN), tmp_path / "run")
    before = json.loads(open_run(tmp_path / "run").environment["digests"])
    monkeypatch.setattr(Drawn, "seed", 1)
    run = open_run(tiny("finetune", **DRAWN).run(tmp_path / "run", accept_changes=True))
    (change,) = changes_in(run)
    assert (run.status, change.step, change.digests) == ("finished", 1, before)
    assert change.what.startswith("source 'tests.test_runs:Drawn': checksum ")
    assert json.loads(run.environment["digests"]) != before


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', '{"a"'])
def test_digests_that_are_not_as_written_are_refused_in_a_sentence(text: str, tiny: Tiny, tmp_path: Path):
    stopped(tiny("finetune", **DRAWN), tmp_path)
    with h5py.File(tmp_path / "log.h5", "r+") as log:
        del log["environment/digests"]
        log["environment/digests"] = text
    with pytest.raises(UsageError, match="is not a whole log: environment/digests is not as written"):
        tiny("finetune", **DRAWN).run(tmp_path)


def test_data_that_change_while_a_run_reads_them_end_it(monkeypatch: pytest.MonkeyPatch):
    sources = DataRoot(Path("nowhere"))
    sources.load("tests.test_runs:Drawn")
    monkeypatch.setattr(Drawn, "seed", 1)
    with pytest.raises(RunFailed, match="have changed while they were in use"):
        sources.load("tests.test_runs:Drawn")


def test_digests_differ_with_type_shape_content_and_place():
    rows, labels = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4)
    one = digest(rows, labels, rows, labels)
    assert one == digest(rows.copy(), labels, np.asfortranarray(rows), labels)
    others = [
        digest(rows.astype(np.float32), labels, rows, labels),
        digest(rows.reshape(4, 1, 1, 4), labels, rows, labels),
        digest(rows, labels[::-1], rows, labels),
        digest(rows, labels, rows + np.uint8(1), labels),
        digest(rows[:3], labels[:3], rows, labels),
    ]
    assert len({other["checksum"] for other in (one, *others)}) == 6
    assert difference({"a": one}, {"a": one, "b": others[0]}) == ""


def test_a_folder_that_another_process_writes_to_is_refused(tiny: Tiny, tmp_path: Path):
    with RunFolder(tmp_path, ""), pytest.raises(UsageError, match="another process is writing to"):
        tiny("finetune").run(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(tiny: Tiny, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written to"):
        tiny("finetune").run(tmp_path / "file" / "run")


def test_a_damaged_checkpoint_is_refused_and_the_log_is_left_alone(tiny: Tiny, tmp_path: Path):
    class Cut(BaseException):
        pass

    def cut(event: Event) -> None:
        if isinstance(event, TaskLearned) and event.step == 1:
            raise Cut

    with pytest.raises(Cut):
        tiny("finetune").run(tmp_path, listeners=lambda stream: [cut])
    before = facts(tmp_path / "log.h5")
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UsageError, match="is damaged"):
        tiny("finetune").run(tmp_path)
    assert_same_facts(before, facts(tmp_path / "log.h5"))


def test_a_run_that_fails_keeps_what_was_measured(tiny: Tiny, tmp_path: Path):
    def fail(event: Event) -> None:
        if isinstance(event, Scored) and event.step == 1:
            raise RunFailed("as planned")

    with pytest.raises(RunFailed, match="as planned"):
        tiny("finetune").run(tmp_path, listeners=lambda stream: [fail])
    found = open_run(tmp_path)
    assert found.status == "failed"
    assert np.isfinite(found.results["acc"].values[2]).all()


def test_scores_are_reused_where_answers_cannot_have_changed_and_are_the_same_as_measured_anew(tiny: Tiny):
    def cells_of(reuse: bool) -> tuple[list[Event], int]:
        experiment = tiny("independent", **{"stream.n": 6, "agenda.evaluate_ahead": 0})
        stream = experiment.stream()
        strategy = experiment.build_strategy(stream)
        if not reuse:
            strategy.fingerprint = lambda task_id: None  # type: ignore[method-assign]
        told = list(simulate(stream, strategy, plan(stream, experiment.agenda)))
        taken_over = sum(len(event.task_ids) for event in told if isinstance(event, ScoresReused))
        return [cell for event in told for cell in cells(event)], taken_over

    (reused, count), (anew, none) = cells_of(True), cells_of(False)
    assert reused == anew
    assert (count, none) == (15, 0)


def test_saving_is_put_off_while_it_takes_too_large_a_share_but_never_the_last(tiny: Tiny, tmp_path: Path):
    experiment = tiny("finetune", **{"stream.n": 12})

    def saves(share: float | None) -> list[int]:
        stream = experiment.stream()
        agenda = plan(stream, experiment.agenda)
        walk = simulate(stream, experiment.build_strategy(stream), agenda, save_to=tmp_path / "state", save_share=share)
        return [event.step for event in walk if isinstance(event, Saving)]

    assert saves(None) == list(range(12))
    few = saves(1e-9)
    assert few == [0, 11]


def test_evaluate_every_tests_all_tasks_then_and_at_least_its_own_in_between(tiny: Tiny):
    experiment = tiny("finetune", **{"stream.n": 5, "agenda.evaluate_every": 2, "agenda.evaluate_ahead": 0})
    stream = experiment.stream()
    tested: dict[int, list[int]] = {}
    for event in simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda)):
        if isinstance(event, Evaluated):
            tested.setdefault(event.step, []).append(event.task_id)
    assert tested == {0: [0], 1: [0, 1], 2: [2], 3: [0, 1, 2, 3], 4: [0, 1, 2, 3, 4]}


def test_a_stream_without_end_runs_until_nobody_reads_on(tiny: Tiny):
    experiment = tiny("finetune", **{"stream.n": 3})
    options = {**experiment.resolved["stream"], "n": None}
    endless = Experiment("endless", "finetune", (0,), {**experiment.resolved, "stream": options})
    stream = endless.stream()
    learned = 0
    for event in simulate(stream, endless.build_strategy(stream), plan(stream, AgendaOptions(evaluate_ahead=1))):
        learned += isinstance(event, TaskLearned)
        assert not isinstance(event, StreamEnded)
        if learned == 8 and isinstance(event, Scored):
            assert np.isfinite(event.fwt).all()
            break
    assert learned == 8


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["finetune", "piggyback"])
def test_hundreds_of_tasks_take_no_memory_beyond_the_strategys_own_state(tiny: Tiny, tmp_path: Path, strategy: str):
    short = {
        "stream.n": 550,
        "train.epochs": 1,
        "agenda.evaluate_every": 100,
        "agenda.save_share": 0.05,
        "net.hidden": [6],
    }
    own = {"mask_lr": 0.01, "train.batch": 5} if strategy == "piggyback" else {"train.batch": 60}
    sizes: dict[int, list[tuple[int, int]]] = {150: [], 549: []}

    def watch(event: Event) -> None:  # at the least of some experiences: while a log is published there is more
        for last, found in sizes.items():
            if isinstance(event, TaskLearned) and last - 20 < event.step <= last:
                found.append((_resident_bytes(), sum((*event.memory.values(), *event.apart.values()))))

    tiny(strategy, (0,), **short, **own).run(tmp_path, listeners=lambda stream: [watch])
    early, late = (min(found)[0] for found in sizes.values())
    held_early, held_late = (found[-1][1] for found in sizes.values())
    assert late - early < 2 * (held_late - held_early) + 8 * 2**20
    state: dict[str, Any] = checkpoint.load(tmp_path / "checkpoint.safetensors")["strategy"]
    assert sum(bytes_by_part(state).values()) == held_late


def _resident_bytes() -> int:
    gc.collect()
    with suppress(
        OSError, AttributeError
    ):  # where there is glibc: what is free is given back, of tests before this one too
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_the_commit_is_that_of_this_program_and_not_of_a_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    installed = tmp_path / "site-packages" / "cl_engine" / "runs" / "checkout.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(checkout, "__file__", str(installed))
    assert checkout.commit() == ""
