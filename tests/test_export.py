"""Every format is read back by the tool it is for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.export import needed, scalars
from cl_engine.export.registry import exported, formats
from cl_engine.results.run import Run, open_run
from tests.conftest import TINY, old_log

HOSTILE = '=cmd|"/C calc"!A1 \x1b[31m\t../../x'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    midway = {"agenda.curve_tasks": 2, "agenda.curve_batches": 2}
    return open_run(Experiment.of(TINY, "replay", (0, 7), **midway).run(tmp_path_factory.mktemp("run")))


def written(run: Run, kind: str, folder: Path) -> Path:
    (made,) = exported([run], kind, folder)
    return made


def test_every_file_is_a_format_with_a_line_about_it():
    assert set(formats()) == {"csv", "parquet", "netcdf", "tensorboard", "wandb-offline", "l2logger"}
    assert all(len(line) > 20 for line in formats().values())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_come_back_with_every_number(kind: str, run: Run, tmp_path: Path):
    folder = written(run, kind, tmp_path)
    read = pd.read_csv if kind == "csv" else pd.read_parquet
    tables = {path.stem: read(path) for path in folder.glob(f"*.{kind}")}
    assert set(tables) == {"accuracy", "scores", "memory", "time", *run.tables}
    for name in run.tables:
        own, found = run.table(name), tables[name]
        if "part" in found:  # empty texts are nothing in CSV
            found = found.assign(part=found["part"].astype(object).where(found["part"].notna(), ""))
        pd.testing.assert_frame_equal(found, own, check_dtype=False, check_exact=kind == "parquet", rtol=1e-6)
    cells = tables["accuracy"]
    again = np.full(run.results["accuracy"].shape, np.nan, dtype="f4")
    seeds = run.results["seed"].values.tolist()
    again[cells["evaluation"], cells["task"], [seeds.index(seed) for seed in cells["seed"]]] = cells["accuracy"]
    np.testing.assert_allclose(again, run.results["accuracy"].values, rtol=1e-6)
    assert (cells["n_correct"] / cells["n_total"]).to_numpy() == pytest.approx(cells["accuracy"].to_numpy())
    assert tables["memory"]["bytes"].sum() == run.results["memory"].values.sum()


def test_parquet_says_what_was_run(run: Run, tmp_path: Path):
    import pyarrow.parquet as pq

    metadata = pq.read_schema(written(run, "parquet", tmp_path) / "scores.parquet").metadata
    assert json.loads(metadata[b"cl-engine-run"])["experiment"] == run.experiment


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_netcdf_comes_back_as_labelled_arrays(engine: str, run: Run, tmp_path: Path):
    path = written(run, "netcdf", tmp_path) / "run.nc"
    with xr.open_dataset(path, engine=engine, group="results") as found:
        xr.testing.assert_allclose(found[["accuracy", "memory", "acc"]], run.results[["accuracy", "memory", "acc"]])
        assert found["task_name"].values.tolist() == run.results["task_name"].values.tolist()
        assert found["memory"].attrs["units"] == "byte"
    with xr.open_dataset(path, engine=engine, group="events") as found:
        assert found["kind"].values.tolist() == run.table("events")["kind"].tolist()


def test_netcdf_says_what_was_run(run: Run, tmp_path: Path):
    with netCDF4.Dataset(written(run, "netcdf", tmp_path) / "run.nc") as file:
        assert file.strategy == "replay"
        assert json.loads(file.experiment)["experiment"] == run.experiment


def test_tensorboard_shows_scores_tasks_memory_and_losses(run: Run, tmp_path: Path):
    folder = written(run, "tensorboard", tmp_path)
    code = (
        "import sys, json; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "found = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'tensors': 0}); found.Reload()\n"
        "tags = found.Tags()\n"
        "scalars = {tag: [(e.step, e.value, e.wall_time) for e in found.Scalars(tag)] for tag in tags['scalars']}\n"
        "text = found.Tensors('run/text_summary')[0].tensor_proto.string_val[0].decode()\n"
        "print(json.dumps([scalars, text]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "seed-7")], capture_output=True, text=True, check=True
    )
    read, text = json.loads(done.stdout)
    acc = run.results["acc"].sel(seed=7).values[1:]
    assert [value for _, value, _ in read["score/acc"]] == pytest.approx(acc.tolist())
    assert [step for step, _, _ in read["score/acc"]] == [1, 2, 3]
    assert [value for _, value, _ in read["loss"]] == pytest.approx(scalars.losses(run, 7))
    assert [v for _, v, _ in read["accuracy/0 plain"]] == pytest.approx(
        run.results["accuracy"].sel(seed=7, task=0).values.tolist()
    )
    assert read["score/acc"][-1][2] > read["score/acc"][0][2] >= scalars.began(run)
    assert "samples_per_class" in text


def records(path: Path) -> list[bytes]:
    """Return the records of a ``.wandb`` file: LevelDB's log format, in blocks of 32 KiB, after a header of 7 bytes."""
    data, at, found, parts = path.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(parts)
            parts = b""
    return found


def test_wandb_reads_its_offline_runs(run: Run, tmp_path: Path):
    folder = written(run, "wandb-offline", tmp_path)
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    code = (
        "import sys, json\n"
        "from wandb.proto import wandb_internal_pb2 as pb\n"
        "rows, config = [], {}\n"
        "for line in sys.stdin:\n"
        "    record = pb.Record.FromString(bytes.fromhex(line))\n"
        "    if record.WhichOneof('record_type') == 'history':\n"
        "        rows.append({i.key or '/'.join(i.nested_key): json.loads(i.value_json) for i in record.history.item})\n"
        "    if record.WhichOneof('record_type') == 'run':\n"
        "        config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}\n"
        "print(json.dumps([rows, config]))"
    )
    seen = set()
    for file in files:
        lines = "\n".join(record.hex() for record in records(file))
        done = subprocess.run([sys.executable, "-c", code], input=lines, capture_output=True, text=True, check=True)
        rows, config = json.loads(done.stdout)
        seed = config["seed"]
        acc = [row["score/acc"] for row in rows if "score/acc" in row]
        assert acc == pytest.approx(run.results["acc"].sel(seed=seed).values[1:].tolist())
        assert config["strategy"] == run.experiment["options"]["strategy"]
        seen.add(seed)
    assert seen == {0, 7}
    listed = [sys.executable, "-m", "wandb", "sync", "--dry-run"]
    done = subprocess.run(listed, cwd=folder, capture_output=True, text=True, check=True)
    assert all(file.name in done.stdout + done.stderr for file in files)


def test_l2logger_validates_its_directories_and_reads_the_tests(run: Run, tmp_path: Path):
    folder = written(run, "l2logger", tmp_path) / "seed-7"
    code = (
        "import sys, json; from pathlib import Path; from l2logger import util\n"
        "folder = Path(sys.argv[1]); data = util.read_log_data(folder)\n"
        "util.validate_log(data, util.read_logger_info(folder)['metrics_columns'])\n"
        "blocks = util.parse_blocks(util.fill_regime_num(data))\n"
        "util.read_scenario_info(folder)\n"
        "print(json.dumps([data.to_dict('list'), blocks.to_dict('list')], default=str))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    data, blocks = json.loads(done.stdout)
    tests = [value for value, kind in zip(data["accuracy"], data["block_type"], strict=True) if kind == "test"]
    matrix = run.results["accuracy"].sel(seed=7).values
    assert tests == pytest.approx(matrix[np.isfinite(matrix)].tolist(), abs=1e-6)
    trained = list(
        dict.fromkeys(n for n, k in zip(blocks["task_name"], blocks["block_type"], strict=True) if k == "train")
    )
    assert trained == ["task0000_plain", "task0001_permutation1", "task0002_permutation2"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "netcdf", "tensorboard", "l2logger"])
def test_older_logs_and_hostile_names_are_exported_below_the_folder_given(kind: str, tmp_path: Path):
    path = old_log("1.0", tmp_path / "in")
    with h5py.File(path, "r+") as file:
        file.attrs["strategy"] = file.attrs["scenario"] = HOSTILE
        file["results/task_name"][0] = HOSTILE
    folder = written(open_run(path), kind, tmp_path / "out")
    assert folder.parent == tmp_path / "out"
    assert {each.name for each in tmp_path.iterdir()} == {"in", "out"}
    if kind == "csv":
        names = pd.read_csv(folder / "accuracy.csv")["task_name"]
        assert names[0].startswith("'=cmd")
        assert not names.str.contains("\x1b").any()


def test_heads_are_no_formulas_and_no_table_takes_the_name_of_ours(tmp_path: Path):
    path = old_log("1.0", tmp_path / "in")
    with h5py.File(path, "r+") as file:
        for name in ("scores", "Accuracy", "more"):
            group = file.create_group(name)
            group["row"], group["=1+1"] = np.arange(2), np.arange(2)
    folder = written(open_run(path), "csv", tmp_path / "out")
    assert (folder / "more.csv").read_text().startswith("'=1+1")
    assert "acc" in pd.read_csv(folder / "scores.csv")
    assert not (folder / "Accuracy.csv").exists()


def test_what_is_there_is_not_written_over_and_a_failure_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = written(run, "csv", tmp_path)
    before = (folder / "scores.csv").read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        written(run, "csv", tmp_path)
    assert (folder / "scores.csv").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        written(run, "csv", tmp_path / "file")

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(needed.importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"this needs wandb: install it with  pip install -e '.\[export\]'"):
        needed.needed("wandb")


def test_a_missing_package_leaves_no_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="this needs pyarrow"):
        written(run, "parquet", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_folder_a_run(run: Run, tmp_path: Path):
    done = CliRunner().invoke(main, ["export", str(run.path.parent), "--to", "csv", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (next(tmp_path.iterdir()) / "run.json").exists()
    wrong = CliRunner().invoke(main, ["export", str(run.path.parent), "--to", "excel", "-o", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "there are: csv, l2logger" in wrong.output
