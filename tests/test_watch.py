"""A run is followed from its log alone: what is shown is what the log says, whatever happens to the file meanwhile."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from cl_engine.analysis.live.snapshot import snapshot
from cl_engine.analysis.live.watch import ATTEMPTS, Follower, shown, watch
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from tests.conftest import TINY, published_always

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The log of a run as it was published each time, the last one finished."""
    folder = tmp_path_factory.mktemp("stages")
    kept: list[Path] = []

    def keep(event: Any) -> None:
        if type(event).__name__ == "Saved":
            kept.append(Path(shutil.copy(folder / "run" / "log.h5", folder / f"{len(kept)}.h5")))

    with pytest.MonkeyPatch.context() as patch:
        published_always(patch)
        Experiment.of(TINY, "replay", (0, 1)).run(folder / "run", listeners=lambda stream: [keep])
    return [*kept, folder / "run" / "log.h5"]


def put(log: Path, folder: Path) -> None:
    """Publish a log in a folder as the engine does: whole, by rename."""
    folder.mkdir(exist_ok=True)
    shutil.copy(log, folder / "log.h5.part")
    (folder / "log.h5.part").replace(folder / "log.h5")


def text_of(now: Any, width: int = 100) -> str:
    out = Console(file=io.StringIO(), width=width)
    out.print(shown(now, width))
    return out.file.getvalue()  # type: ignore[attr-defined]


def test_a_moment_is_what_the_log_says(stages: list[Path]):
    now, run = snapshot(stages[1]), open_run(stages[1])
    found = run.results
    assert (now.done, now.planned, now.status, now.seeds) == (2, 3, "running", 2)
    np.testing.assert_allclose(now.row, found["accuracy"].values[-1].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(now.acc, [found["acc"].values[e].mean() for e in (1, 2)])
    assert sum(now.memory.values()) == int(found["memory"].values[-1].sum())
    curve = run.table("curves")
    curve = curve[curve["step"] == 1]
    expected = (curve["n_correct"] / curve["n_total"]).groupby(curve["batch"]).mean()
    np.testing.assert_allclose(now.curve, expected)
    assert now.curve_of == "test accuracy while learning experience 1"
    assert now.events[-1][:2] == (1, "MemoryUpdated")
    assert now.each == pytest.approx(float(found["seconds"].sum("phase").mean()), rel=0.5)


def test_what_is_left_is_the_experiences_to_come_times_what_one_takes(stages: list[Path], tmp_path: Path):
    shutil.copy(stages[0], tmp_path / "log.h5")
    with h5py.File(tmp_path / "log.h5", "r+") as file:
        file["results/seconds"][0] = (90.0, 9.0, 1.0)
        file.attrs["updated"] = "2999-01-01T00:00:00Z"  # a clock that is ahead
    now = snapshot(tmp_path / "log.h5")
    assert now.silence == 0
    assert now.left == pytest.approx(200)
    assert snapshot(stages[-1]).left == 0


def test_of_a_stream_without_end_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    published_always(monkeypatch)
    endless: dict[str, Any] = {"stream.n": None}

    class Enough(BaseException):
        pass

    def stop(event: Any) -> None:
        if type(event).__name__ == "Saved" and event.step == 1:
            raise Enough

    with pytest.raises(Enough):
        Experiment.of(TINY, "finetune", (0,), **endless).run(tmp_path, listeners=lambda stream: [stop])
    now = snapshot(tmp_path / "log.h5")
    assert (now.done, now.planned) == (2, None)
    assert "2 experiences" in text_of(now)
    assert "left" not in text_of(now)


def test_a_follower_reads_anew_only_what_was_published_anew(stages: list[Path], tmp_path: Path):
    follower = Follower(tmp_path / "run")
    assert follower.news() is None  # not begun
    for number, stage in enumerate(stages[:2], start=1):
        put(stage, tmp_path / "run")
        news = follower.news()
        assert news is not None
        assert news.done == number
        assert follower.news() is None
    (tmp_path / "run" / "log.h5").unlink()
    assert follower.news() is None  # gone for a moment
    put(stages[-1], tmp_path / "run")
    last = follower.news()
    assert last is not None
    assert last.status == "finished"


def test_a_file_that_stays_unreadable_is_refused_and_one_that_recovers_is_not(stages: list[Path], tmp_path: Path):
    (tmp_path / "log.h5").write_bytes(b"nothing")
    follower = Follower(tmp_path)
    assert all(follower.news() is None for _ in range(ATTEMPTS - 1))
    put(stages[0], tmp_path)
    assert follower.news() is not None
    (tmp_path / "log.h5").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read"):
        for _ in range(ATTEMPTS):
            follower.news()


def test_a_log_whose_parts_do_not_fit_is_refused_in_a_sentence(stages: list[Path], tmp_path: Path):
    put(stages[0], tmp_path)
    with h5py.File(tmp_path / "log.h5", "r+") as file:
        del file["environment/experiment"]
        file["environment/experiment"] = '{"options": {"stream": [], "agenda": []}}'
    follower = Follower(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        for _ in range(ATTEMPTS):
            follower.news()


def test_every_experience_has_one_line_and_the_end_is_said(stages: list[Path], tmp_path: Path):
    out = Console(file=io.StringIO(), width=60)

    def publish() -> None:
        for number, stage in enumerate((stages[0], stages[2], stages[-1])):
            while len(text().splitlines()) < (1, 2, 4)[number]:  # the next one when this one was seen
                time.sleep(0.01)
            put(stage, tmp_path / "run")

    def text() -> str:
        return str(out.file.getvalue())  # type: ignore[attr-defined]

    writer = threading.Thread(target=publish, daemon=True)
    writer.start()
    assert watch(tmp_path / "run", interval=0.05, out=out) == "finished"
    writer.join()
    lines = text().splitlines()
    assert lines[0].startswith("waiting for ")
    assert [line.split(" ")[2] for line in lines[1:4]] == ["1/3", "2/3", "3/3"]
    assert lines[4:] == ["tiny, replay: finished"]


def test_on_a_terminal_the_picture_ends_with_the_run(stages: list[Path], tmp_path: Path):
    put(stages[-1], tmp_path)
    out = Console(file=io.StringIO(), width=90, force_terminal=True, color_system=None)
    assert watch(tmp_path, out=out) == "finished"
    seen = out.file.getvalue()  # type: ignore[attr-defined]
    assert "3/3 experiences" in seen
    assert "last row" in seen
    assert seen.rstrip().endswith("finished")


def test_a_run_that_is_silent_for_long_may_have_been_killed(stages: list[Path], tmp_path: Path):
    shutil.copy(stages[0], tmp_path / "log.h5")
    with h5py.File(tmp_path / "log.h5", "r+") as file:
        file.attrs["updated"] = "2020-01-01T00:00:00Z"
    assert "the run may have been killed" in " ".join(text_of(snapshot(tmp_path / "log.h5")).split())
    assert "killed" not in text_of(snapshot(stages[-1]))


@pytest.mark.parametrize("width", [30, 80, 200])
def test_hostile_names_cannot_move_the_cursor_or_break_the_frame(stages: list[Path], tmp_path: Path, width: int):
    shutil.copy(stages[-1], tmp_path / "log.h5")
    hostile = "\x1b[2J[bold]\u202e" + "W" * 10_000 + "\n🚀"
    with h5py.File(tmp_path / "log.h5", "r+") as file:
        file.attrs["strategy"] = hostile
        file["results/part"][0] = hostile
        file["events/kind"][:] = [hostile] * len(file["events/kind"])
        file["results/task_name"][:] = [hostile] * 3
    text = text_of(snapshot(tmp_path / "log.h5"), width)
    assert not {"\x1b", "\u202e"} & set(text)
    assert "[bold]" in text
    assert all(len(line) <= width for line in text.splitlines())
    assert len(text) < 20_000


def test_the_command_ends_as_the_run_did(stages: list[Path], tmp_path: Path):
    def code(*arguments: str) -> int:
        return CliRunner().invoke(main, ["watch", *arguments]).exit_code

    assert code(str(stages[-1])) == 0
    for status in ("failed", "stopped"):
        log = Path(shutil.copy(stages[1], tmp_path / f"{status}.h5"))
        with h5py.File(log, "r+") as file:
            file.attrs["status"] = status
        assert code(str(log)) == 1
        assert code(str(log), "--once") == 0
    assert code(str(tmp_path / "nowhere"), "--once") == 2


def test_a_place_where_no_run_can_begin_is_not_waited_for(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no log")
    for place, sentence in (
        (tmp_path / "notes.txt", "is a file, and not the log of a run"),
        (tmp_path / "notes.txt" / "run", "so that no run is about to write"),
        (tmp_path / "nowhere" / "run", f"there is no folder {tmp_path / 'nowhere'}, so that"),
        (tmp_path / "nowhere" / "run" / "log.h5", f"there is no folder {tmp_path / 'nowhere'}, so that"),
        (tmp_path / "notes.txt" / "log.h5", "is a file, so that no run can write there"),
    ):
        done = CliRunner().invoke(main, ["watch", str(place)])
        assert done.exit_code == 2
        assert sentence in done.stderr


def test_a_folder_that_is_not_there_yet_is_waited_for(stages: list[Path], tmp_path: Path):
    begun = threading.Timer(0.3, put, (stages[-1], tmp_path / "run"))
    begun.start()
    assert watch(tmp_path / "run", 0.05, out=Console(file=io.StringIO())) == "finished"
    begun.join()


def test_a_real_run_in_another_process_is_followed_to_its_end(tmp_path: Path):
    command = [sys.executable, str(ROOT / "run.py")]
    folder = str(tmp_path / "run")
    follow = subprocess.Popen(
        [*command, "watch", folder, "--interval", "0.1"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    run = [*command, "run", str(TINY), "-s", "finetune", "--out", folder, "--quiet"]
    subprocess.run(run, check=True, cwd=ROOT, capture_output=True)
    said, _ = follow.communicate(timeout=120)
    assert follow.returncode == 0
    assert [line.split(" ")[2] for line in said.splitlines() if "/3" in line] == ["1/3", "2/3", "3/3"]
    assert said.splitlines()[-1] == "tiny, finetune: finished"


def test_a_writer_is_never_disturbed_by_who_watches(tiny: Callable[..., Experiment], tmp_path: Path):
    follower, seen = Follower(tmp_path), []

    def look(event: Any) -> None:
        if (news := follower.news()) is not None:
            seen.append(news.done)

    tiny("finetune").run(tmp_path, listeners=lambda stream: [look])
    assert seen == sorted(seen)
    assert open_run(tmp_path).status == "finished"
