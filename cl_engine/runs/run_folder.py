"""The folder of a run: one writer, one experiment, a log and a checkpoint that belong together."""

from __future__ import annotations

import json
import logging
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
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
from cl_engine.data.stream import Stream
from cl_engine.errors import MayNotBeRead, UsageError
from cl_engine.loggers.recorder import JOURNAL, WORKING, Recorder
from cl_engine.results.code import code_changed_since
from cl_engine.results.log_file import LOG_NAME, read_whole
from cl_engine.results.run import Run, open_run
from cl_engine.runs.checkout import commit, package_version
from cl_engine.runs.material import Material

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

    @cached_property
    def material(self) -> Material:
        """The data, weights and code of the run, which must be those that it was begun with."""
        return Material(self.path, self._found if self.checkpoint.exists() else None)

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

    @property
    def may_go_on(self) -> bool:
        """Whether there are a log and a checkpoint to go on from."""
        return (self.path / LOG_NAME).exists() and self.checkpoint.exists()

    @cached_property
    def _found(self) -> Run | None:
        """The log as it was when the folder was taken: nobody else writes to it."""
        return open_run(self.path) if (self.path / LOG_NAME).exists() else None

    @classmethod
    def cleared(cls, path: Path) -> list[Path]:
        """Remove a run's files from a folder that nobody writes to, whatever experiment they are of; return which.

        Raises:
            UsageError: if another process writes to it, or they cannot be removed.
        """
        folder = cls(path, "")
        found = [file for name in (LOG_NAME, JOURNAL, MIDWAY, WORKING) if (file := path / name).exists()]
        if found or folder.checkpoint.exists():
            folder.hold()
            try:
                for file in found:
                    file.unlink()
                found += folder.checkpoint.clear()
            except OSError as error:
                why = f"{error.filename or path} cannot be removed: {error.strerror or error}"
                raise UsageError(f"{why}; give another --out") from None
            finally:
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
        if not self.may_go_on:
            return None
        with self._named_if_damaged():
            read_whole(self.path / LOG_NAME)
        try:
            found = saved(self.checkpoint, device)
        except MayNotBeRead:
            raise
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
        """What a checkpoint of this run says that it is of."""
        return self.material.mark(self.experiment)

    def say_what_changed(self) -> None:
        """Warn of a finished run whose code has another text now."""
        for file in code_changed_since(self._found) if self._found is not None else ():
            LOG.warning("%s has changed since: the numbers in %s are those of its old text", file, self.path)

    def _check_checkpoint(self, found: Mapping[str, Any]) -> None:
        path, kinds = self.checkpoint.path, {"strategy": dict, "ledger": dict, "cursor": int, "step": int}
        if not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
            raise UsageError(f"{path} is not the checkpoint of a run: it must hold {', '.join(kinds)}")
        marked = str(found.get("experiment", self.mark))
        if not self.material.is_of(marked, self.experiment):
            there, here = marked.split("."), self.mark.split(".")
            told = "from other data or weights" if there[1:2] != here[1:2] else "with other code"
            other = f"run, {told}," if there[0] == here[0] else "experiment"
            raise UsageError(f"{path} is of another {other} than the log beside it: remove both, or --fresh")

    def recorder(
        self,
        stream: Stream,
        seeds: Sequence[int],
        resume: dict[str, Any] | None,
        attributes: Mapping[str, str],
        texts: Mapping[str, str],
        **more: str,
    ) -> Recorder:
        """Return the recorder of this run, begun anew or taken up at the checkpoint.

        ``attributes``, ``texts`` and ``more`` of these say what is run; where it runs is added to them.
        """
        recorder = Recorder(self.path, list(seeds), stream)
        if resume is not None:
            recorder.resume(resume["step"], self.material.go_on(resume["step"] + 1))
        else:
            known = {"experiment": self.experiment, **self.material.texts}
            surroundings = {**known, **texts, **more, **_environment(stream)}
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
        except MayNotBeRead:  # it may be whole
            raise
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
        "versions": json.dumps({name: package_version(name) for name in ("cl-engine", "torch", "numpy", "h5py")}),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device} ({gpu})",
        "threads": str(torch.get_num_threads()),
        "commit": commit(),
    }
