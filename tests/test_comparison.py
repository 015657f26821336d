"""Runs compared: what belongs together, what is tested, and the tables and pictures of it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from cl_engine.analysis.comparison.compare import Comparison, compared
from cl_engine.analysis.comparison.plots import critical_difference, pareto
from cl_engine.analysis.comparison.tables import KINDS, written
from cl_engine.analysis.plots.style import rendered
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from tests.conftest import TINY, old_log

SHORT = {"train.epochs": 1, "agenda.curve_batches": 0, "agenda.evaluate_ahead": 0}
HOSTILE = '=cmd|"/C calc"!A1 \\input{x} <script>alert(1)</script> **b** | $\\frac \x1b[31m'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compared")
    for n in (2, 3):
        for strategy in ("finetune", "head_only", "independent"):
            Experiment.of(TINY, strategy, (0, 1, 2), **{"stream.n": n, **SHORT}).run(root / f"{strategy}-{n}")
    return root


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[Run]:
    return [open_run(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def comparison(runs: list[Run]) -> Comparison:
    return compared(runs)


def synthetic(folder: Path, name: str, acc: np.ndarray, scenario: str = "made", **changes: Any) -> Run:
    """Return a run made from an archived log, with these accuracies at the end, one a seed."""
    path = old_log("1.2", folder / f"{scenario}-{name}")
    with h5py.File(path, "r+") as file:
        file.attrs.update({"strategy": name, "scenario": scenario, "run_id": f"{scenario}-{name}"})
        results, seeds = file["results"], len(acc)
        for array in ("seed", "acc", "bwt", "fwt", "forgetting"):
            results[array].resize(seeds, axis=results[array].ndim - 1)
        for array in ("accuracy", "n_correct", "n_total"):
            results[array].resize(seeds, axis=2)
        results["seed"][:] = np.arange(seeds)
        results["acc"][:] = np.nan
        results["acc"][-1] = acc
        for key, value in changes.items():
            file.attrs[key] = value
    return open_run(path)


def test_the_table_has_the_means_of_the_runs_by_stream_and_method(comparison: Comparison, runs: list[Run]):
    assert comparison.streams == ["tiny (n=2)", "tiny (n=3)"]
    assert set(comparison.methods) == {"finetune", "head_only", "independent"}
    for row, case in zip(comparison.table.to_dict("records"), comparison.groups, strict=True):
        assert row["mean"] == pytest.approx(summarised(case.runs[0]).acc.mean)
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["n"] == 3
    for _, rows in comparison.table.groupby("stream"):
        assert rows["mean"].is_monotonic_decreasing
        assert rows["best"].tolist() == (rows["mean"].round(12) == rows["mean"].round(12).max()).tolist()
        assert rows["memory_front"].any()


def test_seeds_in_separate_runs_are_one_case(tmp_path: Path):
    parts = [Experiment.of(TINY, "finetune", (s,), **SHORT).run(tmp_path / str(s)) for s in (0, 1)]
    whole = Experiment.of(TINY, "finetune", (0, 1), **SHORT).run(tmp_path / "both")
    together = compared([open_run(path) for path in parts])
    assert together.table["n"].tolist() == [2]
    assert together.table["mean"][0] == pytest.approx(compared([open_run(whole)]).table["mean"][0])
    with h5py.File(whole / "log.h5", "r+") as file:
        file.attrs["updated"] = "2099-01-01T00:00:00Z"  # of runs that got as far, the later one is taken
    twice = compared([open_run(path) for path in (*parts, whole)])
    assert twice.table["n"].tolist() == [2]
    assert sum("has seeds that another run has" in remark for remark in twice.remarks) == 2


def test_runs_that_differ_in_an_option_are_methods_named_by_it(tmp_path: Path):
    options = ({"samples": 5}, {"samples": 10}, {"samples": 10, "train.lr": 0.1})
    made = [
        Experiment.of(TINY, "replay", (0,), **SHORT, **more).run(tmp_path / str(k)) for k, more in enumerate(options)
    ]
    found = compared([open_run(path) for path in made])
    assert set(found.methods) == {
        "replay (samples=5, lr=0.01)",
        "replay (samples=10, lr=0.01)",
        "replay (samples=10, lr=0.1)",
    }


def test_of_two_runs_of_a_seed_the_one_that_has_the_measure_is_taken(tmp_path: Path):
    for name, more in {"online": {"agenda.online": True}, "later": {}}.items():
        Experiment.of(TINY, "replay", (0,), **SHORT, **more).run(tmp_path / name)
    found = compared([open_run(tmp_path / name) for name in ("online", "later")], by="online_accuracy")
    assert found.table["n"].tolist() == [1] and np.isfinite(found.table["mean"]).all()


def test_three_seeds_cannot_be_significant_and_it_is_said(comparison: Comparison):
    assert not comparison.pairs["significant"].any()
    assert comparison.pairs["smallest"].tolist() == [0.25] * 6
    said = [remark for remark in comparison.remarks if "cannot go below p = 0.25" in remark]
    assert any("with 3 seeds" in remark and "7 seeds could show one" in remark for remark in said)
    assert any("too narrow" in remark for remark in comparison.remarks)


def test_ten_seeds_that_all_differ_are_significant(tmp_path: Path):
    draw = np.random.default_rng(0)
    better, worse = 0.8 + draw.random(10) / 100, 0.6 + draw.random(10) / 100
    found = compared([synthetic(tmp_path, "good", better), synthetic(tmp_path, "poor", worse)])
    row = found.pairs.iloc[0]
    assert (row["one"], row["other"], row["n"]) == ("good", "poor", 10)
    assert row["p"] == pytest.approx(2 / 1024)
    assert row["significant"]
    assert row["low"] <= (better - worse).mean() <= row["high"]
    assert "good and poor differ: 0.2" in written(found)


def test_tests_pair_the_seeds_that_both_have(tmp_path: Path):
    found = compared([synthetic(tmp_path, "a", np.linspace(0.5, 0.8, 6)), synthetic(tmp_path, "b", np.full(4, 0.1))])
    assert found.pairs["n"].tolist() == [4]
    assert found.pairs["difference"][0] == pytest.approx(np.linspace(0.5, 0.8, 6)[:4].mean() - 0.1)


def test_many_streams_give_ranks_and_a_significant_difference(tmp_path: Path):
    made = []
    for k in range(8):
        for name, level in (("good", 0.8), ("middle", 0.7), ("poor", 0.3)):
            made.append(synthetic(tmp_path, name, np.array([level + k / 100, level + k / 90]), scenario=f"s{k}"))
    found = compared(made)
    assert found.ranking is not None
    assert found.ranking.methods == ("good", "middle", "poor")
    assert found.ranking.ranks == (1.0, 2.0, 3.0)
    assert found.ranking.groups == ()
    assert found.overall["mean"].tolist() == sorted(found.overall["mean"], reverse=True)
    text = written(found)
    assert "good ranks before poor (p = 0.0234" in text
    assert critical_difference(found) is not None


def test_where_less_is_better_the_least_is_best(runs: list[Run]):
    found = compared(runs, by="memory")
    for _, rows in found.table.groupby("stream"):
        assert rows.loc[rows["best"], "mean"].min() == rows["mean"].min()
    assert found.ranking is not None
    assert found.ranking.methods[-1] == "independent"


def test_a_run_that_is_behind_is_shown_and_takes_no_part(tmp_path: Path):
    behind = synthetic(tmp_path, "behind", np.array([0.9, 0.9]))
    shutil.copytree(behind.path.parent, tmp_path / "cut")
    with h5py.File(tmp_path / "cut" / "log.h5", "r+") as file:
        file.attrs.update({"strategy": "behind", "status": "stopped"})
        file["results/acc"][:] = np.nan
        file["results/acc"][1] = 0.9
    found = compared([open_run(tmp_path / "cut"), synthetic(tmp_path, "whole", np.array([0.5, 0.5]))])
    assert found.table["status"].tolist() == ["stopped", "finished"]
    assert found.table["best"].tolist() == [False, True]
    assert found.pairs.empty
    assert any("tested after 1 experiences, others after 3" in remark for remark in found.remarks)
    assert any("a run is stopped" in remark for remark in found.remarks)


def test_a_score_that_is_undefined_is_said_to_be(runs: list[Run]):
    found = compared(runs, by="fwt")
    assert found.table["mean"].isna().all()
    assert any(remark.startswith("FWT is undefined for:") for remark in found.remarks)
    assert pareto(found) is not None


def test_there_must_be_runs_and_a_measure(runs: list[Run]):
    with pytest.raises(UsageError, match="at least one run"):
        compared([])
    with pytest.raises(UsageError, match=r"no measure named 'ac' \(did you mean 'acc'\?\)"):
        compared(runs, by="ac")
    with pytest.raises(UsageError, match="no format named 'word'"):
        written(compared(runs), "word")


def test_json_is_complete_and_plain(comparison: Comparison):
    def refuse(text: str) -> None:
        raise AssertionError(text)

    content = json.loads(written(comparison, "json"), parse_constant=refuse)
    assert len(content["cases"]) == 6
    for case, row in zip(comparison.groups, content["cases"], strict=True):
        assert row["seeds"] == list(case.seeds)
        assert row["values"]["acc"] == case.values["acc"].tolist()
        assert row["logs"] == [str(run.path) for run in case.runs]
    assert len(content["pairs"]) == 6
    assert content["ranking"]["methods"] == list(comparison.ranking.methods)  # type: ignore[union-attr]
    assert content["remarks"] == list(comparison.remarks)


def test_csv_is_a_row_a_case(comparison: Comparison):
    rows = list(csv.DictReader(io.StringIO(written(comparison, "csv"))))
    assert [float(row["mean"]) for row in rows] == comparison.table["mean"].tolist()


@pytest.fixture
def hostile(tmp_path: Path) -> Comparison:
    both = [np.array([0.9, 0.8]), np.array([0.5, 0.4])]
    return compared([synthetic(tmp_path / str(k), HOSTILE + str(k), acc) for k, acc in enumerate(both)])


@pytest.mark.parametrize("kind", KINDS)
def test_no_format_lets_a_name_move_the_terminal(kind: str, hostile: Comparison):
    text = written(hostile, kind)
    assert "\x1b" not in text
    assert "script" in text


def test_a_name_is_no_formula_in_csv_no_command_in_latex_and_no_mark_in_markdown(hostile: Comparison):
    rows = list(csv.DictReader(io.StringIO(written(hostile, "csv"))))
    assert all(row["method"].startswith("'=cmd") for row in rows)
    latex = written(hostile, "latex")
    body = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
    assert r"\input" not in body
    assert r"\textbackslash input\{x\}" in body
    assert not re.search(r"(?<!\\)[$#]", body)
    markdown = written(hostile, "markdown")
    table = [line for line in markdown.splitlines() if line.startswith("| made")]
    assert len(table) == 2
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 9 for line in table)
    assert "<script" not in markdown.replace(r"\<", "")


def test_latex_has_booktabs_rules_and_bold_for_the_best(comparison: Comparison, tmp_path: Path):
    latex = written(comparison, "latex")
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 2
    assert latex.count(r"\textbf") == 2 * int(comparison.table["best"].sum())
    assert latex.count("{") == latex.count("}")
    program = shutil.which("pdflatex")
    if program is not None:
        document = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + latex + r"\end{document}"
        (tmp_path / "t.tex").write_text(document)
        subprocess.run([program, "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_pictures_are_drawn(comparison: Comparison, kind: str):
    for fig in (critical_difference(comparison), pareto(comparison), pareto(comparison, "seconds")):
        assert fig is not None
        assert len(rendered(fig, kind)) > 5_000


def test_one_stream_has_no_ranks_and_no_diagram(runs: list[Run]):
    found = compared([run for run in runs if run.results.sizes["task"] == 2])
    assert found.ranking is None
    assert critical_difference(found) is None
    assert found.overall.empty


def test_many_streams_are_one_panel_of_means(tmp_path: Path):
    made = [
        synthetic(tmp_path, name, np.array([level, level]), scenario=f"s{k}")
        for k in range(10)
        for name, level in (("good", 0.8), ("poor", 0.3))
    ]
    fig = pareto(compared(made))
    assert fig is not None
    assert len(fig.axes) == 1
    assert fig.axes[0].get_title(loc="left") == "mean of 10 streams"


def test_a_method_that_is_behind_is_in_no_mean_of_many_streams(tmp_path: Path):
    made = [
        synthetic(tmp_path, name, np.array([level, level]), scenario=f"s{k}")
        for k in range(10)
        for name, level in (("good", 0.8), ("poor", 0.3))
    ]
    with h5py.File(made[0].path, "r+") as file:
        file["results/acc"][-1] = np.nan  # tested last after an experience less
    fig = pareto(compared([open_run(made[0].path), *made[1:]]))
    assert fig is not None
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["poor"]


def test_pairs_that_are_undefined_do_not_count_in_what_can_be_significant(tmp_path: Path):
    better = np.linspace(0.5, 0.6, 6)
    scores = {"a": better, "b": better - np.linspace(0.1, 0.2, 6), "c": np.full(6, np.nan)}
    found = compared([synthetic(tmp_path, name, acc) for name, acc in scores.items()])
    assert found.pairs["significant"].sum() == 1
    assert not [remark for remark in found.remarks if "cannot go below" in remark]


def test_the_command_writes_a_table_and_pictures(folder: Path, tmp_path: Path):
    out, pictures = tmp_path / "a" / "table.tex", tmp_path / "figures"
    asked = ["compare", str(folder), "--format", "latex", "-o", str(out), "--pictures", str(pictures)]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    assert out.read_text().startswith("% ACC")
    assert len(list(pictures.iterdir())) == 9


@pytest.mark.parametrize(
    ("by", "needed"),
    [
        ("transfer", "the run `independent` beside them"),
        ("min_acc", "agenda.curve_tasks"),
    ],
)
def test_the_command_does_not_compare_by_a_score_that_nobody_measured(by: str, needed: str, folder: Path):
    done = CliRunner().invoke(main, ["compare", f"{folder}/finetune-*", f"{folder}/head_only-*", "--by", by])
    assert done.exit_code == 2
    assert f"--by {by}: none of these runs has measured" in done.stderr
    assert f"measured in runs with {needed}" in done.stderr
    assert "Traceback" not in done.output


def test_the_command_names_what_it_cannot_read_and_goes_on(folder: Path, tmp_path: Path):
    (tmp_path / "log.h5").write_bytes(b"nothing")
    done = CliRunner().invoke(main, ["compare", f"{folder}/finetune-*", str(tmp_path), "--by", "forgetting"])
    assert done.exit_code == 0
    assert "left out:" in done.stderr
    assert "forgetting" in done.stdout
    assert CliRunner().invoke(main, ["compare", str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(main, ["compare", str(tmp_path / "none")]).exit_code == 2
