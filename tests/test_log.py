"""The log: what it holds, who can open it, and that it is published whole."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from cl_engine.errors import UsageError
from cl_engine.events import Saved
from cl_engine.experiment import Experiment
from cl_engine.metrics import matrix_scores
from cl_engine.results.run import Run, open_run
from tests.conftest import published_always

Tiny = Callable[..., Experiment]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from tests.conftest import TINY

    experiment = Experiment.of(TINY, "replay", (0, 5), **{"stream.n": 4, "stream.revisit": [1]})
    return open_run(experiment.run(tmp_path_factory.mktemp("log") / "run", command="the command"))


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_the_results_open_labelled_in_xarray_by_either_engine(run: Run, engine: str):
    with xr.open_dataset(run.path, engine=engine, group="results") as found:
        assert found.sizes == {"evaluation": 6, "task": 4, "seed": 2, "experience": 5, "part": 3, "phase": 3}
        assert found["accuracy"].dims == ("evaluation", "task", "seed")
        assert found["accuracy"].dtype == np.float32
        assert found["n_correct"].dims == found["n_total"].dims == ("evaluation", "task", "seed")
        for score in ("acc", "bwt", "fwt", "forgetting"):
            assert found[score].dims == ("evaluation", "seed")
        assert found["memory"].dims == found["memory_apart"].dims == ("experience", "part")
        assert found["evaluation_step"].values.tolist() == [-1, 0, 1, 2, 3, 4]
        assert found["experience_task"].values.tolist() == [0, 1, 2, 3, 1]
        assert found["seed"].values.tolist() == [0, 5]
        assert [str(part) for part in found["part"].values] == ["net", "heads", "memory"]
        assert [str(phase) for phase in found["phase"].values] == ["learn", "evaluate", "save"]
        assert [str(name) for name in found["task_name"].values][:2] == ["plain", "permutation 1"]
        assert float(found["accuracy"].sel(seed=5, task=1, evaluation=5)) > 0.1
        assert int(found["memory"].sel(part="memory", experience=1)) > 0
        assert (
            found["memory_apart"].values.tolist() == [[4 * (12 * 10 + 10), 0, 0]] * 5
        )  # the head that new tasks start from


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
@pytest.mark.parametrize("table", ["epochs", "experiences", "curves", "events", "environment"])
def test_every_other_group_opens_too(run: Run, table: str, engine: str):
    with xr.open_dataset(run.path, engine=engine, group=table) as found:
        assert set(found.sizes) <= {"row"}
        assert len(found.variables) > 3


def test_h5dump_reads_it(run: Run):
    program = shutil.which("h5dump")
    if program is None:
        pytest.skip("h5dump is not installed (Debian: hdf5-tools)")
    done = subprocess.run([program, "-H", run.path], capture_output=True, text=True, check=True)
    assert 'DATASET "accuracy"' in done.stdout


def test_everything_has_unit_and_meaning_and_only_plain_types(run: Run):
    with h5py.File(run.path) as file:
        assert {"format", "format_version", "status", "run_id", "strategy", "scenario", "created", "updated"} <= set(
            file.attrs
        )
        assert not any(isinstance(item, h5py.Dataset) for item in file.values())
        datasets: list[h5py.Dataset] = []
        file.visititems(lambda name, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
        assert len(datasets) > 40
        for data in datasets:
            assert data.attrs["units"]
            assert data.attrs["long_name"]
            assert h5py.check_string_dtype(data.dtype) or data.dtype in ("i4", "i8", "f4", "f8")
            assert (
                h5py.check_string_dtype(data.dtype)
                or not len(data)
                or data.chunks is None
                or data.ndim == 1
                or data.fletcher32
            )
            assert "_FillValue" not in data.attrs


def test_a_viewer_finds_the_matrix_by_the_nexus_attributes(run: Run):
    with h5py.File(run.path) as file:
        group = file[file.attrs["default"]]
        assert group.attrs["signal"] in group
        assert list(group.attrs["axes"]) == ["evaluation", "task", "seed"]


def test_accuracy_is_the_counts_and_nan_where_nothing_was_measured(run: Run):
    found = run.results
    measured = found["n_total"].values > 0
    share = found["n_correct"].values[measured] / found["n_total"].values[measured]
    np.testing.assert_allclose(found["accuracy"].values[measured], share, rtol=1e-6)
    assert np.isnan(found["accuracy"].values[~measured]).all()
    assert not measured[1, 3].any()  # after the first experience, the task two ahead


def test_the_scores_can_be_had_again_from_the_counts_alone(run: Run):
    found = run.results
    accuracy = np.where(found["n_total"] > 0, found["n_correct"] / found["n_total"].clip(min=1), np.nan)
    for score in ("acc", "bwt", "fwt", "forgetting"):
        again = getattr(matrix_scores, score)(accuracy, found["evaluation_step"].values, run.learned)
        np.testing.assert_allclose(found[score].values, again, atol=1e-12)


def test_the_tables_hold_a_row_a_seed(run: Run):
    epochs, curves = run.table("epochs"), run.table("curves")
    assert len(epochs) == 5 * 2 * 2
    assert epochs.groupby(["step", "epoch"])["seed"].apply(list).map(tuple).unique().tolist() == [(0, 5)]
    assert curves.groupby("step")["batch"].unique().map(list).tolist() == [[0, 1]] * 5
    experiences = run.table("experiences")
    assert experiences["memory"].tolist() == run.results["memory"].sum("part").values.tolist()
    assert experiences["rows"].tolist() == [60] * 5
    with pytest.raises(UsageError, match="no table 'epoch'; there are: curves, epochs, events, experiences"):
        run.table("epoch")


def test_a_strategys_own_events_are_logged_number_by_number(run: Run):
    events = run.table("events")
    assert set(events["kind"]) == {"MemoryUpdated"}
    one = events[(events["event"] == 1)]
    assert one["name"].tolist() == ["task_id", "rows", "of_this_task", "of_this_task"]
    assert one["seed"].tolist() == [-1, -1, 0, 5]
    assert events["event"].max() == 4


def test_the_log_says_what_was_run(run: Run):
    assert run.environment["command"] == "the command"
    assert run.experiment["options"]["stream"]["revisit"] == [1]
    assert run.experiment["seeds"] == [0, 5]
    assert "[stream]" in run.environment["scenario"]
    assert set(json.loads(run.environment["versions"])) >= {"torch", "cl-engine"}


def test_a_reader_finds_a_whole_file_after_every_save(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    published_always(monkeypatch)
    seen: list[tuple[str, int]] = []

    def look(event: Any) -> None:
        if isinstance(event, Saved):
            found = open_run(tmp_path)
            seen.append((found.status, found.results.sizes["experience"]))

    tiny("finetune").run(tmp_path, listeners=lambda stream: [look])
    assert seen == [("running", 1), ("running", 2), ("running", 3)]
    assert open_run(tmp_path).status == "finished"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoint.safetensors", "log.h5"]


def test_rows_not_asked_for_take_no_room(tiny: Tiny, tmp_path: Path):
    many = {"stream.n": 60, "stream.samples_per_class": 1, "train.epochs": 1, "agenda.evaluate_every": 0}
    sparse = tiny("finetune", **many).run(tmp_path / "sparse") / "log.h5"
    with h5py.File(sparse) as file:
        accuracy = file["results/accuracy"]
        assert accuracy.shape == (61, 60, 2)
        counts = (file["results/n_total"][:] > 0).sum(axis=(1, 2)) // 2
    assert counts.tolist() == [60, *[2] * 59, 60]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda file: file.attrs.update({"format": "other"}), "its format is 'other'"),
        (lambda file: file.attrs.update({"format_version": "3.0"}), "format version '3.0'; this program reads up to 2"),
        (lambda file: file.attrs.__delitem__("format"), "is not the log of a cl-engine run"),
    ],
)
def test_a_foreign_or_newer_log_is_refused_in_one_sentence(run: Run, tmp_path: Path, change: Any, sentence: str):
    shutil.copy(run.path, tmp_path / "log.h5")
    with h5py.File(tmp_path / "log.h5", "r+") as file:
        change(file)
    with pytest.raises(UsageError, match=sentence):
        open_run(tmp_path)


def test_what_is_no_log_at_all_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(UsageError, match="there is no log at"):
        open_run(tmp_path)
    (tmp_path / "log.h5").write_text("not HDF5")
    with pytest.raises(UsageError, match="cannot be read as HDF5"):
        open_run(tmp_path)
