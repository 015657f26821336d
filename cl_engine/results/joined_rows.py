"""Rows of the tables of runs that differ in seeds alone, put together as one run of all the seeds would have written them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_engine.errors import UsageError

Columns = dict[str, np.ndarray]
# what rows of one event have in common, whichever seed they are of; all else is a seed's own
KEYS: dict[str, tuple[str, ...]] = {
    "epochs": ("step", "task", "fit", "epoch"),
    "curves": ("step", "task", "batch", "epoch"),
    "stability": ("step", "task", "batch", "epoch"),
    "online": ("step", "task", "fit", "epoch", "batch"),
    "diagnostics": ("step", "task", "layer", "units", "weights"),
    "metrics": ("step", "evaluation", "task", "metric"),
    "metric_sums": ("step", "evaluation", "task", "metric", "place"),
    "transfers": ("step", "task", "kind", "labels"),
}


class NotAlike(UsageError):
    """Runs that differ in seeds alone, and of which something was not logged alike, so that no run of all can be made of them.

    >>> issubclass(NotAlike, UsageError)
    True
    """


def joined_rows(name: str, parts: Sequence[Columns], seeds: Sequence[Sequence[int]], order: Sequence[int]) -> Columns:
    """Return the columns of a table, given those of each part.

    Args:
        name: the table.
        parts: the columns ``[N]`` of each part by name.
        seeds: the seeds of each part.
        order: all of them, as the whole has them.

    Raises:
        NotAlike: naming the table, if the parts do not tell of the same events.
    """
    if name == "experiences":
        return _of_experiences(parts, [len(own) for own in seeds])
    if name == "events":
        return _of_events(parts, seeds, order)
    if name == "metric_sums":
        parts = _same_places(parts)
    blocks = [_blocks(name, columns, own) for columns, own in zip(parts, seeds, strict=True)]
    _need_same(f"the table {name}", [len(block["seed"]) for block in blocks])
    for key in KEYS.get(name, ()):
        _need_same(f"the column {key} of the table {name}", [block[key][:, 0] for block in blocks])
    places = _places(seeds, order)
    found = {key: np.concatenate([block[key] for block in blocks], axis=1)[:, places] for key in blocks[0]}
    if "seconds" in found:  # of all seeds together
        found["seconds"] = np.broadcast_to(
            np.sum([block["seconds"][:, :1] for block in blocks], axis=0), found["seed"].shape
        )
    return {key: values.ravel() for key, values in found.items()}


def joined_outcomes(
    transfers: Sequence[Columns], outcomes: Sequence[Columns], seeds: Sequence[Sequence[int]], order: Sequence[int]
) -> Columns:
    """Return the columns of the table ``outcomes``: as many rows for each row of ``transfers`` as that says, in its order.

    Raises:
        NotAlike: as `joined_rows`.
    """
    starts, before = [], 0
    for columns, own, of in zip(transfers, seeds, outcomes, strict=True):
        blocks = _blocks("transfers", columns, own)["rows"]
        starts.append((np.cumsum(blocks.ravel()) - blocks.ravel() + before).reshape(blocks.shape))
        before += len(of["step"])
    counts = np.concatenate(
        [_blocks("transfers", each, own)["rows"] for each, own in zip(transfers, seeds, strict=True)], 1
    )
    places = _places(seeds, order)
    first, many = (
        np.concatenate(starts, axis=1)[:, places].ravel().astype(int),
        counts[:, places].ravel().astype(int),
    )
    index = np.concatenate([np.arange(at, at + count) for at, count in zip(first, many, strict=True)] or [first])
    return {key: np.concatenate([of[key] for of in outcomes])[index] for key in outcomes[0]}


def _same_places(parts: Sequence[Columns]) -> list[Columns]:
    """Return the sums of metrics with a row, 0, for each place that is only in other parts: all that are 0 are left out."""
    keys = [np.stack([each[key] for key in KEYS["metric_sums"]], axis=1).astype(object) for each in parts]
    tests = [list(dict.fromkeys(map(tuple, own[:, :-1].tolist()))) for own in keys]
    _need_same("what tests the table metric_sums tells of", [str(each) for each in tests])
    numbers = {test: number for number, test in enumerate(tests[0])}
    wanted = sorted({(numbers[tuple(row[:-1])], row[-1]) for own in keys for row in own.tolist()})
    found = []
    for own, columns in zip(keys, parts, strict=True):
        seeds = list(dict.fromkeys(columns["seed"].tolist()))
        where = {(numbers[tuple(row[:-1])], row[-1]): at for at, row in reversed(list(enumerate(own.tolist())))}
        whole: dict[str, list[object]] = {key: [] for key in columns}
        for number, place in wanted:
            at = where.get((number, place))
            told = dict(zip(KEYS["metric_sums"], (*tests[0][number], place), strict=True))
            for k, seed in enumerate(seeds):
                value = 0.0 if at is None else columns["value"][at + k]
                for key, entry in {**told, "seed": seed, "value": value}.items():
                    whole[key].append(entry)
        found.append({key: np.asarray(whole[key], dtype=columns[key].dtype) for key in columns})
    return found


def _places(seeds: Sequence[Sequence[int]], order: Sequence[int]) -> list[int]:
    """Return where each seed of the whole stands among those of the parts, one part after the other."""
    flat = [seed for own in seeds for seed in own]
    return [flat.index(seed) for seed in order]


def _blocks(name: str, columns: Columns, seeds: Sequence[int]) -> Columns:
    """Return the columns as ``[B, S]``: an event's rows are those of all seeds, one after the other."""
    count, own = len(columns["seed"]), np.asarray(seeds)
    if count % len(own) or not np.array_equal(columns["seed"], np.tile(own, count // len(own))):
        raise NotAlike(f"the table {name} does not tell of all seeds at each of its events")
    return {key: values.reshape(-1, len(own)) for key, values in columns.items()}


def _need_same(what: str, found: Sequence[object]) -> None:
    if not all(np.array_equal(found[0], other) for other in found[1:]):  # type: ignore[arg-type]
        raise NotAlike(f"{what} is not the same for all seeds")


def of_all(values: Sequence[np.ndarray], counts: Sequence[int]) -> np.ndarray:
    """Return numbers that are one seed's, of all seeds, given those of each part: theirs where they agree, else the mean."""
    first = values[0]
    if all(np.array_equal(first, other, equal_nan=other.dtype.kind == "f") for other in values[1:]):
        return first
    mean = np.average(np.stack([each.astype(float) for each in values]), axis=0, weights=counts)
    return np.asarray(mean.round() if first.dtype.kind in "iu" else mean).astype(first.dtype)


def _of_experiences(parts: Sequence[Columns], counts: Sequence[int]) -> Columns:
    found = {}
    for key in parts[0]:
        values = [columns[key] for columns in parts]
        _need_same("the number of experiences", [len(each) for each in values])
        if key in ("step", "task", "rows"):
            _need_same(f"the column {key} of the table experiences", values)
        found[key] = np.sum(values, axis=0) if key == "seconds" else of_all(values, counts)
    return found


def _of_events(parts: Sequence[Columns], seeds: Sequence[Sequence[int]], order: Sequence[int]) -> Columns:
    """Return the rows of events: a number of each seed is a row, one that all have in common is a row of the seed −1."""
    starts = [_starts(columns, own) for columns, own in zip(parts, seeds, strict=True)]
    _need_same("the number of events", [len(begin) for begin in starts])
    for key in ("step", "kind", "name", "part"):
        told = [columns[key][begin] for columns, begin in zip(parts, starts, strict=True) if key in columns]
        _need_same("what events the table events tells of", told)
    shared = [columns["seed"][begin] < 0 for columns, begin in zip(parts, starts, strict=True)]
    _need_same("what events the table events tells of", shared)
    for columns, begin in zip(parts[1:], starts[1:], strict=True):
        one, other = (each["value"][at][shared[0]] for each, at in ((parts[0], starts[0]), (columns, begin)))
        if not np.array_equal(one, other, equal_nan=True):
            odd = np.flatnonzero((one != other) & ~(np.isnan(one) & np.isnan(other)))[0]
            row = starts[0][shared[0]][odd]
            kind, name = (str(parts[0][key][row]) for key in ("kind", "name"))
            raise NotAlike(
                f"what the event {kind} tells of all seeds together ({name}) depends on which seeds there are"
            )
    lengths = np.where(shared[0], 1, len(order))
    begins = np.cumsum(lengths) - lengths
    found = {key: np.repeat(values[starts[0]], lengths) for key, values in parts[0].items()}
    if "seconds" in found:
        found["seconds"] = np.repeat(
            np.sum([columns["seconds"][at] for columns, at in zip(parts, starts, strict=True)], axis=0), lengths
        )
    for columns, own, at in zip(parts, seeds, starts, strict=True):
        for place, seed in enumerate(own):
            rows = (begins + list(order).index(seed))[~shared[0]]
            found["value"][rows] = columns["value"][at[~shared[0]] + place]
            found["seed"][rows] = seed
    return found


def _starts(columns: Columns, seeds: Sequence[int]) -> np.ndarray:
    """Return the first row of each number that an event tells: as many rows as seeds, or one for all."""
    count = len(columns["seed"])
    found = []
    row = 0
    told, own = columns["seed"].tolist(), list(seeds)
    while row < count:
        found.append(row)
        step = 1 if told[row] < 0 else len(own)
        if (step > 1 and told[row : row + step] != own) or (step == 1 and told[row] >= 0 and told[row] != own[0]):
            raise NotAlike("the table events does not tell of all seeds at each of its events")
        row += step
    return np.array(found, dtype=int)
