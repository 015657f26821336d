"""Checks of a benchmark of Avalanche: what would otherwise end a run, or go wrong in silence, once it has begun."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_engine.errors import UsageError
from cl_engine.interop.benchmarks import Part
from cl_engine.interop.rows import inputs_of


def refuse_missing_rows(parts: Sequence[Part], tests: Sequence[Part], name: str) -> None:
    """Raise a `UsageError` if the benchmark has no experiences, or nothing to learn from in one."""
    for half, found in (("train", parts), ("test", tests)):
        if not found:
            raise UsageError(f"stream.benchmark: '{name}' has no experience in its {half} stream")
    empty = next((k for k, part in enumerate(parts) if not len(part.labels)), None)
    if empty is not None:
        raise UsageError(f"stream.benchmark: experience {empty} of the train stream of '{name}' has no rows")


def refuse_untested(
    tests: Sequence[Sequence[tuple[Part, np.ndarray]]], classes: Sequence[Sequence[int]], name: str
) -> None:
    """Raise a `UsageError` if a task, of these classes, has no test rows."""
    untested = next((kind for kind in range(len(classes)) if not any(len(rows) for _, rows in tests[kind])), None)
    if untested is not None:
        raise UsageError(
            f"stream.benchmark: '{name}' has no test rows of task {untested}, whose classes are "
            f"{', '.join(map(str, classes[untested]))}"
        )


def shape_of(parts: Sequence[Part], name: str) -> tuple[int, ...]:
    """Return the shape of an input, told from the first row of each experience.

    Raises:
        UsageError: if it is not the same in all, or no shape that a net takes.
    """
    shapes = [tuple(inputs_of(part.dataset, [0], "eval").shape[1:]) for part in parts if len(part.labels)]
    if not shapes[0] or not all(shapes[0]):
        raise UsageError(
            f"stream.benchmark: inputs of '{name}' have shape {shapes[0]}; a row must be numbers along at least one axis"
        )
    for shape in shapes:
        refuse_another_shape(shapes[0], shape, name)
    return shapes[0]


def refuse_another_shape(first: tuple[int, ...], shape: tuple[int, ...], name: str) -> None:
    """Raise a `UsageError` if inputs have another shape than those of the first experience."""
    if shape != first:
        raise UsageError(
            f"stream.benchmark: inputs of '{name}' have shape {first} in one experience and {shape} in another: "
            "bring them to one"
        )
