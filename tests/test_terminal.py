"""Tables in the terminal, however narrow it is, however many seeds there are, whatever a thing is called."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from rich.console import Console
from torch import Tensor

from cl_engine.analysis.report import terminal
from cl_engine.analysis.report.terminal import print_comparison, print_run
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.estimate import check_experiment
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from cl_engine.strategy import Strategy
from tests.conftest import TINY, old_log

SEEDS = tuple(range(12))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    made = {name: Experiment.of(TINY, name, SEEDS) for name in ("finetune", "independent")}
    return [open_run(experiment.run(folder / name)) for name, experiment in made.items()]


@pytest.fixture(params=[40, 80, 120])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(terminal, "_console", lambda: Console(highlight=False, width=request.param, color_system=None))
    return int(request.param)


@pytest.mark.parametrize("width", [80, 120], indirect=True)
def test_a_number_of_the_comparison_is_never_cut(runs: list[Run], width: int, capsys: pytest.CaptureFixture[str]):
    print_comparison(runs)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert all(len(line) <= width for line in shown.splitlines())
    for run in runs:
        acc = summarised(run).acc
        assert f"{acc.mean:.3f}" in shown
        assert f"± {acc.half_width:.3f}" in shown


def test_every_seed_is_shown_with_all_its_digits(runs: list[Run], width: int, capsys: pytest.CaptureFixture[str]):
    print_run(runs[0])
    shown = capsys.readouterr().out
    values = summarised(runs[0]).acc.values
    rows = " ".join(re.findall(r"^ACC(.*)$", shown, re.MULTILINE))
    assert re.findall(r"\d\.\d{3}", rows)[: len(SEEDS)] == [f"{value:.3f}" for value in values]
    assert [int(seed) for seed in re.findall(r"seed (\d+)", shown)] == list(SEEDS)
    assert shown.count("mean\n") == 1


def test_a_name_with_line_breaks_and_direction_marks_stays_in_its_cell(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(runs[0].path, tmp_path / "log.h5")
    with h5py.File(tmp_path / "log.h5", "r+") as file:
        file.attrs["strategy"] = "a\nACC 1.000\x1b[2J\u202e"
        file["results/task_name"][0] = "t\nACC 1.000"
    run = open_run(tmp_path)
    print_run(run)
    print_comparison([run])
    shown = capsys.readouterr().out
    assert not {"\x1b", "\u202e"} & set(shown)
    assert not re.search(r"^ACC 1\.000", shown, re.MULTILINE)


def test_what_does_not_count_as_memory_is_shown_apart_and_an_older_log_says_that_it_counts_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    print_run(open_run(Experiment.of(TINY, "head_only", (0,), **{"stream.n": 1}).run(tmp_path / "run")))
    shown = capsys.readouterr().out
    assert "memory  520 B a seed at the end (heads 520 B)\n" in shown
    assert re.search(r"^apart   net [\d.]+ kB: not counted, as it follows from the seeds", shown, re.MULTILINE)
    print_run(open_run(old_log("1.3", tmp_path / "old")))
    shown = capsys.readouterr().out
    assert "all of the state, as logs counted before format 1.5" in " ".join(shown.split())
    assert "apart   " not in shown


class Forgetful(Strategy):
    """Keeps nothing, and answers alike."""

    def start(self) -> dict[str, Any]:
        return {}

    def learn(self, experience: Experience) -> Any:
        yield from ()

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return torch.zeros(len(self.seeds), len(x), self.net.outputs)


def test_of_a_strategy_that_keeps_nothing_no_parts_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    experiment = Experiment.of(TINY, f"{__name__}:Forgetful", (0,), **{"stream.n": 1})
    print_run(open_run(experiment.run(tmp_path / "run")))
    assert "memory  0 B a seed at the end\n" in capsys.readouterr().out
    told = dict(check_experiment(experiment, "cpu", None))
    assert re.fullmatch(r"0 B a seed( \(before learning\))?", told["memory, first task"])


def test_a_run_without_a_test_still_shows_its_memory_and_time(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def cut(event: Any) -> None:
        if type(event).__name__ == "Evaluated" and event.step == 0:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        Experiment.of(TINY, "finetune", (0,)).run(tmp_path / "run", listeners=lambda stream: [cut])
    run = open_run(tmp_path / "run")
    assert run.final is None
    print_run(run)
    shown = capsys.readouterr().out
    assert "nothing has been tested yet" in shown
    assert "memory  " in shown
    print_comparison([run, *runs])
    assert re.search(r"finetune \(run\) +– ", capsys.readouterr().out)


def test_no_colour_is_asked_of_a_terminal_that_wants_none(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.setenv("NO_COLOR", "1")
    print_run(runs[0])
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", capsys.readouterr().out)


def test_a_comparison_of_nothing_is_refused():
    with pytest.raises(UsageError, match="at least one run"):
        print_comparison([])
