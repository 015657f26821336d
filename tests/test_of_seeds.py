"""Seeds spread over runs are one method: runs that differ in seeds alone are looked at as one, and no others are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cl_engine.analysis.comparison.compare import comparisons
from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.scores.run_scores import recomputed, summarised
from cl_engine.cli import main
from cl_engine.experiment import Experiment
from cl_engine.results import Run, open_run
from cl_engine.results.joined_rows import NotAlike, joined_outcomes, joined_rows
from cl_engine.results.of_seeds import RunOfSeeds, of_seeds
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.folder import Entry, LogSummary
from cl_engine.sweep.status import Status
from tests.conftest import TINY

OWN: dict[str, Any] = {"net.hidden": [64, 64, 64], "train.epochs": 1, "stream.n": 2}  # whose seeds run in turn


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs: of `packnet` the seeds 1, 0 and both, and seed 0 of another stream, of `independent` both."""
    folder = tmp_path_factory.mktemp("runs")
    for name, strategy, seeds, more in (
        ("seed 1", "packnet", (1,), {}),
        ("seed 0", "packnet", (0,), {}),
        ("both", "packnet", (0, 1), {}),
        ("other stream", "packnet", (2,), {"stream.seed": 5}),
        ("reference", "independent", (0, 1), {}),
    ):
        Experiment.of(TINY, strategy, seeds, **{**OWN, **more}).run(folder / name, device="cpu")
    return folder


def opened(logs: Path, *names: str) -> list[Run]:
    return [open_run(logs / name) for name in names]


@pytest.fixture
def joined(logs: Path) -> Run:
    [found] = of_seeds(opened(logs, "seed 1", "seed 0"))
    assert isinstance(found, RunOfSeeds)
    return found


def test_runs_that_differ_in_seeds_alone_say_what_one_run_of_all_seeds_says(joined: Run, logs: Path):
    [whole] = opened(logs, "both")
    assert set(joined.results.variables) == set(whole.results.variables)
    for name, array in whole.results.variables.items():
        assert joined.results[name].dims == array.dims
        if name == "seconds":
            parts = [run.results["seconds"].values for run in opened(logs, "seed 0", "seed 1")]
            np.testing.assert_allclose(joined.results[name].values, np.nansum(parts, axis=0), equal_nan=False)
        else:
            np.testing.assert_array_equal(joined.results[name].values, array.values, err_msg=str(name))
    np.testing.assert_array_equal(joined.results["accuracy"][1, :, 1].values, whole.results["accuracy"][1, :, 1].values)
    assert joined.experiment["seeds"] == [0, 1]
    assert joined.tables.keys() == whole.tables.keys()
    for name in whole.tables:
        ours, its = joined.table(name), whole.table(name)
        assert len(ours) == len(its)
        for column in set(its) - {"seconds"}:
            np.testing.assert_array_equal(ours[column], its[column], err_msg=f"{name}/{column}")


def test_scores_are_over_all_seeds(joined: Run, logs: Path):
    [whole] = opened(logs, "both")
    assert summarised(joined).acc.half_width == summarised(whole).acc.half_width
    np.testing.assert_array_equal(recomputed(joined)["acc"], recomputed(whole)["acc"])


def test_runs_of_other_streams_and_of_seeds_that_are_there_stay_runs_of_their_own(logs: Path):
    found = of_seeds(opened(logs, "seed 0", "other stream", "both", "seed 1", "reference"))
    assert [type(run).__name__ for run in found] == ["RunOfSeeds", "Run", "Run", "Run"]
    assert found[2].path == logs / "both" / "log.h5"


def test_a_reference_is_found_though_seeds_are_spread(logs: Path):
    runs = opened(logs, "seed 1", "seed 0", "reference")
    [comparison] = comparisons(runs, "transfer")
    rows = comparison.table.set_index("strategy")
    assert rows.loc["packnet", "n"] == 2
    assert np.isfinite(rows.loc["packnet", "mean"])


def test_report_and_show_have_them_as_one_run(logs: Path, tmp_path: Path):
    page = write_report(opened(logs, "seed 1", "seed 0", "reference"), tmp_path / "report.html").read_text()
    assert "2 runs, 2 seeds each" in page
    assert all(str(logs / name / "log.h5") in page for name in ("seed 0", "seed 1"))
    done = CliRunner().invoke(main, ["show", str(logs / "seed 1"), str(logs / "seed 0")])
    assert "packnet: finished, 2 experiences, seeds 0, 1" in done.output
    done = CliRunner().invoke(
        main, ["show", str(logs / "seed 1"), str(logs / "seed 0"), "--predictions", str(tmp_path / "a.png")]
    )
    assert done.exit_code == 2
    assert "name one" in done.output


def test_the_best_of_a_sweep_is_a_setting_with_all_its_seeds():
    tally = Status(SweepOptions(scenarios=["tiny"], strategies=["finetune"], spread=True))
    assert tally.best == []
    scores = {("a", 0): 0.9, ("a", 1): 0.1, ("b", 0): 0.6, ("b", 1): 0.6}
    for (lr, seed), score in scores.items():
        entry = Entry(f"{lr}{seed}", lr, "tiny", "finetune", [seed], {"train.lr": lr})
        tally.enter(entry, "", LogSummary("finished", learned=3, scores=((3, score),)))
    assert tally.best == ["b0", "b1"]
    assert tally.done == ["b0", "b1", "a0", "a1"]
    assert tally.shown_best().endswith("tiny, finetune, train.lr = b, mean over 2 seeds")
    assert "best acc 0.600" in tally.shown_best()


def columns(**values: list[Any]) -> dict[str, np.ndarray]:
    return {name: np.array(found) for name, found in values.items()}


def test_events_that_tell_a_number_of_all_seeds_must_tell_the_same():
    event = {"event": [0, 0], "step": [0, 0], "kind": ["Told"] * 2, "name": ["own", "of all"], "part": ["", ""]}
    one = columns(**event, seed=[4, -1], value=[0.5, 2.0], seconds=[1.0, 1.0])
    other = columns(**event, seed=[3, -1], value=[0.25, 2.0], seconds=[2.0, 2.0])
    found = joined_rows("events", [one, other], [[4], [3]], [3, 4])
    assert found["seed"].tolist() == [3, 4, -1]
    assert found["value"].tolist() == [0.25, 0.5, 2.0]
    assert found["seconds"].tolist() == [3.0] * 3
    with pytest.raises(NotAlike, match=r"what the event Told tells of all seeds together \(of all\) depends"):
        joined_rows("events", [one, {**other, "value": np.array([0.25, 3.0])}], [[4], [3]], [3, 4])


def test_fits_that_end_at_other_epochs_for_other_seeds_cannot_be_rows_of_one_run():
    one = columns(step=[0], task=[0], fit=[0], epoch=[0], seed=[0], loss=[1.0])
    more = columns(step=[0, 0], task=[0, 0], fit=[0, 0], epoch=[0, 1], seed=[1, 1], loss=[1.0, 0.5])
    with pytest.raises(NotAlike, match="the table epochs"):
        joined_rows("epochs", [one, more], [[0], [1]], [0, 1])


def test_outcomes_follow_the_transfers_that_they_belong_to():
    transfers = [
        columns(step=[0, 0], task=[0, 0], kind=["full"] * 2, labels=[4, 4], seed=[seed, seed], rows=[2, 1])
        for seed in (0, 1)
    ]
    outcomes = [columns(step=[0] * 3, loss=[seed + 0.1, seed + 0.2, seed + 0.3]) for seed in (0, 1)]
    found = joined_outcomes(transfers, outcomes, [[0], [1]], [1, 0])
    assert found["loss"].tolist() == [1.1, 1.2, 0.1, 0.2, 1.3, 0.3]
