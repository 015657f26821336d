"""The folder of a run: one writer, one experiment, a log and a checkpoint that belong together."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock

from cl_engine.checkpoints.blocks import BlockFiles
from cl_engine.checkpoints.file import previous
from cl_engine.checkpoints.store import MIDWAY, Store, saved
from cl_engine.core.files import hold, refuse_links, unmake
from cl_engine.core.gpu import is_gpu
from cl_engine.core.tree import flatten
from cl_engine.data.digest import Digest, difference
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.loggers.recorder import JOURNAL, WORKING, Recorder
from cl_engine.results.log_file import LOG_NAME, read_whole
from cl_engine.results.run import Run, open_run

CHECKPOINT = "checkpoint.safetensors"
LOG = logging.getLogger("cl_engine")


class RunFolder:
    """A run's folder, held by one process: ``with RunFolder(path, experiment) as folder``.

    >>> with RunFolder(Path("run"), "{}") as folder:
    ...     print(folder.status)
    new

    Raises:
        UsageError: if another process holds it, or it belongs to another experiment.
    """

    def __init__(self, path: Path, experiment: str) -> None:
        self.path, self.experiment = path, experiment
        self.checkpoint = Store(path / CHECKPOINT)
        self._lock = FileLock(path / ".lock", timeout=0)
        self._made: list[Path] = []
        self._digests: dict[str, Digest] = {}

    def take(self, digests: dict[str, Digest]) -> None:
        """Take note of the digests of the data and weights that are learned from, by where they are from.

        Raises:
            UsageError: if a run that was stopped here has learned from others. One from before logs had digests goes on.
        """
        self._digests = digests
        if self._found is None or not self.checkpoint.exists():
            return
        text = self._found.environment.get("digests", "{}")
        try:
            then = {name: dict(told) for name, told in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError):
            raise UsageError(
                f"{self.path / LOG_NAME} is not a whole log: environment/digests is not as written"
            ) from None
        changed = difference(then, digests)
        if changed:
            raise UsageError(
                f"{changed}: these are not what the run in {self.path} has learned from; put that back to go on, or start over "
                "with --fresh, or with another --out"
            )

    def hold(self) -> None:
        """Become the one process that writes here."""
        self._made = hold(self.path, self._lock, f"another process is writing to {self.path}")

    def __enter__(self) -> RunFolder:
        self.hold()
        try:
            refuse_links(self.path)
            self._check_owner()
            self._remove_parts()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_parts()
        self._lock.release()
        if isinstance(error, UsageError):  # a run that is refused leaves nothing behind
            unmake(self._made)

    def _remove_parts(self) -> None:
        """Remove what a kill, or a full disk, left in the middle of being written."""
        for part in self.path.glob("*.part"):
            with suppress(OSError):
                part.unlink()

    @property
    def status(self) -> str:
        """The status in the log that was found, or ``new``."""
        return self._found.status if self._found else "new"

    @cached_property
    def _found(self) -> Run | None:
        """The log as it was when the folder was taken: nobody else writes to it."""
        return open_run(self.path) if (self.path / LOG_NAME).exists() else None

    @classmethod
    def cleared(cls, path: Path) -> list[Path]:
        """Remove a run's files from a folder that nobody writes to, whatever experiment they are of; return which."""
        folder = cls(path, "")
        found = [file for name in (LOG_NAME, JOURNAL, MIDWAY, WORKING) if (file := path / name).exists()]
        if found or folder.checkpoint.exists():
            folder.hold()
            for file in found:
                file.unlink()
            found += folder.checkpoint.clear()
            folder._lock.release()
        return found

    @staticmethod
    def to_go_on(path: Path) -> list[str]:
        """Return the names of the files that a run goes on from, each before those that need it."""
        log = [file for name in (LOG_NAME, JOURNAL) if (file := path / name).exists()]
        midway = [path / MIDWAY] if (path / MIDWAY).exists() else []
        return [file.name for file in (*log, *Store(path / CHECKPOINT).files(), *midway)]

    @staticmethod
    def is_to_go_on(name: str) -> bool:
        """Return whether `to_go_on` may name a file so."""
        newest = Path(CHECKPOINT)
        known = (LOG_NAME, JOURNAL, MIDWAY, CHECKPOINT, previous(newest).name)
        return name in known or BlockFiles(newest).number(name) is not None

    def resume(self, device: torch.device) -> dict[str, Any] | None:
        """Return the checkpoint to go on from; None if nothing was saved yet.

        Where the newest is damaged, it is the one before, and that is said.

        Raises:
            UsageError: if there is none that is whole.
        """
        if not (self.path / LOG_NAME).exists() or not self.checkpoint.exists():
            return None
        with self._named_if_damaged():
            read_whole(self.path / LOG_NAME)
        try:
            found = saved(self.checkpoint, device)
        except UsageError as error:
            raise UsageError(f"{error}; its log can still be read, and --fresh runs it again from the start") from None
        if found is not None:
            self._check_checkpoint(found)
        if found is not None and self.checkpoint.damaged:
            step = found["step"]
            LOG.warning("%s: going on from the checkpoint before, after experience %d", self.checkpoint.damaged, step)
        return found

    @property
    def mark(self) -> str:
        """What a checkpoint of this experiment says that it is of: the experiment and, behind a point, its data and weights."""
        parts = [self.experiment, json.dumps(self._digests, sort_keys=True)]
        return ".".join(hashlib.sha256(part.encode()).hexdigest()[:16] for part in parts)

    def _check_checkpoint(self, found: Mapping[str, Any]) -> None:
        path, kinds = self.checkpoint.path, {"strategy": dict, "ledger": dict, "cursor": int, "step": int}
        if not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
            raise UsageError(f"{path} is not the checkpoint of a run: it must hold {', '.join(kinds)}")
        marked = str(found.get("experiment", self.mark)).split(".")  # the second part was not always there
        if marked != self.mark.split(".")[: len(marked)]:
            other = "experiment" if marked[0] != self.mark.split(".")[0] else "run, from other data or weights,"
            raise UsageError(f"{path} is of another {other} than the log beside it: remove both, or --fresh")

    def recorder(
        self,
        stream: Stream,
        seeds: Sequence[int],
        resume: dict[str, Any] | None,
        attributes: Mapping[str, str],
        texts: Mapping[str, str],
    ) -> Recorder:
        """Return the recorder of this run, begun anew or taken up at the checkpoint.

        ``attributes`` and ``texts`` say what is run; where it runs is added to them.
        """
        recorder = Recorder(self.path, list(seeds), stream)
        if resume is not None:
            recorder.resume(resume["step"])
        else:
            known = {"experiment": self.experiment, "digests": json.dumps(self._digests)}
            surroundings = {**known, **texts, **_environment(stream)}
            recorder.begin({**attributes, "run_id": uuid.uuid4().hex}, surroundings)
        return recorder

    def _check_owner(self) -> None:
        with self._named_if_damaged():
            if self._found is None:
                return
            found = self._found.environment["experiment"]
        if found != self.experiment:
            raise UsageError(
                f"{self.path} holds the run of another experiment ({_difference(found, self.experiment)}); "
                "give another --out, or --fresh to replace it"
            )

    @contextmanager
    def _named_if_damaged(self) -> Iterator[None]:
        """Say what a log that cannot be read means for the run, and how to go on."""
        try:
            yield
        except (UsageError, KeyError) as error:
            raise UsageError(
                f"{error}: what was measured so far is lost with it, and the run cannot go on. Put a copy of the file in "
                "its place, or start over with --fresh, or with another --out"
            ) from None


def _difference(found: str, wanted: str) -> str:
    """Name the first thing in which two experiments differ."""
    there, here = (
        {k.removeprefix("options."): v for k, v in flatten(json.loads(text)).items()} for text in (found, wanted)
    )
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            return f"its {key} is {json.dumps(there.get(key))}, not {json.dumps(here.get(key))}"
    return "written differently"


def _environment(stream: Stream) -> dict[str, str]:
    device = stream.device
    gpu = torch.cuda.get_device_name(device) if is_gpu(device) else platform.processor() or platform.machine()
    return {
        "data": json.dumps(stream.describe()),
        "versions": json.dumps({name: _version(name) for name in ("cl-engine", "torch", "numpy", "h5py")}),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device} ({gpu})",
        "threads": str(torch.get_num_threads()),
        "commit": _commit(),
    }


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Return the commit of this program's checkout, with a '+' if files were changed since; empty if there is none."""
    return _commit_of(Path(__file__).resolve().parents[2])


@cache  # four processes of git; and what runs was imported before
def _commit_of(checkout: Path) -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != checkout or not git("ls-files", "cl_engine"):
            return ""  # the repository around an installed package is its user's
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
