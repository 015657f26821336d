"""A strategy tried on a few rows, to see what its state is like once something was learned."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from cl_engine.core.state import State
from cl_engine.core.tree import leaves_with_path
from cl_engine.data.stream import Stream
from cl_engine.errors import is_out_of_memory
from cl_engine.strategy import Strategy

ROWS = 64  # at most


def tried(strategy: Strategy, stream: Stream) -> State | None:
    """Return the state of a twin after an epoch on some rows of a stream's first experience; None where those are too few for it.

    The strategy stays as it is.
    """
    found, twin = stream.arrival(0), copy.copy(strategy)
    twin.train = strategy.train.model_copy(update={"epochs": 1})
    twin.curve, twin.journal, twin.observer = type(strategy.curve)(), None, None
    twin.targets, twin.n_tasks = None if stream.asks_classes else stream.target, stream.n_tasks
    twin.state = twin.start()
    train, validation = found.train.spread(ROWS), found.validation.spread(ROWS)
    unlabelled = None if found.unlabelled is None else found.unlabelled.spread(ROWS)
    few = dataclasses.replace(found, train=train, validation=validation, unlabelled=unlabelled)
    try:
        for _ in twin.learning(few):
            pass
    except Exception as error:  # so few rows may be too few for a strategy in any way, of which nothing follows
        if is_out_of_memory(error):
            raise
        return None
    return twin.state


def different(one: State | None, other: State | None) -> bool:
    """Return whether two states are known to differ, in form or in a bit."""
    if one is None or other is None:
        return False
    mine, its = (list(leaves_with_path(state)) for state in (one, other))
    return [path for path, _ in mine] != [path for path, _ in its] or any(
        _content(a) != _content(b) for (_, a), (_, b) in zip(mine, its, strict=True)
    )


def _content(leaf: Any) -> Any:
    tensor = getattr(leaf, "rows", leaf)
    return (tensor.shape, tensor.cpu().numpy().tobytes()) if hasattr(tensor, "cpu") else leaf
