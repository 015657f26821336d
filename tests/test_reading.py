"""Reading logs: one lazily, many at once, old ones, and ones that are being written."""

from __future__ import annotations

import gc
import shutil
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from cl_engine.analysis.comparison.compare import compared
from cl_engine.analysis.discovery import find_runs
from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.scores.run_scores import recomputed, summarised
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results import lazy_arrays, log_file
from cl_engine.results.dataset import grid
from cl_engine.results.run import open_run, open_runs
from cl_engine.runs.scenario import Scenario
from tests.conftest import TINY, old_log, published_always

SHORT = {"train.epochs": 1, "agenda.curve_batches": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of six runs: two strategies on streams of two and of three tasks, one of them in two parts."""
    root = tmp_path_factory.mktemp("many")
    for strategy in ("finetune", "head_only"):
        for n in (2, 3):
            seeds = (0, 1) if (strategy, n) == ("finetune", 3) else (0, 1, 2)
            experiment = Experiment.of(TINY, strategy, seeds, **{"stream.n": n, **SHORT})
            experiment.run(root / f"{strategy}-{n}")
    Experiment.of(TINY, "finetune", (2,), **{"stream.n": 3, **SHORT}).run(root / "finetune-3-more")
    return root


def test_the_matrix_is_read_when_it_is_asked_for_and_not_before(folder: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    real = lazy_arrays.array
    monkeypatch.setattr(
        lazy_arrays, "array", lambda group, name, index: (read.append(name), real(group, name, index))[1]
    )
    run = open_run(folder / "finetune-3")
    assert run.results.sizes == {"evaluation": 4, "experience": 3, "task": 3, "seed": 2, "part": 2, "phase": 3}
    assert run.final is not None
    assert np.isfinite(run.final["acc"].values).all()
    assert not read
    last = run.results["accuracy"].isel(evaluation=-1)
    assert not read
    assert last.values.shape == (3, 2)
    assert read == ["accuracy"]


def test_a_run_that_was_found_leaves_its_matrix_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (run,), refused = find_runs([folder / "finetune-3"])
    assert not refused
    read: list[str] = []
    real = lazy_arrays.array
    monkeypatch.setattr(
        lazy_arrays, "array", lambda group, name, index: (read.append(name), real(group, name, index))[1]
    )
    assert run.results["accuracy"].values.shape == (4, 3, 2)
    assert read == ["accuracy"]


def test_what_is_read_lazily_is_what_is_in_the_file(folder: Path):
    run = open_run(folder / "finetune-3")
    with h5py.File(run.path) as file:
        whole = file["results/accuracy"][:]
    for index in ({}, {"task": 1}, {"evaluation": slice(None, None, -2)}, {"seed": [1, 0], "task": [2]}, {"task": []}):
        own = open_run(folder / "finetune-3").results["accuracy"].isel(index)
        expected = whole
        for axis, name in reversed(list(enumerate(("evaluation", "task", "seed")))):
            if name in index:
                expected = expected[(slice(None),) * axis + (index[name],)]
        np.testing.assert_array_equal(own.values, expected)
    matrix = run.results["accuracy"]
    np.testing.assert_array_equal(matrix.values, whole)
    np.testing.assert_array_equal(matrix.isel(evaluation=2, seed=1).values, whole[2, :, 1])


def test_nothing_of_a_run_is_held_open(folder: Path):
    run = open_run(folder / "finetune-3")
    _ = run.results["accuracy"].values, run.table("epochs"), open_runs(folder)["accuracy"].values
    gc.collect()
    held = list(Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else []
    assert not [name for name in held if name.exists() and "log.h5" in str(name.resolve())]


def test_a_log_that_somebody_has_open_with_a_lock_is_read_all_the_same(folder: Path):
    with h5py.File(folder / "finetune-3" / "log.h5"):
        assert open_run(folder / "finetune-3").results["accuracy"].values.shape == (4, 3, 2)


def test_a_run_that_goes_on_is_seen_as_it_was_when_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    published_always(monkeypatch)
    experiment = Experiment.of(TINY, "finetune", (0,), **SHORT)
    seen = []

    def look(event: object) -> None:
        if type(event).__name__ == "TaskStarted" and event.step > 0:  # type: ignore[attr-defined]
            seen.append(open_run(tmp_path))

    experiment.run(tmp_path, listeners=lambda stream: [look])
    for steps, run in enumerate(seen, start=1):
        assert run.status == "running"
        assert run.results.sizes["experience"] == steps
        assert run.results["accuracy"].values.shape[0] == 1 + steps
        assert set(run.table("epochs")["step"]) == set(range(steps))
        assert set(run.table("experiences")["step"]) == set(range(steps))
    assert open_run(tmp_path).status == "finished"


def test_readers_in_another_thread_never_meet_the_writer(tmp_path: Path):
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                if (tmp_path / "log.h5").exists():
                    run = open_run(tmp_path)
                    _ = run.results["accuracy"].values, run.table("epochs")
            except BaseException as error:
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        Experiment.of(TINY, "finetune", (0,), **{"stream.n": 6, **SHORT}).run(tmp_path)
    finally:
        done.set()
        reader.join()
    assert not failures
    assert open_run(tmp_path).status == "finished"


def test_a_log_replaced_by_that_of_another_run_is_not_mixed_with_it(tmp_path: Path, folder: Path):
    shutil.copytree(folder / "finetune-3", tmp_path / "run")
    run = open_run(tmp_path / "run")
    shutil.copy(folder / "head_only-3" / "log.h5", tmp_path / "run" / "log.h5")
    with pytest.raises(UsageError, match="replaced by the log of another run"):
        _ = run.results["accuracy"].values


def test_rows_that_a_run_taken_up_again_has_not_measured_yet_are_not_measured(tmp_path: Path, folder: Path):
    shutil.copytree(folder / "finetune-3", tmp_path / "run")
    run = open_run(tmp_path / "run")
    with h5py.File(tmp_path / "run" / "log.h5", "r+") as file:
        for name in ("accuracy", "n_total"):
            file[f"results/{name}"].resize(2, axis=0)
    values = run.results["accuracy"].values
    assert values.shape == (4, 3, 2)
    assert np.isnan(values[2:]).all()
    assert (run.results["n_total"].values[2:] == 0).all()


def test_many_logs_are_one_dataset_labelled_by_what_differs(folder: Path):
    runs = open_runs(folder)
    assert runs.sizes["run"] == 5
    assert runs["seed"].values.tolist() == [0, 1, 2]
    assert sorted(runs["stream.n"].values) == [2, 2, 3, 3, 3] and runs["stream.n"].dtype.kind == "i"
    assert "train.lr" not in runs.coords
    one = open_run(folder / "finetune-3")
    at = [Path(path).parent.name for path in runs["path"].values].index("finetune-3")
    assert one.final is not None
    np.testing.assert_array_equal(runs["acc"].values[at], [*one.final["acc"].values, np.nan])
    assert runs["memory"].values[at] == one.results["memory"].values[-1].sum()


def test_matrices_of_many_logs_are_filled_up_with_not_measured(folder: Path):
    runs = open_runs(folder)
    names = [Path(path).parent.name for path in runs["path"].values]
    for name in ("finetune-2", "finetune-3-more", "head_only-3"):
        own, at = open_run(folder / name).results, names.index(name)
        padded = runs["accuracy"].isel(run=at)
        assert padded.shape == (4, 3, 3)
        e, t, seeds = own.sizes["evaluation"], own.sizes["task"], own["seed"].values.tolist()
        np.testing.assert_array_equal(padded.values[:e, :t, seeds], own["accuracy"].values)
        assert np.isnan(padded.values).sum() == 36 - np.isfinite(own["accuracy"].values).sum()
        assert runs["n_total"].isel(run=at).values.sum() == own["n_total"].values.sum()
    two = runs["accuracy"].isel(run=[0, 2], evaluation=-1, seed=1)
    np.testing.assert_array_equal(two.values, runs["accuracy"].values[[0, 2], -1, :, 1])


def test_runs_become_a_grid_with_gaps_and_parts_put_together(folder: Path):
    cube = grid(open_runs(f"{folder}/*/log.h5"))
    assert dict(cube.sizes) == {"scenario": 1, "strategy": 2, "stream.n": 2, "seed": 3}
    cell = cube["acc"].sel(scenario="tiny", strategy="finetune")
    parts = [open_run(folder / name).final for name in ("finetune-3", "finetune-3-more")]
    together = np.concatenate([part["acc"].values for part in parts if part is not None])
    np.testing.assert_array_equal(cell.sel({"stream.n": 3}).values, together)
    with pytest.raises(UsageError, match=r"no coordinate 'colour'; there are: .*strategy"):
        grid(open_runs(folder), over=("colour",))


def test_a_combination_that_was_not_run_is_nan(folder: Path):
    cube = grid(open_runs(folder / "finetune-2", folder / "head_only-2", folder / "head_only-3"))
    assert np.isnan(cube["acc"].sel(strategy="finetune", **{"stream.n": 3})).all()
    assert str(cube["status"].sel(strategy="finetune", **{"stream.n": 3}).values[0]) == ""


def test_a_log_that_cannot_be_read_is_named_or_refused(folder: Path, tmp_path: Path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "log.h5").write_bytes(b"no HDF5")
    runs = open_runs(folder / "finetune-2", tmp_path)
    assert runs.sizes["run"] == 1
    assert len(runs.attrs["left_out"]) == 1
    assert "cannot be read as HDF5" in runs.attrs["left_out"][0]
    with pytest.raises(UsageError, match="cannot be read as HDF5"):
        open_runs(folder / "finetune-2", tmp_path, strict=True)
    with pytest.raises(UsageError, match="none of 1 logs can be read"):
        open_runs(tmp_path)


def test_a_place_without_logs_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"there is no log at .*nothing\*"):
        open_runs(f"{tmp_path}/nothing*")


def test_a_log_is_found_once_however_it_is_named(folder: Path):
    found = log_file.logs_in(folder, folder / "finetune-2", [f"{folder}/fine*", folder / "finetune-2" / "log.h5"])
    assert len(found) == 5
    assert len(log_file.logs_in(f"{folder}/**/log.h5")) == 5


def test_logs_in_a_bin_or_another_hidden_folder_are_no_runs(folder: Path, tmp_path: Path):
    for place in (tmp_path / "run", tmp_path / ".Trash-1000" / "run"):
        shutil.copytree(folder / "finetune-2", place)
    assert log_file.logs_in(tmp_path) == [tmp_path / "run" / "log.h5"]
    assert log_file.logs_in(tmp_path / ".Trash-1000") == [tmp_path / ".Trash-1000" / "run" / "log.h5"]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3", "1.5"])
def test_logs_of_every_older_version_are_read_summarised_compared_and_reported(version: str, tmp_path: Path):
    path = old_log(version, tmp_path / version)
    run = open_run(path)
    assert run.attributes["format_version"] == version
    for name, values in recomputed(run).items():
        np.testing.assert_allclose(run.results[name].values, values, atol=1e-12)
    summary = summarised(run)
    assert summary.experiences == 3
    assert np.isfinite(summary.training_flops) == (version >= "1.2")
    assert compared([run]).table["n"].tolist() == [2]
    assert open_runs(path)["acc"].shape == (1, 2)
    assert write_report([run], tmp_path / "report.html").stat().st_size > 50_000


def test_a_newer_minor_version_is_read_with_what_it_adds(tmp_path: Path):
    path = old_log("1.2", tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = "1.99"
        added = file["results"].create_dataset("surprise", data=np.arange(2.0))
        added.dims[0].attach_scale(file["results/seed"])
    run = open_run(path)
    assert run.results["surprise"].dims == ("seed",)


def test_a_newer_major_version_is_refused(tmp_path: Path):
    path = old_log("1.2", tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = "3.0"
    with pytest.raises(UsageError, match=r"has format version '3\.0'; this program reads up to 2"):
        open_run(path)


def test_a_run_of_an_older_format_is_taken_up_again(tmp_path: Path):
    scenario = Scenario.load(TINY)
    experiment = Experiment.of(scenario, "finetune", (0,), **SHORT)

    class Cut(Exception):
        pass

    def cut(event: object) -> None:
        if type(event).__name__ == "TaskStarted" and event.step == 2:  # type: ignore[attr-defined]
            raise Cut

    with pytest.raises(Cut):
        experiment.run(tmp_path, listeners=lambda stream: [cut])
    with h5py.File(tmp_path / "log.h5", "r+") as file:
        del file["stability"]
        file.attrs["format_version"] = "1.2"
    experiment.run(tmp_path)
    run = open_run(tmp_path)
    assert run.status == "finished"
    assert run.tables["stability"] == 0
