"""The report says what is missing and why, names runs apart, and leaves nothing lying about."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from cl_engine.analysis.discovery import find_runs, without_references
from cl_engine.analysis.plots import strategy_events
from cl_engine.analysis.report import page as report
from cl_engine.analysis.report import side_by_side
from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.report.remarks import remarks
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from tests.conftest import TINY


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    names = ("finetune", "independent", "joint")
    return {name: open_run(Experiment.of(TINY, name, (0, 1)).run(folder / name)) for name in names}


def said(*runs: Run) -> list[str]:
    return remarks([run.path.parent.name for run in runs], [summarised(run, runs) for run in runs])


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]+>", "", page.read_text(), flags=re.DOTALL))


def copied(run: Run, folder: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(run.path, folder / "log.h5")
    return folder


def test_where_nothing_is_missing_nothing_is_remarked(runs: dict[str, Run]):
    assert said(*runs.values()) == []


def test_a_missing_reference_is_named_once_for_all_runs_that_lack_it(runs: dict[str, Run]):
    assert said(runs["finetune"], runs["independent"]) == [
        "finetune, independent: no run of `joint` with the same stream, net, backbone and seeds is beside it, "
        "so there is no intransigence"
    ]


def test_an_older_run_that_counts_its_memory_otherwise_is_remarked_beside_newer_ones(
    runs: dict[str, Run], tmp_path: Path
):
    folder = copied(runs["finetune"], tmp_path / "older")
    with h5py.File(folder / "log.h5", "r+") as file:
        del file.attrs["memory_counts"]
    older = open_run(folder)
    [sentence] = [line for line in said(older, runs["independent"], runs["joint"]) if "memory" in line]
    assert sentence.startswith("older: its memory is all of its state, as logs counted before format 1.5")
    assert not any("memory" in line for line in said(older))


def test_a_reference_that_is_not_done_is_said_to_be_the_reason(runs: dict[str, Run], tmp_path: Path):
    folder = copied(runs["independent"], tmp_path / "reference")
    with h5py.File(folder / "log.h5", "r+") as file:
        file["results/accuracy"][-1, -1] = float("nan")
    sentences = said(runs["finetune"], open_run(folder), runs["joint"])
    assert any(
        sentence.startswith("finetune") and "`independent` beside it has not been tested on all" in sentence
        for sentence in sentences
    )


def test_scores_that_were_not_measured_come_with_the_option_that_measures_them(tmp_path: Path):
    bare = {"agenda.evaluate_ahead": 0, "agenda.curve_batches": 0}
    run = open_run(Experiment.of(TINY, "finetune", (0, 1), **bare).run(tmp_path / "run"))
    sentences = " / ".join(said(run))
    assert "agenda.evaluate_ahead = 0), so there is no FWT" in sentences
    assert "agenda.curve_epochs and agenda.curve_batches are 0), so there is no curve area" in sentences


def test_a_lost_test_is_the_reason_for_a_score_that_is_undefined(runs: dict[str, Run], tmp_path: Path):
    folder = copied(runs["finetune"], tmp_path / "lost")
    with h5py.File(folder / "log.h5", "r+") as file:
        file["results/bwt"][-1] = float("nan")
    assert any("a test that BWT would need is missing" in sentence for sentence in said(open_run(folder)))


@pytest.mark.usefixtures("without_drawing")
def test_runs_of_one_strategy_are_told_apart_throughout(runs: dict[str, Run], tmp_path: Path):
    other = open_run(copied(runs["finetune"], tmp_path / "again"))
    text = text_of(write_report([runs["finetune"], other], tmp_path / "report.html"))
    for name in ("finetune (finetune)", "finetune (again)"):
        assert text.count(name) >= 4  # contents, two tables, its own section


@pytest.mark.usefixtures("without_drawing")
def test_several_counts_of_seeds_are_said_in_order(runs: dict[str, Run], tmp_path: Path):
    one = open_run(Experiment.of(TINY, "finetune", (0,)).run(tmp_path / "one"))
    text = text_of(write_report([runs["finetune"], one], tmp_path / "report.html"))
    assert "2 runs, 1 or 2 seeds each" in text


def test_a_page_that_cannot_be_written_leaves_nothing_behind(runs: dict[str, Run], tmp_path: Path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is a folder, where a file is to be written"):
        write_report([runs["joint"]], tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_page_of_a_few_runs_is_small(runs: dict[str, Run], tmp_path: Path):
    assert write_report(list(runs.values()), tmp_path / "report.html").stat().st_size < 1_500_000


def test_a_folder_stands_for_all_runs_below_it_each_once(runs: dict[str, Run], tmp_path: Path):
    for place in ("one", "deep/er/two"):
        copied(runs["joint"], tmp_path / place)
    found, refused = find_runs([tmp_path, tmp_path / "one", tmp_path / "one" / "log.h5"])
    assert [run.path.parent.name for run in found] == ["two", "one"]
    assert refused == []


def test_reference_runs_are_left_out_unless_they_are_named(runs: dict[str, Run], tmp_path: Path):
    for place in ("mine", "reference/joint", "deeper/reference/one"):
        copied(runs["joint"], tmp_path / place)

    def kept(*places: Path) -> tuple[set[str], int]:
        left, said = without_references(places, find_runs(places)[0])
        return {str(run.path.parent.relative_to(tmp_path)) for run in left}, len(said)

    assert kept(tmp_path) == ({"mine"}, 2)
    assert kept(tmp_path, tmp_path / "reference") == ({"mine", "reference/joint"}, 1)
    assert kept(tmp_path / "reference" / "joint") == ({"reference/joint"}, 0)
    assert kept(tmp_path / "reference") == ({"reference/joint"}, 0)
    assert kept(tmp_path / "deeper") == ({"deeper/reference/one"}, 0)  # there are no others


@pytest.mark.usefixtures("without_drawing")
def test_logs_that_cannot_be_read_are_named_and_the_others_shown(runs: dict[str, Run], tmp_path: Path):
    whole, cut, odd, poor = (copied(runs["joint"], tmp_path / name) for name in ("whole", "cut", "odd", "poor"))
    (cut / "log.h5").write_bytes((cut / "log.h5").read_bytes()[:2000])
    with h5py.File(odd / "log.h5", "r+") as file:
        file.attrs["format_version"] = "9.0"
    with h5py.File(poor / "log.h5", "r+") as file:
        del file["curves"]
    found, refused = find_runs([tmp_path])
    assert [run.path.parent for run in found] == [whole]
    assert len(refused) == 3
    text = text_of(write_report(found, tmp_path / "report.html", refused))
    for folder in (cut, odd, poor):
        assert f"Not in this page: {folder / 'log.h5'}" in text
    with pytest.raises(UsageError, match=r"none of 2 logs can be read; .*cut"):
        find_runs([cut, odd])
    with pytest.raises(UsageError, match=r"there is no log at .*empty"):
        (tmp_path / "empty").mkdir()
        find_runs([tmp_path / "empty"])


@pytest.mark.usefixtures("without_drawing")
def test_several_scenarios_have_a_section_each_and_an_overview(runs: dict[str, Run], tmp_path: Path):
    folder = copied(runs["joint"], tmp_path / "elsewhere")
    with h5py.File(folder / "log.h5", "r+") as file:
        file.attrs["scenario"] = "another"
    every = [*runs.values(), open_run(folder)]
    page = write_report(every, tmp_path / "report.html").read_text()
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', page.split('id="comparison"')[0])
    shown = {name: re.findall(r"<td[^>]*>(.*?)</td>", cells) for name, cells in rows}
    acc = summarised(runs["joint"]).acc.mean
    assert shown["finetune"][0] == "no run"
    assert [cell.split(" ")[0] for cell in shown["joint"]] == [f"{acc:.3f}"] * 2
    assert all(f'id="scenario-{number}-pictures"' in page for number in (1, 2))


@pytest.mark.usefixtures("without_drawing")
def test_runs_that_differ_in_an_option_are_called_by_it(tmp_path: Path):
    runs = [
        open_run(Experiment.of(TINY, "finetune", (0,), **{"train.lr": lr}).run(tmp_path / str(lr))) for lr in (0.1, 0.2)
    ]
    page = write_report(runs, tmp_path / "report.html").read_text()
    assert {"finetune (lr=0.1)", "finetune (lr=0.2)"} <= set(re.findall(r'<th scope="row">(.*?)</th>', page))
    assert re.findall(r'<th scope="col">([a-z]+\.[a-z_.]+)</th>', page) == ["train.lr"]


@pytest.mark.usefixtures("without_drawing")
def test_options_are_shown_under_the_names_by_which_they_are_set(runs: dict[str, Run], tmp_path: Path):
    page = write_report([runs["joint"]], tmp_path / "report.html").read_text()
    for key, value in (
        ("train.lr", "0.01"),
        ("stream.n", "3"),
        ("net.hidden", "[12, 12, 12]"),
        ("versions.torch", r"\d.*"),
    ):
        assert re.search(
            rf"<dt>{re.escape(key)}</dt><dd>{value if key == 'versions.torch' else re.escape(value)}</dd>", page
        )


def test_of_many_runs_some_have_pictures_of_their_own_and_the_page_says_so(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "PICTURED", 2)
    text = write_report(list(runs.values()), tmp_path / "report.html").read_text()
    assert "1 run of 3 have no pictures of their own" in text.replace("\n", " ")
    assert text.count('aria-label="matrix of') == 2


def test_a_page_about_many_runs_has_figures_of_single_ones_without_pictures_and_says_so(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "ON_PAPER", 1)
    found = write_report([runs["finetune"], runs["joint"]], tmp_path / "report.html")
    assert "figures of single runs are left out" in text_of(found)
    single = found.read_text().split("<article")[1]
    assert "matrix" in re.findall(r'data-name="(\w+)" class="script-only"', single)
    assert 'class="drawn" role="img" aria-label="timeline' in single  # what is no figure


def test_pages_are_the_same_bytes_however_many_processes_make_them(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    chosen = [runs["finetune"], runs["joint"]]
    texts = []
    for fewest in (1, 9):
        monkeypatch.setattr(side_by_side, "FEWEST", fewest)
        monkeypatch.setattr(
            side_by_side.threading, "active_count", lambda: 1
        )  # pytest has threads that do nothing here
        texts.append(write_report(chosen, tmp_path / f"{fewest}.html").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("without_drawing")
def test_the_report_shows_what_strategies_tell_of_their_inside(tiny: Callable[..., Experiment], tmp_path: Path):
    names = ["piggyback", "packnet", "hat", "skill_recall", "hypernet_field", "finetune"]
    runs = [open_run(tiny(name).run(tmp_path / name)) for name in names]
    drawn = {
        name: [
            draw(r)
            for draw in (
                strategy_events.layers,
                strategy_events.overlap,
                strategy_events.code_bytes,
                strategy_events.code_drift,
                strategy_events.codes_moved,
                strategy_events.field_beside_sgd,
            )
        ]
        for name, r in zip(names, runs, strict=True)
    }
    shown = {name: [figure is not None for figure in figures] for name, figures in drawn.items()}
    assert shown == {
        "piggyback": [True, True, False, False, False, False],
        "packnet": [True, False, False, False, False, False],
        "hat": [True, False, False, False, False, False],
        "skill_recall": [False, False, True, True, False, False],
        "hypernet_field": [False, False, True, False, True, True],
        "finetune": [False, False, False, False, False, False],
    }
    said = list(strategy_events.remarks_inside(runs[3]))
    assert len(said) == 1
    assert "the codes never pay" in said[0] or "codes take less than whole nets from experience" in said[0]
    assert write_report(runs, tmp_path / "report.html").read_text().count("1: two tasks use the same weights.") == 1
