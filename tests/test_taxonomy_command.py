"""The command `taxonomy`: tables, files, a page and the scenario of a policy; and what compare says of forward transfer."""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cl_engine.analysis.comparison import affinity, comparisons
from cl_engine.analysis.plots import taxonomy as pictures
from cl_engine.analysis.plots.gallery import of_run
from cl_engine.analysis.taxonomy.affinities import affinities_of
from cl_engine.analysis.taxonomy.policies import planned
from cl_engine.analysis.taxonomy.scenario import scenario_of
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results import transfers
from cl_engine.results.run import Run, open_run
from tests.browser import Browser
from tests.conftest import TINY
from tests.made_transfers import made

VIEWS = ["digit", "parity", "loops", "ink", "slant", "flip"]
HOSTILE = ("<script>alert(1)</script>", "$\\frac{", "=1+1", "a" * 300, "\x1b[2J", "b & c")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over six views; what it probed is made in memory."""
    folder = tmp_path_factory.mktemp("taxonomy")
    text = (
        f"[stream]\nname = 'views'\nsource = 'digits'\nviews = {VIEWS}\nvalidation = 0.2\nlabelled = 100\ntest_rows = 20\n"
        "[net]\nname = 'mlp'\nhidden = [4]\n[train]\nepochs = 1\nbatch = 80\n"
    )
    (folder / "six.toml").write_text(text)
    return Experiment.of(folder / "six.toml", "independent").run(folder / "run", device="cpu")


@pytest.fixture(autouse=True)
def probed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Let the readers of transfers return what is made here."""
    found = made(VIEWS, seeds=(0, 1, 2), free=(5,))
    distance = np.abs(np.subtract.outer(np.arange(6), np.arange(6))).astype(float)
    compared = {"rsa": np.broadcast_to(-distance, (3, 6, 6)), "labels": np.broadcast_to(distance, (3, 6, 6))}
    monkeypatch.setattr(transfers, "transfers_of", lambda run: found, raising=False)
    monkeypatch.setattr(transfers, "compared_of", lambda run: compared, raising=False)
    yield found


def told(log: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["taxonomy", str(log), *arguments])


def test_the_command_says_who_is_trained_who_reads_whom_and_what_labels_buy(log: Path):
    found = told(log, "--budget", "2", "--objective", "quality")
    assert found.exit_code == 0, found.output
    policy = planned(affinities_of(made(VIEWS, seeds=(0, 1, 2), free=(5,))), "quality").at(2)
    for way in policy.ways:
        reads = "its own net" if way.kind == "full" else " \\+ ".join(VIEWS[source] for source in way.sources)
        assert re.search(rf"^{VIEWS[way.target]} +{reads} ", found.output, re.MULTILINE)
    assert f"policy for 2 tasks with labels, by quality: {policy.share:.0%} of all labels" in found.output
    assert "families:" in found.output
    assert re.search(r"^ *2 \* +\d+% ", found.output, re.MULTILINE)


def test_files_and_the_scenario_of_the_policy_are_written(log: Path, tmp_path: Path):
    outputs = [tmp_path / name for name in ("page.html", "ways.csv", "all.json", "table.tex")]
    found = told(log, "--budget", "2", *(part for path in outputs for part in ("-o", str(path))))
    assert found.exit_code == 0, found.output
    assert found.output.splitlines()[-1] == f"toml: {tmp_path / 'page.toml'}"
    rows = list(csv.DictReader(io.StringIO(outputs[1].read_text())))
    assert len(rows) == 6 * (4 + 6 + 15)
    assert sum(row["in_policy"] == "True" for row in rows) == 6
    tree = json.loads(outputs[2].read_text())
    assert tree["policies"][tree["budget"]]["budget"] == 2
    assert len(tree["at_random"][0]["share"]) == 200
    assert outputs[3].read_text().count("\\toprule") == 3
    scenario = tomllib.loads((tmp_path / "page.toml").read_text())
    routes = scenario["strategy"]["policy"]["routes"]
    labelled = dict(zip(VIEWS, scenario["stream"]["labelled"], strict=True))
    assert {name for name, labels in labelled.items() if labels == 50} == set(routes)
    order = [VIEWS[kind] for kind in scenario["stream"]["task_order"]]
    assert set(order[len(order) - len(routes) :]) == set(routes)
    assert {source for sources in routes.values() for source in sources} <= set(order) - set(routes)
    assert Experiment.of(tmp_path / "page.toml", "independent").stream("cpu").n_tasks == 6


def test_affinity_is_held_against_what_the_log_compared_and_files(log: Path, tmp_path: Path):
    mine = tmp_path / "mine.csv"
    rows = [["", *VIEWS], *([name, *range(6 * k, 6 * k + 6)] for k, name in enumerate(VIEWS))]
    mine.write_text("\n".join(",".join(map(str, row)) for row in rows))
    found = told(log, "--budget", "2", "--against", f"rsa,labels,{mine}")
    assert found.exit_code == 0, found.output
    rows = re.findall(r"^(\w+) +symmetric +all seeds +([+-][.\d]+) +([.\de-]+)", found.output, re.MULTILINE)
    assert [name for name, *_ in rows] == ["rsa", "labels", "mine"]
    assert float(rows[0][1]) > 0.6
    assert float(rows[0][2]) < 0.05
    assert float(rows[1][1]) < 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "-1"], "budget: found -1; the cheapest policy that reaches every task trains 0 with labels"),
        (["--budget", "6"], "budget: found 6; 5 tasks cost labels, so that more changes nothing"),
        (["--budget", "2", "--objective", "speed"], "no objective named 'speed'"),
        (["--budget", "2", "--order", "3"], "order: found 3; transfers that read 1 to 2 nets were probed"),
        (["--budget", "2", "--free", "jigsaw"], "no task named 'jigsaw'"),
        (["--budget", "2", "--against", "cka"], "no matrix named 'cka'; there are: FILE.csv, labels, rsa"),
        (["--budget", "2", "--against", "nowhere.csv"], "the matrix nowhere.csv cannot be read"),
        (["--budget", "2", "-o", "page.pdf"], "-o page.pdf: the file must end in .html, .csv, .json or .tex"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(log: Path, arguments: list[str], said: str):
    found = told(log, *arguments)
    assert found.exit_code == 2
    assert said in found.output


def test_fewer_than_four_tasks_have_no_mantel_test(log: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfers, "transfers_of", lambda run: made(VIEWS[:3]))
    monkeypatch.setattr(transfers, "compared_of", lambda run: {"rsa": np.ones((2, 3, 3))})
    found = told(log, "--budget", "1", "--against", "rsa")
    assert found.exit_code == 2
    assert "rsa: Mantel's test needs at least 4 tasks, found 3" in found.output


def test_a_run_of_one_task_has_a_page_too(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfers, "transfers_of", lambda run: made(VIEWS[:1], seeds=(0,), order=1))
    found = told(log, "--budget", "1", "-o", str(tmp_path / "one.html"))
    assert found.exit_code == 0, found.output
    assert "one.toml" in found.output


def test_names_of_a_log_are_never_markup_nor_formulas(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfers, "transfers_of", lambda run: made(HOSTILE, seeds=(0, 1, 2)))
    page, table = tmp_path / "page.html", tmp_path / "ways.csv"
    found = told(log, "--budget", "2", "--against", "rsa", "-o", str(page), "-o", str(table))
    assert found.exit_code == 0, found.output
    assert "<script>alert" not in page.read_text()
    assert "\x1b" not in found.output + page.read_text() + table.read_text()
    assert not re.search(r"^=|,=", table.read_text(), re.MULTILINE)
    routes = tomllib.loads((tmp_path / "page.toml").read_text())["strategy"]["policy"]["routes"]
    assert set(routes) <= set(HOSTILE)


def test_a_policy_keeps_the_order_that_the_run_had_its_tasks_in(log: Path):
    found = affinities_of(made(VIEWS))
    policy, run = planned(found, draws=1).at(1), open_run(log)
    trained = policy.trained[0]
    for given, first in ((0, trained), ([3, 1, 0, 2, 5, 4], [3, 1, 0, 2, 5, 4][trained]), (2, trained)):
        run.experiment["options"]["stream"]["task_order"] = given
        assert tomllib.loads(scenario_of(policy, found, run))["stream"]["task_order"][0] == first
    run.experiment["options"]["stream"]["views"] = ["other"] * 6
    with pytest.raises(UsageError, match=r"the run's is shuffle 2"):
        scenario_of(policy, found, run)
    with pytest.raises(UsageError, match=r"two tasks of .* are called 'a'"):
        scenario_of(policy, affinities_of(made(("a", "a", "b"))), run)


def test_pictures_are_drawn_of_two_tasks_as_of_twelve():
    for names, budget in ((VIEWS[:2], 1), ([f"task number {k}" for k in range(12)], 4)):
        found = affinities_of(made(names, seeds=(0,), order=1))
        plans = planned(found, draws=3)
        for fig in (
            pictures.affinity_map(found),
            pictures.family_tree(found),
            pictures.policy_graph(plans.at(budget), found),
            pictures.labels_against_score(plans, found),
        ):
            fig.draw_without_rendering()


def test_the_page_fits_the_window_and_nothing_in_it_is_forbidden_or_fails(log: Path, tmp_path: Path):
    browser = Browser(tmp_path / "profile")
    found = told(log, "--budget", "2", "--against", "rsa,labels", "-o", str(tmp_path / "page.html"))
    assert found.exit_code == 0, found.output
    for width in (1400, 390):
        for dark in (False, True):
            browser.open(tmp_path / "page.html", width, dark=dark)
            assert browser.get("document.documentElement.scrollWidth") <= width
            assert browser.complaints() == []
            assert browser.get("document.querySelectorAll('main figure svg').length") == 6
    browser.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Runs of two strategies over five permutations, all tested before they are learned; the first stands for a taxonomy."""
    folder, asked = (
        tmp_path_factory.mktemp("runs"),
        {"stream.n": 5, "agenda.evaluate_ahead": 4, "agenda.curve_batches": 0},
    )
    return [open_run(Experiment.of(TINY, name, **asked).run(folder / name)) for name in ("independent", "finetune")]


def with_transfers(run: Run) -> Run:
    return Run(run.path, run.attributes, replace(run._held, rows={**run._held.rows, "transfers": 1}))


def test_compare_says_what_forward_transfer_has_to_do_with_affinity(runs: list[Run], monkeypatch: pytest.MonkeyPatch):
    assert not any("affinities" in remark for remark in comparisons(runs)[0].remarks)
    names = [str(name) for name in runs[0].results["task_name"].values]
    monkeypatch.setattr(transfers, "transfers_of", lambda run: made(names))
    measured = with_transfers(runs[0])
    (said,) = [remark for remark in comparisons([measured, runs[1]])[0].remarks if "affinities" in remark]
    assert re.fullmatch(
        r"finetune and the affinities of independent: forward transfer goes with them by ρ = -?[.\d]+, p = [.\d]+ "
        r"\(10 tests, Mantel\)",
        said,
    )
    monkeypatch.setattr(transfers, "transfers_of", lambda run: made(names[:4]))
    assert "cannot" not in "".join(affinity.said_of_affinity([runs[1]]))


def test_the_report_of_a_run_that_probed_transfers_has_their_map(runs: list[Run], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfers, "transfers_of", lambda run: made([f"task {k}" for k in range(5)]))
    assert pictures.affinities(runs[1]) is None
    drawn = {picture.name: picture.draw for picture in of_run(with_transfers(runs[0]))}
    assert drawn["affinities"]() is not None


def test_forward_transfer_is_the_change_since_the_untrained_learner_before_a_task_is_learned(runs: list[Run]):
    found = affinity.forward_transfer(runs[1])
    assert np.isfinite(found).sum() == 10
    assert np.isnan(found[np.tril_indices(5)]).all()
    scores, steps = runs[1].scores.mean(axis=2), runs[1].results["evaluation_step"].values
    before = np.nanmax(scores[steps < 0, 4])
    assert found[2, 4] == pytest.approx(scores[steps == 2, 4][0] - before)
    np.testing.assert_allclose(affinity.so_far(np.arange(9.0).reshape(3, 3))[1, 2], (2 + 5) / 2)


def test_where_hardly_any_task_was_tested_ahead_there_is_no_forward_transfer(tmp_path: Path):
    run = open_run(Experiment.of(TINY, "finetune", **{"agenda.evaluate_ahead": 0}).run(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"agenda\.evaluate_ahead"):
        affinity.forward_transfer(run)
