"""Disks that are full or read-only, memory that is used up, files that are damaged: a sentence, and nothing lost."""

from __future__ import annotations

import errno
import os
import pkgutil
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from cl_engine.checkpoints import file as checkpoint
from cl_engine.cli import main
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import Event, Saved
from cl_engine.experiment import Experiment
from cl_engine.loggers.tables import Table, grow
from cl_engine.results.run import open_run
from cl_engine.testing.logs import assert_same_facts, facts
from tests.conftest import TINY, published_always

Tiny = Callable[..., Experiment]
FEW = {"stream.n": 2, "agenda.save_every_epochs": 1}
WRITES = ["shutil.copyfile", "cl_engine.checkpoints.file.save_file", "pathlib.Path.replace"]


def typed(out: Path) -> Result:
    sets = [part for key, value in FEW.items() for part in ("--set", f"{key}={value}")]
    return CliRunner().invoke(main, ["run", str(TINY), "-s", "finetune", "--quiet", "--out", str(out), *sets])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the facts of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole")
    assert typed(out).exit_code == 0
    return facts(out / "log.h5")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is a disk of its own with little room, or skip."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small tmpfs, which is not allowed here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # also where a failed test holds it


def failing_at(monkeypatch: pytest.MonkeyPatch, where: str, nth: int, error: Exception) -> None:
    """Let the n-th call of a function raise an error, and all later ones, as a full disk does."""
    original = pkgutil.resolve_name(where)
    calls = 0

    def hooked(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= nth:
            raise error
        return original(*arguments, **named)

    monkeypatch.setattr(where, hooked)


def test_a_disk_that_gets_full_ends_the_run_in_a_sentence_and_with_room_it_goes_on(
    small_disk: Path, tiny: Tiny, whole: dict[str, Any]
):
    out, ballast = small_disk / "run", small_disk / "ballast"

    def fill(event: Event) -> None:
        if isinstance(event, Saved) and event.step == 0 and not event.midway:
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(b"0" * 512)

    with pytest.raises(RunFailed, match=r"the disk is full, writing to .*: make room\. The same command goes on"):
        tiny("finetune", (0,), **FEW).run(out, listeners=lambda stream: [fill])
    assert open_run(out).status == "running"  # as it was published last; what was saved since is in the journal
    assert sorted(path.name for path in out.iterdir() if path.suffix == ".part") == []
    again = typed(out)
    assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
    assert "Failed: the disk is full" in again.stderr
    ballast.unlink()
    assert typed(out).exit_code == 0
    assert_same_facts(facts(out / "log.h5"), whole)


@pytest.mark.parametrize("where", WRITES)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_whichever_write_fails_nothing_that_was_saved_is_lost(
    where: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]
):
    said = {errno.ENOSPC: "the disk is full", errno.EROFS: "can no longer be written to"}[number]
    for nth in range(1, 10, 4):
        out = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            failing_at(patch, where, nth, OSError(number, os.strerror(number)))
            ended = typed(out)
        if ended.exit_code:
            assert (ended.exit_code, said in ended.stderr) == (1, True), ended.output
        assert typed(out).exit_code == 0
        assert_same_facts(facts(out / "log.h5"), whole)


def test_a_log_that_cannot_be_added_to_ends_the_run_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]
):
    def full(table: Table, file: Any) -> None:
        raise OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "flush", full)
        ended = typed(tmp_path)
    assert (ended.exit_code, "the disk is full" in ended.stderr) == (1, True)
    assert typed(tmp_path).exit_code == 0
    assert_same_facts(facts(tmp_path / "log.h5"), whole)


def test_a_log_left_in_the_middle_of_a_write_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]
):
    own, written = Table.flush, 0

    def torn_once(table: Table, file: Any) -> None:
        nonlocal written
        written += table.name == "epochs" and bool(table.rows)
        if table.name == "epochs" and table.rows and written == 2:
            group = file["epochs"]
            grow(group, "row", len(group["row"]) + len(table.rows), {column.name: 0 for column in table.columns})
            raise OSError(errno.ENOSPC, "No space left on device")
        own(table, file)

    with monkeypatch.context() as patch:
        published_always(patch)
        patch.setattr(Table, "flush", torn_once)
        ended = typed(tmp_path)
    assert (ended.exit_code, "the disk is full" in ended.stderr) == (1, True)
    found = facts(tmp_path / "log.h5")
    assert len(found["epochs/loss"])
    assert not np.isnan(found["epochs/loss"]).any()
    assert typed(tmp_path).exit_code == 0
    assert_same_facts(facts(tmp_path / "log.h5"), whole)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "the GPU is out of memory"),
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), "out of memory"),
    ],
)
def test_memory_that_is_used_up_ends_the_run_in_a_sentence_and_keeps_what_was_measured(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]
):
    with monkeypatch.context() as patch:
        failing_at(patch, "cl_engine.training.seed_group.SeedGroup.step", 10, error)
        ended = typed(tmp_path)
    assert ended.exit_code == 1
    assert f"Failed: {said}: lower train.batch, now 20," in ended.stderr
    assert (open_run(tmp_path).status, open_run(tmp_path).results.sizes["experience"]) == ("failed", 1)
    assert typed(tmp_path).exit_code == 0
    assert_same_facts(facts(tmp_path / "log.h5"), whole)


def test_seeds_that_do_not_fit_into_memory_are_said_so(tmp_path: Path):
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (size() + 2**29,) * 2)"
    size = "size = lambda: int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()"
    code = f"import resource, torch, cl_engine.cli.terminal, cl_engine.cli.commands as c; {size}; {limit}; c.main(sys.argv[1:])"
    assert resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY
    asked = ["-s", "finetune", "--quiet", "--out", str(tmp_path), "--seeds", "40", "--set", "net.hidden=[1500, 1500]"]
    command = [sys.executable, "-c", code, "run", str(TINY), *asked]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 1, ended.stderr
    assert "Failed: out of memory: lower train.batch, now 20, or run fewer seeds at a time, now 40," in ended.stderr


def test_a_folder_that_a_process_writes_to_is_refused_to_a_second(tmp_path: Path):
    code = (
        "import filelock as f, sys; lock = f.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); sys.stdin.read()"
    )
    held = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        ended = typed(tmp_path)
        assert (ended.exit_code, "another process is writing to" in ended.stderr) == (2, True)
        process.communicate("")
    assert typed(tmp_path).exit_code == 0


class Cut(BaseException):
    pass


def cut_after(tiny: Tiny, out: Path, step: int, midway: bool) -> None:
    """Run until a save, and end as a kill does."""

    def cutting(event: Event) -> None:
        if isinstance(event, Saved) and (event.step, event.midway) == (step, midway):
            raise Cut

    with pytest.raises(Cut):
        tiny("finetune", (0,), **FEW).run(out, listeners=lambda stream: [cutting])


def damaged(path: Path) -> Iterator[None]:
    """Damage a file in one way after the other, and bring it back after each: cut, and flipped bits."""
    content = path.read_bytes()
    places = [k * len(content) // 7 for k in range(1, 7)]
    for changed in [content[:place] for place in (0, 1, *places, len(content) - 1)]:
        path.write_bytes(changed)
        yield
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        yield
    path.write_bytes(content)


def test_what_was_saved_in_the_middle_of_an_experience_is_left_out_if_damaged_and_the_end_is_the_same(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    cut_after(tiny, tmp_path / "run", 1, midway=True)
    beside = tmp_path / "run" / "midway.safetensors"
    content = beside.read_bytes()
    for _ in damaged(beside):
        with pytest.raises(UsageError, match=r"is damaged or is no checkpoint|is damaged: "):
            checkpoint.load(beside)
    beside.write_bytes(content[:-3])
    assert typed(tmp_path / "run").exit_code == 0
    assert_same_facts(facts(tmp_path / "run" / "log.h5"), whole)


def test_a_damaged_log_is_named_before_a_run_goes_on_and_so_is_what_to_do(tiny: Tiny, tmp_path: Path):
    cut_after(tiny, tmp_path, 0, midway=False)
    log = tmp_path / "log.h5"
    content = log.read_bytes()
    noticed = tried = 0
    for _ in damaged(log):
        ended = typed(tmp_path)
        tried += 1
        if ended.exit_code:
            noticed += 1
            assert (ended.exit_code, str(log) in ended.stderr, "--fresh" in ended.stderr) == (2, True, True), (
                ended.output
            )
        for file in tmp_path.iterdir():  # one that went on has written over it
            if file.name == "log.h5":
                file.write_bytes(content)
    assert noticed >= tried - 6  # a flipped bit in room that holds nothing, or in a text, has no checksum


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_gone_on_from(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Any]
):
    cut_after(tiny, tmp_path / "cut", 0, midway=False)
    for number, _ in enumerate(damaged(tmp_path / "cut" / "checkpoint.safetensors")):
        out = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "cut", out)
        ended = typed(out)
        assert ended.exit_code == 0, ended.output
        assert "checkpoint.safetensors is damaged" in ended.stderr
        assert "going on from the checkpoint before" in ended.stderr
        assert_same_facts(facts(out / "log.h5"), whole)
        if number == 3:
            break
