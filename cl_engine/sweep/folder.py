"""The folder of a sweep, which is its state: the plan, each run's own folder, and the outcome of every attempt."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from cl_engine.core.files import hold, refuse_links, unmake, write
from cl_engine.core.text import clean
from cl_engine.errors import UsageError
from cl_engine.results.audit import audit
from cl_engine.results.log_file import LOG_NAME, attributes_of, fault, opened, subgroup
from cl_engine.sweep.log_summary import LogSummary, summary_of

FORMAT = "cl-engine-sweep/1"
PLAN, ATTEMPTS, OUTPUT, NEEDS = "sweep.json", "attempts.jsonl", "output.txt", "needs.json"
NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")  # of a folder within the sweep's
FAILURES = ("failed", "died")  # outcomes that count against the number of retries
SETTLES = 20  # looks, half a second apart, until a file written elsewhere is seen here


@dataclass(frozen=True)
class Entry:
    """A run of the sweep: its folder's name, its experiment's hash, and what was varied.

    ``trial`` is what an adaptive search keeps about it.

    >>> Entry("run-1", "4be2", "permuted_digits", "replay", [0], {"lr": 0.1}).changes
    {'lr': 0.1}
    """

    name: str
    hash: str
    scenario: str
    strategy: str
    seeds: list[int]
    changes: dict[str, Any]
    reference: bool = False
    trial: dict[str, Any] = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """What runs have in common that differ in seeds alone, as text."""
        return json.dumps([self.scenario, self.strategy, self.changes, self.reference], sort_keys=True)


class SweepFolder:
    """A sweep's folder, held by one driver: ``with SweepFolder(path) as folder``; reading needs no holding.

    >>> with SweepFolder(Path("sweep")) as folder:
    ...     _ = folder.keep({}, [], "run.py sweep")
    >>> SweepFolder(Path("sweep")).plan["command"]
    'run.py sweep'

    Raises:
        UsageError: if another driver holds it, or it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock", timeout=1)
        self._identity = ""
        self._made: list[Path] = []

    def __enter__(self) -> SweepFolder:
        self._made = hold(self.path, self._lock, f"another process drives the sweep in {self.path}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        if isinstance(error, UsageError):  # a sweep that is refused leaves nothing behind
            unmake(self._made)

    @property
    def driven(self) -> bool:
        """Whether a driver holds the folder now; nothing is made to find out."""
        if not (self.path / ".lock").exists():
            return False
        try:
            with self._lock.acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a folder that may be read alone
            return False

    @property
    def plan(self) -> dict[str, Any]:
        """What was written by `keep`.

        Raises:
            UsageError: if there is none, or it is not one of ours.
        """
        file = self.path / PLAN
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"there is no sweep in {self.path}: give the folder of one (it holds {PLAN})") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{file} cannot be read: {error}") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise UsageError(f"{file} was not written by this version: its format is not {FORMAT}")
        if not isinstance(found.get("options"), dict) or not isinstance(found.get("id"), str):
            raise UsageError(f"{file} is damaged: it does not say the options, or whose sweep it is")
        return found

    def keep(self, options: Mapping[str, Any], entries: Iterable[Entry], command: str, chosen_on: str = "") -> str:
        """Write down what is to be run, and what choices go by; return the identity, which stays when runs are added."""
        self._identity = self._identity or (self.plan["id"] if (self.path / PLAN).exists() else uuid.uuid4().hex)
        content = {
            "format": FORMAT,
            "id": self._identity,
            "command": command,
            "chosen_on": chosen_on,
            "options": dict(options),
            "runs": [asdict(entry) for entry in entries],
        }
        write(self.path / PLAN, json.dumps(content, indent=1).encode())
        return self._identity

    @property
    def entries(self) -> list[Entry]:
        """The runs of the sweep, as written down."""
        try:
            found = TypeAdapter(list[Entry]).validate_python(self.plan.get("runs"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in ("runs", *first["loc"]))
            raise UsageError(f"{self.path / PLAN} is damaged: {where}: {first['msg']}") from None
        for entry in found:
            if not NAME.fullmatch(entry.name):
                raise UsageError(f"{self.path / PLAN} is damaged: a run's folder in it cannot be called {entry.name!r}")
        return found

    @property
    def needs(self) -> dict[str, dict[str, Any]]:
        """What was measured of each kind of run; empty where that is not there or cut, so that it is measured again."""
        try:
            found = json.loads((self.path / NEEDS).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def known(self) -> dict[str, str]:
        """Return the names of run folders that are there, by the hash of their experiment."""
        return {path.name.rpartition("-")[2]: path.name for path in self.path.glob("*-*") if path.is_dir()}

    def note(self, name: str, outcome: str, **about: Any) -> None:
        """Add a line about an attempt at a run to its folder."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        refuse_links(self.path, folder)
        line = {"outcome": outcome, "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **about}
        with (folder / ATTEMPTS).open("ab+") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 1))
            torn = end and file.read(1) != b"\n"  # a crash cut the last line short
            file.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")

    def attempts(self, name: str) -> list[dict[str, Any]]:
        """Return what was noted about a run; a line that a crash cut short is left out."""
        try:
            lines = (self.path / name / ATTEMPTS).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                noted = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(noted, dict):
                found.append(noted)
        return found

    def given_up(self, name: str, retries: int) -> str | None:
        """Return the last error of a run that is not tried again; None where it may be.

        Counted are failures since the run was last pardoned or finished; a refusal is final at once.
        """
        failures: list[str] = []
        refused = False
        for noted in self.attempts(name):
            if noted.get("outcome") in ("pardoned", "finished"):
                failures, refused = [], False
            elif noted.get("outcome") in (*FAILURES, "refused"):
                failures.append(clean(str(noted.get("error", ""))))
                refused |= noted.get("outcome") == "refused"
        return failures[-1] if refused or len(failures) > retries else None

    def look_once_finished(self, name: str, objective: str) -> LogSummary:
        """Return what `look` does, of a run that another node says it has finished: its log may be seen here a little later."""
        for _ in range(SETTLES):
            found = self.look(name, objective)
            if found.status == "finished":
                break
            time.sleep(0.5)
        return found

    def look(self, name: str, objective: str) -> LogSummary:
        """Return what the log of a run says; ``new`` if there is none, ``damaged`` if it is not to be trusted."""
        log = self.path / name / LOG_NAME
        try:
            if not log.exists() and not log.is_symlink():
                return LogSummary()
            with opened(log) as file:
                status = attributes_of(file)["status"]
                audit(file)
                return summary_of(subgroup(file, "results"), status, objective)
        except Exception as error:  # a file of somebody else's may be odd in any way
            return LogSummary("damaged", fault=fault(log, error))
