"""Selection of the rows that a rehearsal memory of fixed size keeps: indices only, so that seeds can choose differently."""

from __future__ import annotations

import numpy as np

Index = np.ndarray


def reservoir(held: int, seen: int, new: int, room: int, draw: np.random.Generator) -> Index:
    """Return the rows kept, as indices into the ``held`` rows followed by the ``new`` ones (Vitter 1985, algorithm R).

    Of all rows ever seen (``seen`` before the new ones), each is among the ``room`` kept with equal probability.
    """
    slots = np.arange(held)
    free = min(room - held, new)
    slots = np.concatenate([slots, held + np.arange(free)])
    arrivals = np.arange(free, new)
    places = draw.integers(0, seen + arrivals + 1)
    replaced = places < room
    slots[places[replaced]] = held + arrivals[replaced]
    return slots


def balanced(groups: Index, room: int, draw: np.random.Generator) -> Index:
    """Return the rows kept so that every group has as equal a share of ``room`` as there are rows for.

    ``groups [N]`` is the group (a class of a task) of each row held or new. Within a group the choice is uniform.
    """
    order = draw.permutation(len(groups))
    members = [order[groups[order] == group] for group in np.unique(groups)]
    kept: list[Index] = []
    # the smallest groups first, so that what they leave free goes to the others
    for position, rows in enumerate(sorted(members, key=len)):
        share = (room - sum(map(len, kept))) // (len(members) - position)
        kept.append(rows[:share])
    return np.sort(np.concatenate(kept))
