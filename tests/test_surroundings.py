"""Surroundings that lack something: no home, folders that cannot be written to or read, names of whatever signs."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cl_engine.checkpoints import file as checkpoint_file
from cl_engine.cli import main
from cl_engine.core.text import encodable
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results import log_file
from cl_engine.results.run import open_run
from cl_engine.runs.data_root import DataRoot, default_data_root
from cl_engine.sources.digits import Digits
from cl_engine.streams.permuted import Permuted
from cl_engine.training import pretraining
from tests.conftest import TINY


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that the system does not know, and no $HOME: as in a container that is run with a number for a user."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    for name in ("CL_DATA_ROOT", "CL_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_runs_what_needs_no_files(tmp_path: Path):
    assert call("run", TINY, "-s", "finetune", "--set", "stream.n=1", "--quiet", "--out", tmp_path).exit_code == 0
    assert default_data_root() == Path("/.cache/cl-engine/data")


HOW = {
    "CL_CACHE": "set CL_CACHE to a folder that can",
    "CL_DATA_ROOT": "name a folder that can by --data-root, or set CL_DATA_ROOT to it",
}


@pytest.mark.parametrize(
    ("variable", "setting"), [("CL_CACHE", "backbone.source=digits"), ("CL_DATA_ROOT", "stream.source=mnist1d")]
)
def test_a_cache_that_cannot_be_written_to_is_refused_with_the_variable_that_names_another(
    variable: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file" / "cache"))
    out = tmp_path / "run"
    result = call("run", TINY, "-s", "finetune", "--set", setting, "--quiet", "--out", out)
    assert result.exit_code == 2
    assert f"cannot be written to: Not a directory; {HOW[variable]}" in result.stderr
    assert not out.exists()


def test_a_backbone_that_is_there_is_used_from_a_cache_that_can_only_be_read_and_one_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CL_CACHE", str(tmp_path / "cache"))
    run = ("run", TINY, "-s", "finetune", "--set", "backbone.source=digits", "--set", "stream.n=1", "--quiet", "--out")
    assert call(*run, tmp_path / "one").exit_code == 0

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(pretraining, "FileLock", refused)
    assert call(*run, tmp_path / "two").exit_code == 0
    (kept,) = (tmp_path / "cache" / "backbones").glob("*.safetensors")
    kept.write_bytes(b"no backbone")
    result = call(*run, tmp_path / "three")
    assert result.exit_code == 2
    assert f"the backbone {kept} cannot be read" in result.stderr
    kept.unlink()
    assert "Permission denied; set CL_CACHE to a folder that can" in call(*run, tmp_path / "three").stderr


def test_data_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(source: Digits, root: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(root / "digits"))

    monkeypatch.setattr(Digits, "load", refused)
    with pytest.raises(UsageError, match=r"source 'digits': .*digits cannot be read: Permission denied"):
        DataRoot(tmp_path).load("digits")


def test_a_log_or_checkpoint_that_may_not_be_read_is_not_called_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = ("run", TINY, "-s", "finetune", "--set", "stream.n=1", "--quiet", "--out", tmp_path / "run")
    assert call(*run).exit_code == 0
    longer = ("extend", tmp_path / "run", "--set", "stream.n=2", "-o", tmp_path / "longer")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(checkpoint_file, "safe_open", refused)
    found = [call(*longer)]
    monkeypatch.setattr(log_file.h5py, "File", refused)
    found += [call(*run), call("show", tmp_path / "run")]
    for result, file in zip(found, ("checkpoint.safetensors", "log.h5", "log.h5"), strict=True):
        assert result.exit_code == 2
        assert result.stderr.endswith(
            f"Error: {tmp_path / 'run' / file} may not be read by this user: Permission denied\n"
        )


def test_a_folder_that_may_not_be_written_to_is_refused_where_a_run_is_to_be_removed_or_a_net_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = ("run", TINY, "-s", "finetune", "--set", "stream.n=1", "--quiet", "--out", tmp_path / "run")
    assert call(*run).exit_code == 0

    def refused(path: Path, *_: object, **__: object) -> None:
        if tmp_path in path.parents and path.name != ".lock":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    monkeypatch.setattr(Path, "touch", refused)
    result = call(*run, "--fresh")
    assert result.exit_code == 2
    assert f"{tmp_path / 'run' / 'log.h5'} cannot be removed: Permission denied" in result.stderr
    for ending in ("pt2", "safetensors", "onnx"):
        result = call("save", tmp_path / "run", "--task", 0, "-o", tmp_path / f"net.{ending}")
        assert result.exit_code == 2
        assert f"net.{ending} cannot be written: Permission denied" in result.stderr


NAMES = {
    "no UTF-8": "a\udcff",
    "a line": "a\nb",
    "turned": "a\u202eb",
    "escape": "a\x1b[31mb",
    "long": "x" * 300,
    "emoji": "\U0001f600",
    "deep": "/".join(["y" * 200] * 30),
}
RUN = ("run", TINY, "-s", "finetune", "--quiet", "--set")
PLACES: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "scenario": lambda name: ("run", name, "-s", "finetune"),
    "strategy": lambda name: ("run", TINY, "-s", name),
    "module": lambda name: ("run", TINY, "-s", f"{name}:L2"),
    "seeds": lambda name: ("run", TINY, "-s", "finetune", "--seeds", name),
    "key": lambda name: (*RUN, f"{name}=1"),
    "value": lambda name: (*RUN, f"train.optimizer={name}"),
    "net": lambda name: (*RUN, f"net.name={name}"),
    "folder of images": lambda name: (*RUN, f"stream.source=folder/{name}"),
    "file": lambda name: (*RUN, f"backbone.file={name}"),
    "data root": lambda name: (*RUN, "stream.source=mnist", "--data-root", name),
    "device": lambda name: ("run", TINY, "-s", "finetune", "--device", name),
    "show": lambda name: ("show", name),
    "watch": lambda name: ("watch", "--once", name),
    "report": lambda name: ("report", name, "-o", "r.html"),
    "compare": lambda name: ("compare", name),
    "export": lambda name: ("export", name, "--to", "csv", "-o", "exported"),
    "format": lambda name: ("fetch", name),
    "status": lambda name: ("status", name),
    "sweep": lambda name: ("sweep", name, "-s", "finetune"),
    "address": lambda name: ("sweep", TINY, "-s", "finetune", "--on", "ray", "--address", name),
    "command": lambda name: (name,),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", PLACES)
def test_a_name_of_whatever_signs_is_refused_in_a_line_that_can_be_printed_and_leaves_nothing(
    place: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = call(*PLACES[place](NAMES[name]))
    assert result.exit_code == 2, result.output
    assert all(line.isprintable() for line in result.output.splitlines())
    assert "Error: " in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_folders_and_tasks_of_whatever_signs_are_written_read_and_exported_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., Experiment]
):
    odd = NAMES[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Permuted, "name_of", lambda stream, task: f"{odd}\0{task}")
    experiment = tiny("finetune", (0,), **{"stream.n": 1})
    run = open_run(experiment.run("run", command=odd))
    assert run.environment["command"] == encodable(odd)
    assert run.results["task_name"].values[0] == encodable(f"{odd}\0{0}")
    if name in ("no UTF-8", "long", "deep"):
        with pytest.raises(UsageError, match=r"cannot be written to: (the name|File name too long)"):
            experiment.run(odd)
    else:
        (tmp_path / odd).mkdir()
        shutil.copytree("run", tmp_path / odd / odd)
        for arguments in (
            ("show", f"{odd}/{odd}"),
            ("compare", odd, "-o", f"{odd}.csv", "--format", "csv"),
            ("export", odd, "--to", "csv", "-o", f"{odd}.out"),
        ):
            result = call(*arguments)
            assert result.exit_code == 0, result.output


def test_a_name_with_a_zero_in_it_is_refused_from_python(tiny: Callable[..., Experiment]):
    with pytest.raises(UsageError, match="cannot be written to: embedded null byte"):
        tiny("finetune").run("a\0b")
