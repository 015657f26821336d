"""Zoos: files with the nets of many tasks, seeds and runs as rows of numbers, for learning from weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cl_engine.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

FORMAT, VERSION = "cl-engine-zoo", "1.0"
COLUMNS = ("row", "run", "task", "seed", "score", "score_learned")


@dataclass(frozen=True)
class NetsAlike:
    """The nets of a zoo that have the same tensors, a row of numbers each.

    >>> alike = NetsAlike(Path("zoo.h5"), "nets/0", {"name": "mlp"}, (("1.bias", (2,), "float32"),), count=1)
    >>> alike.named(np.array([0.5, 1.5]))
    {'1.bias': array([0.5, 1.5], dtype=float32)}

    Attributes:
        path: the zoo's file.
        group: where they are in it.
        net: name and options of their architecture, as in the table ``[net]`` of a scenario.
        tensors: name, shape and type of each tensor, in the order in which their numbers stand in a row.
        count: how many nets there are.
    """

    path: Path
    group: str
    net: dict[str, Any]
    tensors: tuple[tuple[str, tuple[int, ...], str], ...]
    count: int

    def weights(self, rows: slice | list[int] = slice(None)) -> np.ndarray:
        """Return the numbers of nets ``[N, P]``, float32; all of them, or those at places in increasing order."""
        with _opened(self.path) as file:
            return np.asarray(file[self.group]["weights"][rows])

    def named(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return a row's numbers ``[P]`` as tensors by name, of their shapes and types."""
        found, at = {}, 0
        for name, shape, kind in self.tensors:
            size = int(np.prod(shape, dtype=int))
            found[name] = numbers[at : at + size].reshape(shape).astype(kind)
            at += size
        return found


class Zoo:
    """A file of nets: of each its run, task, seed and scores, and its numbers beside those of nets like it.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.learners.zoo import pack
    >>> from cl_engine.testing import small
    >>> run = Experiment.of(small.scenario(), "independent").run(Path("run"), device="cpu")
    >>> zoo = pack([run], Path("zoo.h5"))
    >>> zoo.table[["task", "seed"]].values.tolist(), zoo.nets[0].weights().shape
    ([[0, 0], [1, 0], [2, 0]], (3, 1222))
    >>> sorted(zoo.state_dict(1))[:2]
    ['1.bias', '1.weight']

    Attributes:
        path: the file.
        nets: the nets that have the same tensors, together.
        runs: of each run its path, run_id, strategy, scenario and experiment (JSON).
        table: a row a net: ``row`` (its number in the zoo), ``net`` (place in `nets`), ``place`` (there), ``run``, ``task`` (−1:
            all, where the task is not told), ``seed``, ``score`` at the end and ``score_learned`` right after it was learned
            first.
    """

    def __init__(self, path: Path) -> None:
        """Open a zoo; its numbers are read when they are asked for.

        Raises:
            UsageError: if the file cannot be read, or is none.
        """
        import pandas as pd

        self.path = path
        with _opened(path) as file:
            groups = [f"nets/{k}" for k in range(len(file["nets"]))]
            self.nets = tuple(_alike(path, name, file[name]) for name in groups)
            self.runs = [json.loads(text) for text in file["runs"].asstr()[:]]
            parts = []
            for k, name in enumerate(groups):
                columns = {column: file[name][column][:] for column in COLUMNS}
                parts.append(pd.DataFrame({**columns, "net": k, "place": np.arange(self.nets[k].count)}))
        self.table: pd.DataFrame = pd.concat(parts).sort_values("row", ignore_index=True)

    def state_dict(self, row: int) -> dict[str, np.ndarray]:
        """Return the tensors of the net with this number.

        Raises:
            UsageError: if there is none.
        """
        if not 0 <= row < len(self.table):
            raise UsageError(f"row {row}: {self.path} has the nets 0 to {len(self.table) - 1}")
        found = self.table.iloc[row]
        nets = self.nets[int(found["net"])]
        return nets.named(nets.weights([int(found["place"])])[0])


def open_zoo(path: str | Path) -> Zoo:
    """Return the zoo in a file.

    Raises:
        UsageError: if the file cannot be read, or is none.
    """
    return Zoo(Path(path))


def _alike(path: Path, name: str, group: h5py.Group) -> NetsAlike:
    tensors = tuple((str(key), tuple(shape), str(kind)) for key, shape, kind in json.loads(group.attrs["tensors"]))
    size = sum(int(np.prod(shape, dtype=int)) for _, shape, _ in tensors)
    count, numbers = group["weights"].shape
    if numbers != size or any(len(group[column]) != count for column in COLUMNS):
        raise ValueError(f"{name} has rows of {numbers} numbers, and tensors of {size}")
    return NetsAlike(path, name, json.loads(group.attrs["net"]), tensors, count)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{path} cannot be read as a zoo: {error}") from None
    with file:
        if file.attrs.get("format") != FORMAT:
            raise UsageError(f"{path} is no zoo: `run.py zoo` writes one")
        try:
            yield file
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise UsageError(f"{path} is not a whole zoo: {error}") from None
