"""Choosing without cheating: by which rows sweeps and comparisons choose, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cl_engine.analysis.comparison.choice import best_settings
from cl_engine.analysis.comparison.compare import comparisons
from cl_engine.analysis.discovery import find_runs
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results import open_run
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.folder import Entry, SweepFolder
from cl_engine.sweep.halving import goals
from cl_engine.sweep.log_summary import LogSummary, rows_of
from cl_engine.sweep.status import Status
from cl_engine.sweep.sweep import Sweep
from tests.conftest import TINY


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def sweep(**changes: Any) -> SweepOptions:
    return SweepOptions(**{"scenarios": [str(TINY)], "strategies": ["finetune", "replay"], **changes})


def look(test: float, validation: float | None = None, learned: int = 3) -> LogSummary:
    aside = () if validation is None else ((learned, validation),)
    return LogSummary("finished", learned, 1.0, ((learned, test),), validated=aside)


def test_choices_go_by_validation_rows_where_all_have_them_and_by_test_rows_where_one_has_none():
    assert rows_of([look(0.5, 0.6), look(0.7, 0.4)], sweep()) == "validation"
    assert rows_of([look(0.5, 0.6), look(0.7)], sweep()) == "test"
    assert rows_of([look(0.5, 0.6)], sweep(objective_on="test")) == "test"
    assert rows_of([look(0.5)], sweep(objective_on="validation")) == "validation"
    assert rows_of([look(0.5, 0.6)], sweep(objective="memory")) is None
    assert rows_of([], sweep()) == "test"


def tally_of(options: SweepOptions, **looks: LogSummary) -> Status:
    tally = Status(options)
    for name, found in looks.items():
        tally.enter(Entry(name, name, "tiny", name, [0], {"train.lr": 0.1}), name, found)
    return tally


def test_the_best_run_is_named_with_the_rows_that_it_was_chosen_by():
    looks = {"one": look(0.5, 0.6), "other": look(0.7, 0.4)}
    tally = tally_of(sweep(), **looks)
    assert tally.shown_best() == "best acc 0.600 (chosen on validation rows; 0.500 on test rows): tiny, one"
    assert "chosen on validation rows: test rows took no part" in tally.warning
    tally = tally_of(sweep(objective_on="test"), **looks)
    assert tally.shown_best() == "best acc 0.700 (chosen on test rows): tiny, other"
    assert tally.warning.endswith("run what was chosen on other seeds")
    tally = tally_of(sweep(), one=look(0.5), other=look(0.7))
    assert tally.shown_best() == "best acc 0.700 (chosen on test rows): tiny, other"
    assert tally.warning.startswith(
        "These runs are ordered by ACC, chosen on test rows: that of the best one is no result"
    )
    assert "every run needs some (stream.validation sets them aside)" in tally.warning
    tally = tally_of(sweep(objective="memory"), **looks)
    assert "rows" not in tally.shown_best() + tally.warning
    tally = tally_of(sweep(objective_on="validation"), one=look(0.5))
    assert tally.shown_best() == "no run has measured acc on validation rows, so none is the best"


def test_halving_keeps_the_best_on_validation_rows_and_says_so():
    looks = {"a": look(0.5, 0.6, 2), "b": look(0.7, 0.4, 2)}
    looks = {name: LogSummary(**{**vars(found), "status": "stopped"}) for name, found in looks.items()}
    halving = {"tasks": 2, "factor": 2}
    found = goals(["a", "b"], looks, set(), sweep(halving=halving))
    assert (found["b"].dropped_at, found["b"].rows, found["a"].dropped_at) == (2, "validation", None)
    assert goals(["a", "b"], looks, set(), sweep(halving=halving, objective_on="test"))["a"].dropped_at == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"objective_on": "validation"}, r"stream.validation is 0 in tiny-finetune: set rows aside"),
        ({"objective_on": "validation", "objective": "fwt"}, "fwt is measured on test rows alone"),
        ({"objective_on": "test", "objective": "memory"}, "memory is measured on no rows"),
        (
            {"objective_on": "validation", "set": {"stream.validation": 0.5, "agenda.validation": False}},
            "agenda.validation is false",
        ),
        ({"search": "optuna", "set": {"stream.validation": [0, 0.5]}}, "fix it, or choose on test rows"),
    ],
)
def test_a_choice_by_rows_that_are_not_there_is_refused_before_anything_runs(
    changes: dict[str, Any], sentence: str, tmp_path: Path
):
    with pytest.raises(UsageError, match=sentence):
        Sweep(sweep(**changes), tmp_path / "sweep", device="cpu", quiet=True)


def test_a_sweep_chooses_on_validation_rows_and_says_so_in_table_report_and_folder(tmp_path: Path):
    typed = ("sweep", TINY, "-s", "finetune", "--set", "lr=1e-5,1e-2", "--set", "stream.validation=0.5", "--jobs", "1")
    result = call(*typed, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "(chosen on validation rows; " in result.stdout
    assert "acc, validation" in result.stdout
    assert "acc, test" in result.stdout
    assert SweepFolder(tmp_path / "out").plan["chosen_on"] == "chosen on validation rows"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "ordered by ACC, chosen on validation rows" in page
    again = call(*typed, "--out", tmp_path / "out", "--objective-on", "test", "--no-report")
    assert " (chosen on test rows): " in again.stdout
    assert SweepFolder(tmp_path / "out").plan["chosen_on"] == "chosen on test rows"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two settings of a strategy, one of them spread over two runs, and one of another strategy."""
    folder = tmp_path_factory.mktemp("settings")
    for name, strategy, seeds, lr in (
        ("slow-0", "finetune", (0,), 1e-5),
        ("slow-1", "finetune", (1,), 1e-5),
        ("fast", "finetune", (0, 1), 1e-2),
        ("replay", "replay", (0, 1), 1e-2),
    ):
        how = {"stream.validation": 0.5, "stream.n": 2, "train.lr": lr, "agenda.evaluate_ahead": 0}
        Experiment.of(TINY, strategy, seeds, **how).run(folder / name, device="cpu")
    return folder


def test_the_best_setting_of_each_strategy_is_picked_on_validation_rows_and_told(settings: Path):
    (found,) = comparisons(find_runs([settings])[0], best_by="validation")
    assert sorted(found.methods) == ["finetune", "replay"]
    fast = open_run(settings / "fast")
    validated = fast.validated("acc")
    assert validated is not None
    told = f"finetune (lr=0.01) is the best of 2 settings by ACC on validation rows ({validated.mean():.3f})"
    assert any(told in remark for remark in found.remarks)
    assert not any("replay" in remark and "best of" in remark for remark in found.remarks)
    compared = next(group for group in found.groups if group.strategy == "finetune")
    assert fast.final is not None
    assert compared.values["acc"] == pytest.approx(fast.final["acc"].values)  # on test rows
    said = call("compare", settings, "--best-by", "validation").stdout
    assert "is the best of 2 settings" in " ".join(said.split())


def test_a_pick_goes_by_validation_rows_even_where_test_rows_say_otherwise(
    settings: Path, monkeypatch: pytest.MonkeyPatch
):
    real = Run.validated

    def turned(run: Run, score: str = "acc") -> Any:
        found = real(run, score)
        return None if found is None else 1 - found

    monkeypatch.setattr(Run, "validated", turned)
    _, said = best_settings(of_seeds(find_runs([settings])[0]))
    assert any("finetune (lr=1e-05) is the best of 2 settings" in sentence for sentence in said)
    _, said = best_settings(of_seeds(find_runs([settings])[0]), rows="test")
    assert any("finetune (lr=0.01) is the best of 2 settings by ACC on test rows" in sentence for sentence in said)
    assert said[-1].startswith("settings were chosen on test rows")


def test_a_pick_without_scores_on_validation_rows_is_refused(tmp_path: Path):
    for lr in (1e-5, 1e-2):
        Experiment.of(TINY, "finetune", **{"stream.n": 1, "train.lr": lr}).run(tmp_path / str(lr), device="cpu")
    result = call("compare", tmp_path, "--best-by", "validation")
    assert result.exit_code == 2
    assert "has no acc on validation rows (stream.validation sets some aside" in result.stderr
    assert call("compare", tmp_path, "--best-by", "test").exit_code == 0
