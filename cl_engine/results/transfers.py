"""Transfers between the tasks of a stream, as they were probed: how every validation row of a task was answered, each way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cl_engine.errors import UsageError
from cl_engine.results.run import Run

Kind = Literal["full", "transfer", "untrained", "scratch", "copies"]


@dataclass(frozen=True)
class Transfer:
    """A way to answer a task, and its outcome on the task's validation rows, of one seed.

    ``kind``: a net of the task's own with all labels (``full``); a readout of the frozen nets of ``sources``
    (``transfer``; the task's own net among them is self-transfer), of as many independent nets of the task itself
    (``copies``), of an untrained net (``untrained``); a whole net trained on the labels of the readout (``scratch``).
    ``losses`` [rows] are what the target's loss says, ``errors`` [rows] what counts: 0 or 1 for classes, else the loss.
    ``score`` is the target's measure on the rows, ``labels`` the training rows with a label that were used.

    >>> Transfer(2, (0, 1), "transfer", 400, np.array([0.1, 2.0]), np.array([0.0, 1.0]), 0.5).order
    2
    """

    target: int
    sources: tuple[int, ...]
    kind: Kind
    labels: int
    losses: NDArray[np.float32]
    errors: NDArray[np.float32]
    score: float

    @property
    def order(self) -> int:
        """Number of nets that are read; 0: none."""
        return len(self.sources)


@dataclass(frozen=True)
class Transfers:
    """All transfers that a run probed, of one seed; sets of several sources are its own choice, and may be others than another's.

    ``names`` are those of the tasks, in the stream's order; ``labels`` the training rows with labels that each has;
    ``free`` the tasks whose labels need no human (rotation, jigsaw, the input itself).

    >>> probed = Transfer(0, (0,), "transfer", 400, np.zeros(2), np.zeros(2), 1.0)
    >>> Transfers(0, ("digit",), (6000,), frozenset(), (probed,)).to(0)[0].kind
    'transfer'
    """

    seed: int
    names: tuple[str, ...]
    labels: tuple[int, ...]
    free: frozenset[int]
    probed: tuple[Transfer, ...]

    def to(self, target: int) -> tuple[Transfer, ...]:
        """Return the ways to one task, in the order they were probed."""
        return tuple(transfer for transfer in self.probed if transfer.target == target)


def transfers_of(run: Run) -> list[Transfers]:
    """Return the transfers that a run probed, of each of its seeds.

    Raises:
        UsageError: if it probed none, or its tables do not fit each other.
    """
    if not run.tables.get("transfers"):
        raise UsageError(
            f"{run.path} holds no transfers between tasks: it is of the strategy '{run.strategy}', and `taxonomy` probes them"
        )
    found, outcomes = run.table("transfers"), run.table("outcomes")
    ends = np.cumsum(found["rows"].to_numpy())
    tasks, kinds = len(run.results["task_name"]), set(get_args(Kind))
    read = [tuple(map(int, text.split("+"))) if text else () for text in found["sources"]]
    known = found["task"].between(0, tasks - 1).all() and all(0 <= one < tasks for sources in read for one in sources)
    if ends[-1] != len(outcomes) or (found["rows"] < 0).any() or not set(found["kind"]) <= kinds or not known:
        raise UsageError(
            f"{run.path} is damaged: its tables transfers and outcomes do not fit each other, or its tasks"
        )
    losses, errors = (np.split(outcomes[name].to_numpy(np.float32), ends[:-1]) for name in ("loss", "error"))
    parts = zip(found.itertuples(), read, losses, errors, strict=True)
    probed = [
        (row.seed, Transfer(row.task, sources, row.kind, row.labels, loss, error, row.score))
        for row, sources, loss, error in parts
    ]
    arrivals = run.table("experiences").drop_duplicates("task").set_index("task")["rows"]
    return [
        Transfers(
            seed=seed,
            names=tuple(map(str, run.results["task_name"].values)),
            labels=tuple(int(arrivals.get(task, 0)) for task in range(tasks)),
            free=frozenset(np.flatnonzero(run.results["task_free"].values).tolist()),
            probed=tuple(transfer for of, transfer in probed if of == seed),
        )
        for seed in run.results["seed"].values.tolist()
    ]


def compared_of(run: Run) -> dict[str, NDArray[np.float64]]:
    """Return how alike a run's nets, and its tasks' labels, were found: for each kind ``[S, T, T]``, symmetric.

    The diagonal, and what was not compared, is NaN. Kinds are those that the run told of: ``rsa``, ``cka``, ``labels``.
    """
    told = run.table("events").query("kind == 'NetsCompared'")
    seeds, tasks = run.results["seed"].values.tolist(), len(run.results["task_name"])
    found: dict[str, NDArray[np.float64]] = {}
    for kind, of_kind in told.groupby("part", sort=False):
        matrices = found[str(kind)] = np.full((len(seeds), tasks, tasks), np.nan)
        pairs = of_kind[of_kind["seed"] == -1].pivot_table(index="event", columns="name", values="value")
        values = of_kind[of_kind["name"] == "value"]
        for event, seed, value in zip(values["event"], values["seed"], values["value"], strict=True):
            one, other = (int(pairs.at[event, name]) for name in ("task_id", "other"))
            matrices[seeds.index(seed), [one, other], [other, one]] = value
    return found
