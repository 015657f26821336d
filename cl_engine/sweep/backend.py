"""Backends of a sweep: the jobs they are given, the outcomes they return, and what they must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

Said = Literal["finished", "stopped", "paused", "failed", "died", "lost", "refused", "unseen", "measured"]


@dataclass(frozen=True)
class Job:
    """One run, or the measurement of what one takes, as plain data: it goes to other processes and nodes as JSON.

    >>> Job("run-1", "sweep", "id", {}).threads
    1

    Attributes:
        name: the run's folder in the sweep's.
        sweep: the sweep's folder, and ``identity`` what is in it, by which a node knows that it sees the same disk.
        experiment: what `Experiment.json` holds, and the scenario's text.
        until: number of experiences after which to stop; None: continue to the end.
        measure: only find out what the run would take.
        begun: whether the sweep's folder holds something to go on from.
        files: what is to go on from, where the node does not see the folder.
        threads, device, data_root, command, accept_changes: how it is run.
    """

    name: str
    sweep: str
    identity: str
    experiment: dict[str, Any]
    until: int | None = None
    measure: bool = False
    begun: bool = False
    files: dict[str, bytes] | None = None
    threads: int = 1
    device: str = "auto"
    data_root: str | None = None
    command: str = ""
    accept_changes: bool = False

    @property
    def folder(self) -> Path:
        """The run's folder, where the sweep's is seen."""
        return Path(self.sweep) / self.name

    @property
    def json(self) -> dict[str, Any]:
        """The job as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    ``said`` is ``finished``; ``paused`` where it was to stop (`Job.until`); ``stopped`` because it was asked to;
    ``failed`` by an error; ``refused``, which no further try would change; ``died`` with its process; ``lost`` with its
    node; ``unseen``: the node needs the run's files; ``measured``. ``about`` is what was measured, ``files`` what is to
    be put into the run's folder.

    >>> Outcome("run-1", "finished", seconds=3.2).said
    'finished'
    """

    name: str
    said: Said
    error: str = ""
    seconds: float = 0.0
    where: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def as_asked(self, stopping: bool) -> Outcome:
        """Return the outcome; a stop that the sweep did not ask for is a death, or the run would be started again without end."""
        if stopping or self.said != "stopped":
            return self
        return replace(self, said="died", error="it was stopped, and not by the sweep")


@dataclass(frozen=True)
class JobProgress:
    """Progress of a run: experiences learned, of how many (None: without end).

    >>> JobProgress("run-1", learned=2, of=10).learned
    2
    """

    name: str
    learned: int
    of: int | None


class Backend(Protocol):
    """A backend where jobs run beside each other; its driver calls it from one thread.

    >>> from cl_engine.sweep.local import Local
    >>> backend: Backend = Local(slots=2, threads=1)
    >>> backend.room
    2
    """

    @property
    def room(self) -> int:
        """How many more jobs can be started now."""

    def start(self, job: Job) -> None:
        """Start a job; what becomes of it comes from `wait`."""

    def wait(self, seconds: float) -> Sequence[Outcome | JobProgress]:
        """Return what has happened; wait for it at most ``seconds``."""

    def stop(self) -> None:
        """Ask all jobs to stop where they can go on from; their outcomes come from `wait`."""

    def close(self) -> None:
        """End everything that was started here, at once."""
