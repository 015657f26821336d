"""Scores, pictures, tables and the report, from logs alone."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from cl_engine.analysis.plots import across_runs, matrices, one_run
from cl_engine.analysis.plots.gallery import save_pictures
from cl_engine.analysis.plots.style import rendered
from cl_engine.analysis.plots.svg import inline, shared
from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.report.terminal import print_comparison, print_run
from cl_engine.analysis.scores.references import reference
from cl_engine.analysis.scores.run_scores import interval, recomputed, summarised
from cl_engine.core import files
from cl_engine.core.text import clean, duration, number, size, with_interval
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from tests.conftest import TINY

HOSTILE = '<script>alert(1)</script>[bold]$\\frac{\x1b[31m"&'
CURVES = {"agenda.curve_epochs": 1, "agenda.curve_batches": 0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    strategies = ("finetune", "independent", "joint", "replay")
    made = {name: Experiment.of(TINY, name, (0, 1, 2), **CURVES) for name in strategies}
    return [open_run(experiment.run(folder / name)) for name, experiment in made.items()]


@pytest.fixture
def changed(runs: list[Run], tmp_path: Path) -> Callable[[Callable[[h5py.File], Any]], Run]:
    """Return a function that gives a copy of the first run's log, changed."""

    def make(change: Callable[[h5py.File], Any]) -> Run:
        shutil.copy(runs[0].path, tmp_path / "log.h5")
        with h5py.File(tmp_path / "log.h5", "r+") as file:
            change(file)
        return open_run(tmp_path)

    return make


def hostile(file: h5py.File) -> None:
    file.attrs["strategy"] = file.attrs["scenario"] = HOSTILE
    file["results/task_name"][0] = HOSTILE


class Page(HTMLParser):
    """Collects what a browser would see: tags, and text outside of style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        inert = tag == "script" and given.get("type") == "text/plain"  # data, which a browser does not run
        self.tags.append("data" if inert else tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[key] or "" for key in ("href", "src", "xlink:href") if key in given]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_scores_recomputed_from_the_counts_are_those_logged(runs: list[Run]):
    for run in runs:
        for name, values in recomputed(run, rows=2).items():
            np.testing.assert_allclose(run.results[name].values, values, atol=1e-12)


def test_the_confidence_interval_is_students(runs: list[Run]):
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(4.302653 / np.sqrt(3))
    assert np.isnan(interval(np.array([1.0])))
    assert with_interval(0.5, float("nan")) == "0.500"
    summary = summarised(runs[0])
    assert summary.acc.mean == pytest.approx(float(runs[0].results["acc"].values[-1].mean()))


def test_transfer_and_intransigence_are_against_the_runs_beside(runs: list[Run]):
    finetune, independent, joint, _ = runs
    assert reference(finetune, runs, "independent") is independent
    diagonals = [np.stack([run.results["accuracy"].values[1 + t, t] for t in range(3)]) for run in runs]
    beside = summarised(finetune, runs)
    assert beside.transfer.values == pytest.approx((diagonals[0] - diagonals[1]).mean(axis=0))
    assert beside.transfer_last.values == pytest.approx((diagonals[0] - diagonals[1])[-1])
    assert beside.intransigence.values == pytest.approx((diagonals[2] - diagonals[0]).mean(axis=0))
    assert np.isnan(summarised(finetune).transfer.mean)
    assert summarised(independent, runs).transfer.values == pytest.approx(np.zeros(3))
    assert joint.strategy == "joint"


def test_a_run_that_starts_from_another_backbone_is_no_reference(
    runs: list[Run], changed: Callable[[Callable[[h5py.File], Any]], Run]
):
    def pretrained(file: h5py.File) -> None:
        found = json.loads(file["environment/experiment"][()])
        found["options"]["backbone"] = {"source": "mnist1d"}
        file["environment/experiment"][()] = json.dumps(found)

    assert reference(changed(pretrained), runs, "independent") is None


def test_a_run_of_a_net_that_is_initialised_in_another_way_is_a_reference_and_one_of_another_width_is_none(
    runs: list[Run], changed: Callable[[Callable[[h5py.File], Any]], Run]
):
    def of_net(**options: Any) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            found = json.loads(file["environment/experiment"][()])
            found["options"]["net"] |= options
            file["environment/experiment"][()] = json.dumps(found)

        return change

    assert reference(changed(of_net(init="kaiming")), runs, "independent") is runs[1]
    assert reference(changed(of_net(hidden=[7])), runs, "independent") is None


def test_a_run_of_other_seeds_or_another_stream_is_no_reference(runs: list[Run], tmp_path: Path):
    other = open_run(Experiment.of(TINY, "independent", (7,)).run(tmp_path / "seeds"))
    assert reference(runs[0], [other], "independent") is None
    shorter = open_run(Experiment.of(TINY, "independent", (0, 1, 2), **{"stream.n": 2}).run(tmp_path / "stream"))
    assert reference(runs[0], [shorter], "independent") is None


def test_the_area_under_the_learning_curve_is_between_its_ends(runs: list[Run]):
    table = runs[1].table("curves")
    accuracy = table["n_correct"] / table["n_total"]
    assert accuracy.min() < summarised(runs[1]).curve_area.mean < accuracy.max()


def test_numbers_are_written_as_people_read_them():
    assert [number(x) for x in (0.5, float("nan"))] == ["0.500", "–"]
    assert [size(x) for x in (12, 1500, 2.5e6, 3e9)] == ["12 B", "1.5 kB", "2.5 MB", "3.0 GB"]
    assert [duration(x) for x in (0.24, 59.7, 200, 7500)] == ["0.2 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]
    assert clean("a\x1b[31mb\x00\x9b") == "a[31mb"


def test_the_terminal_shows_matrix_scores_memory_and_time(runs: list[Run], capsys: pytest.CaptureFixture[str]):
    print_run(runs[0])
    shown = capsys.readouterr().out
    matrix = runs[0].results["accuracy"].mean("seed").values
    assert f"{matrix[1, 0]:.3f}"[1:] in shown
    assert all(word in shown for word in ("untrained", "task 2", "ACC", "BWT", "memory", "heads", "learn"))
    print_comparison(runs)
    table = capsys.readouterr().out
    order = sorted(runs, key=lambda run: -summarised(run).acc.mean)
    places = [re.search(rf"^{run.strategy} ", table, re.MULTILINE).start() for run in order]  # type: ignore[union-attr]
    assert places == sorted(places)


def test_names_from_a_log_cannot_move_the_terminal_or_vanish(changed: Any, capsys: pytest.CaptureFixture[str]):
    run = changed(hostile)
    print_run(run)
    print_comparison([run])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "<script>alert(1)</script>[bold]" in shown


@pytest.fixture(scope="module")
def report(runs: list[Run]) -> bytes:
    """Return the page of all runs."""
    return write_report(runs, runs[0].path.parents[1] / "report.html").read_bytes()


def test_the_report_is_one_page_that_asks_for_nothing_from_outside(runs: list[Run], report: bytes):
    page = Page(report.decode())
    assert page.tags.count("script") == 1
    assert page.tags.count("svg") >= 6 + 3 * len(runs)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    for run in runs:
        assert run.strategy in page.text
    for word in ("samples_per_class", "versions", "Lopez-Paz", "[stream]", "Definitions"):
        assert word in page.text


def test_the_same_runs_give_the_same_page_byte_for_byte(runs: list[Run], report: bytes, tmp_path: Path):
    assert write_report(runs, tmp_path / "again.html").read_bytes() == report


@pytest.mark.usefixtures("without_drawing")
def test_the_only_script_of_the_page_is_one_that_its_policy_names(runs: list[Run], tmp_path: Path):
    text = write_report(runs[:1], tmp_path / "report.html").read_bytes().decode()
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    [allowed] = re.findall(r"script-src ([^;]*);", html.unescape(policy[1]))
    assert f"'sha256-{digest}'" in allowed.split()
    assert all(re.fullmatch(r"'sha256-[\w+/=]+'", each) for each in allowed.split())


def test_a_hostile_name_is_text_in_the_report(changed: Any, tmp_path: Path):
    page = Page(write_report([changed(hostile)], tmp_path / "report.html").read_text())
    assert page.tags.count("script") == 1
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.usefixtures("without_drawing")
def test_the_report_says_what_is_missing(changed: Any, tmp_path: Path):
    def unfinished(file: h5py.File) -> None:
        file.attrs["status"] = "stopped"

    text = Page(write_report([changed(unfinished)], tmp_path / "report.html").read_text()).text
    assert "was stopped: 3 experiences in its log (3 tasks are known), last saved 20" in text


@pytest.mark.usefixtures("without_drawing")
def test_a_run_without_a_test_yet_is_shown_all_the_same(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    class Cut(BaseException):
        pass

    def cut(event: Any) -> None:
        if type(event).__name__ == "TaskStarted":
            raise RuntimeError

    with pytest.raises(RuntimeError):
        Experiment.of(TINY, "finetune", (0,)).run(tmp_path / "run", listeners=lambda stream: [cut])
    run = open_run(tmp_path / "run")
    assert run.status == "failed"
    print_run(run)
    assert "nothing has been tested yet" in capsys.readouterr().out
    text = Page(write_report([run, runs[0]], tmp_path / "report.html").read_text()).text
    assert "nothing has been tested yet, so there are no scores" in text
    assert "one seed only" in text


@pytest.mark.usefixtures("without_drawing")
def test_a_single_seed_and_a_single_task_are_shown_without_intervals(tmp_path: Path):
    run = open_run(Experiment.of(TINY, "finetune", (0,), **{"stream.n": 1}).run(tmp_path / "run"))
    text = Page(write_report([run], tmp_path / "report.html").read_text()).text
    assert "one seed only, so there are no confidence intervals" in text
    assert "one experience only" in text


def test_pictures_are_written_in_the_format_asked_for(runs: list[Run], tmp_path: Path):
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    for kind, start in starts.items():
        written = save_pictures(runs[:1], tmp_path / kind, kind)
        assert len(written) >= 10
        assert all(path.read_bytes().startswith(start) for path in written)
    with pytest.raises(UsageError, match="no picture format named 'bmp'; there are: pdf, png, svg"):
        save_pictures(runs, tmp_path, "bmp")


def test_pictures_that_have_nothing_to_show_are_left_out(runs: list[Run], tmp_path: Path):
    run = open_run(Experiment.of(TINY, "finetune", (0,), **{"agenda.curve_batches": 0}).run(tmp_path / "run"))
    assert across_runs.learning_curves([run]) is None
    assert across_runs.transfer([run]) is None
    assert isinstance(across_runs.transfer(runs), Figure)


def test_a_thousand_tasks_are_still_a_readable_picture_of_moderate_size(tmp_path: Path):
    many = {"stream.n": 400, "stream.samples_per_class": 1, "train.epochs": 1, "agenda.evaluate_every": 40}
    run = open_run(Experiment.of(TINY, "head_only", (0,), **many).run(tmp_path / "run"))
    assert len(one_run.tasks_over_stream(run).axes[0].lines) < 20
    assert len(rendered(matrices.matrix(run))) < 600_000
    page = write_report([run], tmp_path / "report.html")
    assert page.stat().st_size < 3_000_000


def test_pictures_in_one_page_share_their_letters_and_no_other_name(runs: list[Run]):
    letters: dict[str, str] = {}
    pair = [inline(matrices.matrix(runs[0]), name, letters) for name in ("one", "two")]
    names = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in pair]
    held = set(re.findall(r'\bid="([^"]+)"', shared(letters)))
    assert not names[0] & names[1]
    assert not held & (names[0] | names[1])
    for svg, own in zip(pair, names, strict=True):
        used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
        assert used <= own | held
        assert own <= used


def test_no_half_a_picture_is_left(runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_pictures(runs[:1], tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(part: Path, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "replace", full)
    with pytest.raises(UsageError, match=r"cannot be written: No space left"):
        save_pictures(runs[:1], tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("without_drawing")
def test_what_cannot_be_written_is_said_in_a_sentence(runs: list[Run], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(runs, tmp_path / "file" / "report.html")
    with pytest.raises(UsageError, match="at least one run"):
        write_report([], tmp_path / "report.html")
