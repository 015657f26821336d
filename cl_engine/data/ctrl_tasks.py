"""The tasks of CTrL's six streams, as data (Veniat, Denoyer & Ranzato 2021; facebookresearch/CTrLBenchmark)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["s_minus", "s_plus", "s_in", "s_out", "s_pl", "s_long"]
Size = Literal["large", "small", "tiny", "long"]
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
LONG_SOURCES = ("mnist", "svhn", "cifar10", "fashion_mnist", "cifar100")
LONG_TASKS, LONG_CLASSES, CLASSES = 100, 5, 10


@dataclass(frozen=True)
class Task:
    """What a task is made of.

    Attributes:
        source: the published source, before any stand-in takes its place.
        size: which of the stream's numbers of training and validation rows a class it has.
        classes: classes of the source, in the order of the labels.
        colour: what light falls on the images (red, green, blue), or None.
        like: the earlier task that it repeats or varies, or None.
    """

    source: str
    size: Size
    classes: tuple[int, ...]
    colour: tuple[int, int, int] | None = None
    like: int | None = None


def tasks_of(kind: Kind, classes_in: Callable[[str], int], draw: np.random.Generator) -> list[Task]:
    """Return the tasks of a stream; ``classes_in`` tells how many classes a source has."""
    if kind == "s_long":
        return [_long(step, classes_in, draw) for step in range(LONG_TASKS)]
    first, others, last = {
        "s_minus": (("cifar10", "large"), ("mnist", "dtd", "fashion_mnist", "svhn"), "small"),
        "s_plus": (("cifar10", "small"), ("mnist", "dtd", "fashion_mnist", "svhn"), "large"),
        "s_in": (("mnist", "large"), ("cifar10", "dtd", "fashion_mnist", "svhn"), "tiny"),
        "s_out": (("cifar10", "large"), ("mnist", "dtd", "fashion_mnist", "svhn"), "small"),
        "s_pl": (("mnist", "small"), ("dtd", "fashion_mnist", "svhn"), "large"),
    }[kind]
    source, size = first
    colours: list[tuple[int, int, int] | None] = [None, None]
    if kind == "s_in":
        colours = [COLOURS[k] for k in draw.permutation(len(COLOURS))[:2]]
    chosen = _classes(source, classes_in, CLASSES, draw)
    tasks = [Task(source, size, chosen, colours[0])]  # type: ignore[arg-type]
    tasks += [Task(other, "small", _classes(other, classes_in, CLASSES, draw)) for other in others]
    if kind == "s_pl":
        return [*tasks, Task("cifar10", "large", _classes("cifar10", classes_in, CLASSES, draw))]
    again = (chosen[-1], *chosen[:-1]) if kind == "s_out" else chosen
    return [*tasks, Task(source, last, again, colours[1], like=0)]  # type: ignore[arg-type]


def _long(step: int, classes_in: Callable[[str], int], draw: np.random.Generator) -> Task:
    """Return a task of the long stream: large ones get rare after a third, and none are among the last third."""
    source = LONG_SOURCES[int(draw.integers(len(LONG_SOURCES)))]
    classes = tuple(int(c) for c in draw.permutation(classes_in(source))[:LONG_CLASSES])
    share = 0.5 if step < 33 else 0.25 if step < 66 else 0.0
    return Task(source, "long" if draw.random() < share else "tiny", classes)


def _classes(source: str, classes_in: Callable[[str], int], count: int, draw: np.random.Generator) -> tuple[int, ...]:
    """Return ten classes: all in their own order where there are ten, else so many drawn."""
    known = classes_in(source)
    if known <= count:
        return tuple(range(known))
    return tuple(sorted(int(c) for c in draw.permutation(known)[:count]))
