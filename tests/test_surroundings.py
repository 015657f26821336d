"""Surroundings that lack something: no home, folders that cannot be written to or read, names of whatever signs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.runs.data_root import DataRoot, default_data_root
from cl_engine.sources.digits import Digits
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
    assert f"cannot be written to: Not a directory; set {variable} to a folder that can" in result.stderr
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
    monkeypatch.setattr(Digits, "classes_under", refused)
    for read in (DataRoot(tmp_path).load, DataRoot(tmp_path).classes_of):
        with pytest.raises(UsageError, match=r"source 'digits': .*digits cannot be read: Permission denied"):
            read("digits")
