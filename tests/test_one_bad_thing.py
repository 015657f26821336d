"""One bad log, folder or run among many: every command says so in a line, and goes on with the rest."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from cl_engine.analysis.live import watch as live
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_runs
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.folder import Entry, SweepFolder
from cl_engine.sweep.sweep import Sweep
from tests.conftest import TINY


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def cut(log: Path) -> None:
    os.truncate(log, log.stat().st_size // 3)


def zeros(log: Path) -> None:
    log.write_bytes(bytes(log.stat().st_size))


def empty(log: Path) -> None:
    log.write_bytes(b"")


def text(log: Path) -> None:
    log.write_bytes(b"\xff\xfe no log, \x1b[31m")


def foreign(log: Path) -> None:
    with h5py.File(log, "w") as file:
        file["results"] = np.zeros(3)


def newer(log: Path) -> None:
    with h5py.File(log, "a") as file:
        file.attrs["format_version"] = "9.0"


def lacking(log: Path) -> None:
    with h5py.File(log, "a") as file:
        del file["results/acc"]


def short(log: Path) -> None:
    with h5py.File(log, "a") as file:
        file["results/evaluation_step"].resize((0,))


def folder(log: Path) -> None:
    log.unlink()
    log.mkdir()


def dangling(log: Path) -> None:
    log.unlink()
    log.symlink_to("nowhere")


def around(log: Path) -> None:
    log.unlink()
    log.symlink_to("log.h5")


def forbidden(log: Path) -> None:
    log.parent.chmod(0)


BAD: list[Callable[[Path], None]] = [
    *(cut, zeros, empty, text, foreign, newer, lacking, short, folder, dangling, around, forbidden),
]


GOOD = ("first", "last")


@contextmanager
def as_somebody(folder: Path) -> Iterator[None]:
    """Go on as a user whom permissions hold for, who owns the folder."""
    if os.geteuid() != 0:
        yield
        return
    for late in ("zoneinfo", "pandas", "xarray"):  # imported when used, from where maybe this user alone may read
        importlib.import_module(late)
    for place in (folder, *folder.rglob("*")):
        os.chown(place, 65534, -1, follow_symlinks=False)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(scope="module")
def sweep() -> Iterator[Path]:
    """A sweep of which a run is bad in each way; two are good."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to everybody else
        out = Path(folder) / "sweep"
        _fill(out)
        yield out
        (out / "forbidden").chmod(0o755)


def _fill(out: Path) -> None:
    whole = Experiment.of(TINY, "finetune", **{"stream.n": 1}).run(out / GOOD[0], device="cpu")
    names = [*(bad.__name__ for bad in BAD), GOOD[1]]
    for name in names:
        shutil.copytree(whole, out / name)
    options = SweepOptions(scenarios=[str(TINY)], strategies=["finetune"]).model_dump()
    entries = [Entry(name, name, "tiny", "finetune", [0], {"run": name}) for name in (GOOD[0], *names)]
    SweepFolder(out).keep(options, entries, "")
    for bad in BAD:
        bad(out / bad.__name__ / "log.h5")


@pytest.fixture
def somebody(sweep: Path) -> Iterator[None]:
    with as_somebody(sweep.parent):
        yield


COMMANDS: dict[str, Callable[[Path], tuple[Any, ...]]] = {
    "report": lambda sweep: ("report", sweep, "-o", sweep.parent / "report.html"),
    "compare": lambda sweep: ("compare", sweep),
    "export": lambda sweep: ("export", sweep, "--to", "csv", "-o", sweep.parent / "exported"),
    "status": lambda sweep: ("status", sweep),
}


@pytest.fixture(scope="module")
def said(sweep: Path) -> dict[str, Result]:
    """What each command says of the sweep."""
    with as_somebody(sweep.parent):
        return {name: call(*arguments(sweep)) for name, arguments in COMMANDS.items()}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_a_command_about_many_runs_names_a_bad_one_in_a_line_and_shows_the_others(
    bad: Callable[[Path], None], command: str, sweep: Path, said: dict[str, Result]
):
    assert said[command].exit_code == 0, said[command].output
    log = str(sweep / bad.__name__ / "log.h5")
    (line,) = (line for line in said[command].output.splitlines() if log in line)
    assert line.startswith("damaged" if command == "status" else "left out: ")
    assert line.isprintable()
    shown = {
        "report": "report: ",
        "compare": "\nfinetune ",
        "export": "csv: ",
        "status": f"damaged  tiny, finetune, run = {bad.__name__}: ",
    }
    assert shown[command] in said[command].output


@pytest.mark.usefixtures("somebody")
def test_a_dataset_of_many_runs_names_each_bad_one_and_holds_the_others(sweep: Path):
    runs = open_runs(sweep)
    assert [Path(path).parent.name for path in runs["path"].values] == list(GOOD)
    left_out = "\n".join(runs.attrs["left_out"])
    assert len(left_out.splitlines()) == len(BAD)
    assert all(str(sweep / bad.__name__ / "log.h5") in left_out for bad in BAD)


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize("command", [("show",), ("watch", "--once"), ("report", "-o", "never.html")], ids=" ".join)
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_a_command_about_a_bad_run_alone_is_refused_in_a_line(
    bad: Callable[[Path], None], command: tuple[str, ...], sweep: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live.time, "sleep", lambda seconds: None)
    result = call(*command, sweep / bad.__name__)
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()


@pytest.mark.usefixtures("somebody")
def test_a_place_without_a_log_among_others_is_named_and_the_others_are_shown(sweep: Path):
    (sweep.parent / "notes").mkdir()
    result = call("compare", sweep / GOOD[0], sweep.parent / "notes", sweep.parent / "nowhere")
    assert result.exit_code == 0
    for place in ("notes", "nowhere"):
        assert f"left out: there is no log at {sweep.parent / place}" in result.stderr
    runs = open_runs(sweep / GOOD[0], sweep.parent / "notes")
    assert len(runs.attrs["left_out"]) == 1
    with pytest.raises(UsageError, match=r"there is no log at .*notes"):
        open_runs(sweep / GOOD[0], sweep.parent / "notes", strict=True)


def test_a_run_of_a_sweep_whose_folder_cannot_be_written_to_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    axes = {"stream.n": [1], "train.lr": [0.001, 0.002]}
    options = {"scenarios": [str(TINY)], "strategies": ["finetune"], "resources": {"jobs": 1, "memory": 0.1}}
    real = SweepFolder.note

    def note(folder: SweepFolder, name: str, outcome: str, **about: Any) -> None:
        if "0.001" in name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder.path / name))
        real(folder, name, outcome, **about)

    monkeypatch.setattr(SweepFolder, "note", note)
    (tmp_path / "needs.json").write_text("{cut")
    tally = Sweep(SweepOptions(**options, set=axes), tmp_path, device="cpu", quiet=True).run()
    assert len(tally.done) == 1
    ((name, error),) = tally.failed.items()
    assert "0.001" in name
    assert "Permission denied" in error
