"""Terminals of 40 and of 80 columns: task, scores and time left stand there, and nothing is cut off."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console as Terminal
from rich.table import Table

from cl_engine import events
from cl_engine.analysis.comparison import tables
from cl_engine.analysis.live.snapshot import snapshot
from cl_engine.analysis.live.watch import shown
from cl_engine.analysis.report import terminal as score_tables
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.cli import main
from cl_engine.core import narrow
from cl_engine.experiment import Experiment
from cl_engine.loggers.console import Console
from cl_engine.results.run import Run, open_run
from cl_engine.sweep import view
from cl_engine.sweep.backend import JobProgress
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.folder import Entry
from cl_engine.sweep.log_summary import LogSummary
from cl_engine.sweep.status import Status
from tests.conftest import TINY

MEASURED = r"[\d.,]+ (?:ms|s|min)\b"  # what differs from one estimate to the next
NAMES = ("finetune", "piggyback")


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, list[Any], Path]:
    """An experiment, its events, and the folder of its run and of another's."""
    folder, seen = tmp_path_factory.mktemp("runs"), []
    first, second = (Experiment.of(TINY, name, (0, 1)) for name in NAMES)
    first.run(folder / first.strategy, listeners=lambda stream: [seen.append])
    second.run(folder / second.strategy)
    return first, seen, folder


@pytest.fixture(params=[40, 80])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal so wide, for whatever asks."""

    def of_that_width(**named: Any) -> Terminal:
        return Terminal(**{"width": request.param, "force_terminal": True, "color_system": None, **named})

    for module in (tables, score_tables, view):
        monkeypatch.setattr(module, "Console", of_that_width)
    monkeypatch.setattr(narrow, "terminal_width", lambda: request.param)
    return int(request.param)


def written(thing: Any, width: int) -> str:
    out = Terminal(file=io.StringIO(), width=width)
    out.print(thing)
    return out.file.getvalue()  # type: ignore[attr-defined]


def whole(text: str, width: int) -> bool:
    return "…" not in text and all(len(line.rstrip()) <= width for line in text.splitlines())


def test_progress_of_a_run_keeps_task_scores_and_time_left(happened: Any, width: int):
    experiment, seen, _ = happened
    out = Terminal(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console, pictures = Console("a_scenario_with_a_long_name finetune", experiment.stream(), out), []
    for event in seen:
        console(event)
        if isinstance(event, events.TaskStarted) and event.step == 2:
            pictures.append(written(console._picture(), width))
    assert pictures
    for picture in pictures:
        assert whole(picture, width)
        text = " ".join(picture.split())
        assert "a_scenario_with_a_long_name finetune" in text
        assert "3/3 learning permutation 2" in text
        assert re.search(r"ACC \d\.\d{3} BWT [+-]\d\.\d{3} \S+ s left$", text)
    drawn = out.file.getvalue()  # type: ignore[attr-defined]
    assert "3/3" in drawn
    assert "…" not in drawn


def test_watch_keeps_what_is_done_scores_and_time_left(happened: Any, width: int):
    now = replace(snapshot(happened[2] / "finetune" / "log.h5"), status="running", planned=13, each=400.0)
    now = replace(now, events=[(0, "MemoryUpdated", "task_id 0, rows 60, of_this_task 60")])
    text = written(shown(now, width), width)
    assert whole(text, width)
    joined = " ".join(text.split())
    assert re.search(r"3/13 experiences, 1 h \d min left", joined)
    assert f"ACC {now.acc[-1]:.3f}" in joined
    assert "0: MemoryUpdated task_id 0, rows 60, of_this_task 60" in joined


def test_a_sweep_keeps_counts_each_running_run_the_best_and_time_left(width: int):
    tally = Status(SweepOptions(scenarios=["permuted_digits"], strategies=["replay"]))
    for number in range(4):
        changes = {"stream.samples_per_class": 100 + number, "train.lr": 0.001}
        entry = Entry(f"r{number}", "h", "permuted_digits", "replay", [0], changes)
        look = LogSummary("finished", 10, 90.0, ((10, 0.5 + number / 10),)) if number < 2 else LogSummary("new")
        tally.enter(entry, entry.name, look)
    tally.started("r2")
    tally.heard(JobProgress("r2", learned=3, of=10))
    picture = written(view._picture(tally, width), width)
    assert whole(picture, width)
    text = " ".join(picture.split())
    assert "2 of 4 done, 1 running, 1 waiting about " in text
    assert " left 3/10 permuted_digits, replay, stream.samples_per_class = 102 0 s" in text
    assert "0.600" in text


def test_the_table_of_a_sweep_cuts_no_number_and_no_name(width: int, capsys: pytest.CaptureFixture[str]):
    tally = Status(SweepOptions(scenarios=["a", "b"], strategies=["replay"]))
    for name in ("a", "b"):
        entry = Entry(name, "h", name, "replay", [0], {"stream.samples_per_class": ord(name), "train.lr": 0.00125})
        tally.enter(entry, name, LogSummary("finished", 10, 90.0, ((10, 0.515625),)))
    view.print_status(tally)
    text = capsys.readouterr().out
    assert whole(text, width)
    assert all(word in text.split() for word in ("97", "98", "0.516", "replay", "finished", "stream.samples_per_class"))


def test_a_comparison_cuts_no_number_and_no_name(happened: Any, width: int):
    result = CliRunner().invoke(main, ["compare", str(happened[2])])
    assert result.exit_code == 0
    assert whole(result.stdout, width)
    for name in NAMES:
        assert re.search(rf"^{name}\b", result.stdout, re.MULTILINE)
        assert f"{summarised(open_run(happened[2] / name)).acc.mean:.3f}" in result.stdout


def test_a_run_and_runs_side_by_side_cut_no_number(happened: Any, width: int, capsys: pytest.CaptureFixture[str]):
    runs: list[Run] = [open_run(happened[2] / name) for name in NAMES]
    score_tables.print_comparison(runs)
    score_tables.print_run(runs[0])
    text = capsys.readouterr().out
    assert whole(text, width)
    for name, run in zip(NAMES, runs, strict=True):
        acc = summarised(run).acc
        assert f"{acc.mean:.3f}" in text
        assert f"± {acc.half_width:.3f}" in text
        assert name in text


def test_a_matrix_shows_as_many_tasks_as_there_is_room_for(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = open_run(Experiment.of(TINY, "finetune", (0,), **{"stream.n": 12, "train.epochs": 1}).run(tmp_path))
    score_tables.print_run(run)
    text = capsys.readouterr().out
    assert whole(text, width)
    (head,) = re.findall(r"^after +(.*)$", text, re.MULTILINE)
    assert len(head.split()) == (6 if width == 40 else 12)
    assert ("6 of 12 tasks are shown" in " ".join(text.split())) == (width == 40)


def test_check_and_list_fold_between_words_and_say_all_they_say_in_a_file(width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cl_engine.estimate.PATIENCE", 0.05)
    for arguments in (["check", str(TINY), "-s", "finetune"], ["list", "upkeep"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0
        assert whole(result.stdout, width)
        monkeypatch.setattr(narrow, "terminal_width", lambda: None)
        plain = CliRunner().invoke(main, arguments).stdout
        monkeypatch.setattr(narrow, "terminal_width", lambda: width)
        folded, straight = (re.sub(MEASURED, "", " ".join(text.split())) for text in (result.stdout, plain))
        assert folded.replace(" ", "") == straight.replace(" ", "")  # a word that is longer than a line is folded too
        assert len(result.stdout.splitlines()) > len(plain.splitlines())


def test_a_table_with_room_stays_one_and_one_without_becomes_blocks():
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("method", overflow="fold")
    for head in ("ACC", "interval"):
        table.add_column(head, no_wrap=True)
    table.add_row("replay", "0.912", "0.900 – 0.920")
    assert narrow.fitted(table, Terminal(width=35)) is table
    blocks = written(narrow.fitted(table, Terminal(width=24)), 24)
    assert blocks.splitlines() == ["replay", "  ACC 0.912", "  interval 0.900 – 0.920"]
