"""Transfers made in memory: tasks on a line, whose nets serve those that are near."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from cl_engine.results.transfers import Kind, Transfer, Transfers


def made(
    names: Sequence[str],
    seeds: Sequence[int] = (0, 1),
    places: Sequence[float] | None = None,
    order: int = 2,
    free: Iterable[int] = (),
    rows: int = 80,
) -> list[Transfers]:
    """Return all transfers up to an order, with all controls; a task's own net does best, then those of near tasks."""
    where = np.arange(len(names)) if places is None else np.asarray(places)
    found = []
    for seed in seeds:
        random = np.random.default_rng(seed)

        def one(
            target: int, sources: tuple[int, ...], kind: Kind, distance: float, labels: int, random=random
        ) -> Transfer:  # type: ignore[no-untyped-def]
            losses = random.exponential(1 + distance, rows).astype(np.float32)
            errors = (losses > 2).astype(np.float32)
            return Transfer(target, sources, kind, labels, losses, errors, 1 - float(errors.mean()))

        probed = []
        for target in range(len(names)):
            probed += [
                one(target, (), "full", -0.9, 1000),
                one(target, (), "scratch", 5, 50),
                one(target, (), "untrained", 6, 50),
            ]
            probed += [one(target, (target, target), "copies", -0.4, 50)]
            for size in range(1, order + 1):
                for sources in combinations(range(len(names)), size):
                    distance = min(abs(where[source] - where[target]) for source in sources)
                    probed.append(one(target, sources, "transfer", distance - 0.1 * size - 0.3 * (distance == 0), 50))
        found.append(Transfers(seed, tuple(names), (1000,) * len(names), frozenset(free), tuple(probed)))
    return found
