"""Matrices over the same tasks held against each other: Mantel's test, and matrices of anybody's from a file."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations as all_orders
from pathlib import Path
from typing import Literal

import numpy as np

from cl_engine.analysis.scores.statistics import holm
from cl_engine.errors import UsageError

Array = np.ndarray
Method = Literal["spearman", "pearson"]
DRAWS = 10_000  # permutations; of up to seven tasks there are fewer, and all are tried
FEWEST = 4  # tasks


@dataclass(frozen=True)
class Mantel:
    """How two matrices over the same tasks go together.

    >>> distances = np.abs(np.subtract.outer(*[np.array([1.0, 2.0, 4.0, 8.0, 16.0])] * 2))
    >>> found = mantel(distances, distances**2)
    >>> round(found.rho, 3), found.tried, found.p
    (1.0, 119, 0.008333333333333333)

    Attributes:
        rho: the correlation of their cells off the diagonal.
        p: of as high a correlation or a higher one if tasks had nothing to do with each other.
        pairs: cells that took part.
        tried: orders of the tasks that were tried beside the given one.
        exact: whether these were all there are.
    """

    rho: float
    p: float
    pairs: int
    tried: int
    exact: bool


def mantel(
    a: Array,
    b: Array,
    method: Method = "spearman",
    permutations: int = DRAWS,
    seed: int = 0,
    partial: bool = False,
    change: Callable[[Array], Array] | None = None,
) -> Mantel:
    """Test whether two matrices over the same tasks go together (Mantel 1967); one-sided, for more than by chance.

    The tasks of ``a`` are put in other orders, rows and columns together (cells of one task depend on each other), and p is the
    share of orders, the given one among them, that correlate as much: ``(1 + #{ρ of an order ≥ ρ}) / (1 + orders)``. Where there
    are no more orders than ``permutations``, each is tried once.

    Args:
        a: ``[T, T]``, of at least 4 tasks; the diagonal takes no part.
        b: ``[T, T]``.
        method: correlation of ranks or of values.
        permutations: orders to try at most.
        seed: of the orders that are drawn.
        partial: whether cells of ``b`` may be NaN: then they take no part.
        change: what ``a`` becomes, in each order of the tasks, before it is held against ``b``; left out: nothing else.

    Raises:
        UsageError: if a matrix is not square, of another size, holds NaN, or is constant, or there are fewer than 4 tasks.
    """
    from scipy import stats  # takes as long to import as a small report to write

    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    n = len(a)
    if a.shape != (n, n) or b.shape != (n, n):
        raise UsageError(
            f"both matrices must be square and over the same tasks, found {list(a.shape)} and {list(b.shape)}"
        )
    if n < FEWEST:
        raise UsageError(
            f"Mantel's test needs at least {FEWEST} tasks, found {n}: of fewer no order is unlikely enough"
        )
    off = ~np.eye(n, dtype=bool)
    cells = off & np.isfinite(b)
    if not np.isfinite(a[off]).all() or (not partial and not np.isfinite(b[off]).all()):
        raise UsageError("a matrix holds NaN off its diagonal; Mantel's test needs a number for every two tasks")
    shown = a if change is None else change(a)
    if cells.sum() < 3 or np.ptp(shown[cells]) == 0 or np.ptp(b[cells]) == 0:
        raise UsageError("a matrix is constant off its diagonal, so that nothing can go together with it")
    ranked = method == "spearman"
    again = ranked and (change is not None or cells.sum() < off.sum())  # else the ranks are the same in every order
    if ranked and not again:
        a = a.copy()
        a[off] = stats.rankdata(a[off])
    target = _standard(stats.rankdata(b[cells]) if ranked else b[cells])

    def correlation(order: Array) -> float:
        moved = a[np.ix_(order, order)]
        found = (moved if change is None else change(moved))[cells]
        return float(_standard(stats.rankdata(found) if again else found) @ target)

    rho = correlation(np.arange(n))
    exact = math.factorial(n) <= permutations
    tried = math.factorial(n) - 1 if exact else permutations
    orders = _others(n) if exact else _drawn(n, permutations, seed)
    reached = sum(correlation(order) >= rho - 1e-12 for order in orders)
    return Mantel(rho, (1 + reached) / (1 + tried), int(cells.sum()), tried, exact)


@dataclass(frozen=True)
class Held:
    """What a candidate matrix came to, held against affinities.

    >>> Held("rsa", "symmetric", "all seeds", Mantel(0.8, 0.01, 90, 10000, False), 0.02).p_holm
    0.02

    Attributes:
        name: of the candidate.
        way: ``as it is`` (affinity of the row's task for the column's), ``turned`` (of the column's for the row's), or
            ``symmetric`` (the mean of both).
        seeds: ``all seeds`` (means over them), or which one.
        found: the test.
        p_holm: its p, corrected by Holm for the number of candidates.
    """

    name: str
    way: str
    seeds: str
    found: Mantel
    p_holm: float


def held_against(
    affinity: Array, candidates: Mapping[str, Array], seeds: Sequence[int], permutations: int = DRAWS
) -> list[Held]:
    """Return how each candidate goes together with affinities: as they are, turned, and symmetric; over all seeds and in each.

    Args:
        affinity: ``[S, T, T]``.
        candidates: each ``[T, T]``, or by seed ``[S, T, T]``.
        seeds: the seeds' numbers.
        permutations: orders of the tasks to try at most.

    Raises:
        UsageError: as `mantel`, saying which candidate.
    """
    by_seed = {name: np.broadcast_to(found, affinity.shape) for name, found in candidates.items()}
    parts = [("all seeds", slice(None))]
    if len(seeds) > 1:
        parts += [(f"seed {seed}", slice(place, place + 1)) for place, seed in enumerate(seeds)]
    rows = []
    for called, part in parts:
        a = affinity[part].mean(axis=0)
        for way, turned in (("symmetric", (a + a.T) / 2), ("as it is", a), ("turned", a.T)):
            tests = []
            for name, found in by_seed.items():
                try:
                    tests.append(mantel(turned, found[part].mean(axis=0), permutations=permutations))
                except UsageError as error:
                    raise UsageError(f"{name}: {error}") from None
            corrected = holm([test.p for test in tests])
            rows += [
                Held(name, way, called, test, float(p)) for name, test, p in zip(by_seed, tests, corrected, strict=True)
            ]
    return rows


def read_matrix(path: Path, names: Sequence[str]) -> Array:
    """Read a matrix over these tasks from a CSV file, whose first row and first column name them; the diagonal may be empty.

    Raises:
        UsageError: if it cannot be read, names other tasks or in another order, or a cell off the diagonal is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"the matrix {path} cannot be read: {error}") from None
    heads = [text.strip() for text in rows[0][1:]] if rows else []
    sides = [row[0].strip() for row in rows[1:]]
    for what, found in (("columns", heads), ("rows", sides)):
        if found != list(names):
            how = "in another order" if sorted(found) == sorted(names) else "other tasks"
            raise UsageError(
                f"{path}: its {what} are {how}: {', '.join(found) or 'none'}; the run's tasks are, in order: {', '.join(names)}"
            )
    matrix = np.full((len(names), len(names)), np.nan)
    for (row, column), _ in np.ndenumerate(matrix):
        text = rows[row + 1][column + 1].strip() if column + 1 < len(rows[row + 1]) else ""
        try:
            matrix[row, column] = float(text or "nan")
        except ValueError:
            raise UsageError(
                f"{path}: the cell of {names[row]} and {names[column]} is '{text}', which is no number"
            ) from None
        if row != column and not math.isfinite(matrix[row, column]):
            raise UsageError(f"{path}: the cell of {names[row]} and {names[column]} holds no number")
    return matrix


def _standard(values: Array) -> Array:
    """Return values with mean 0 and length 1; zeros where they are all alike."""
    apart = values - values.mean()
    length = np.linalg.norm(apart)
    return np.asarray(apart / length if length > 0 else apart)


def _others(n: int) -> Iterator[Array]:
    orders = all_orders(range(n))
    next(orders)
    return (np.array(order) for order in orders)


def _drawn(n: int, count: int, seed: int) -> Iterator[Array]:
    random = np.random.default_rng(seed)
    return (random.permutation(n) for _ in range(count))
