"""BELL: problems put together from a domain of images and a pattern over pairs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.images import to_shape
from cl_engine.data.several_sources import SeveralSources
from cl_engine.data.stream import Composition, Data, Experience, Setting, Shape
from cl_engine.data.transformations import Transform, transformed
from cl_engine.errors import UsageError
from cl_engine.options import option

Kind = Literal["s_pl", "s_minus", "s_plus", "s_in", "s_sp", "s_out", "s_out_star", "s_out_star_star", "s_few", "s_long"]
Size = Literal["full", "images", "cells", "few"]
PATTERNS = ("xor", "circle", "cross", "square")
ORDERS = 4  # of the classes along the axes of a pattern: as they are, and three permutations
LENGTH, LONG = 6, 100
ASIDE = 3  # one in so many training images of a class serves validation rows
Domain = tuple[str, int, tuple[Transform, ...]]
T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Problem:
    """A problem: classes of a source seen through transformations, and the pattern that is asked of two of them.

    >>> Problem("mnist", 0, ("turn",), "xor", order=1, size="full").order
    1

    Attributes:
        source: where images come from.
        group: which of the source's disjoint groups of classes they are of.
        view: what they come through.
        pattern: which cells of the square of two classes are 1.
        order: which order of the classes is along the axes of the pattern.
        size: how many rows there are, and of what.
    """

    source: str
    group: int
    view: tuple[Transform, ...]
    pattern: str
    order: int
    size: Size


class Bell(SeveralSources):
    """BELL: sequences that each ask for one kind of transfer between problems of two parts (Valkov et al., ICLR 2024).

    An input is two images of one domain, one behind the other along the channels; its label is the cell of a pattern (exclusive
    or, circle, cross, square; each under four orders of the classes) that their two classes are. S_pl: nothing comes again. S⁻:
    the first problem does, with fewer images; S⁺: with more. S_out: its domain does, under a new pattern (S_out*, S_out**:
    beside a second one that is learned better). S_in: its pattern does, in a new domain, with few cells; S_sp: in one of
    permuted pixels. S_few: both parts are known, ten rows. S_long: a hundred problems, each part drawn.

    Not as published: pixels of S_sp are permuted where the original gives vectors to another net, which all tasks share here; all
    problems of S_few are of pairs; both labels have equal shares of the rows; the patterns are of any even size; a source's
    groups of classes may come in several ``views``, each a domain; all draws come from the seed.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.testing.streams import Given
    >>> stream = Bell(Given(images()), kind="s_few", sources=["a", "b", "c", "d"], classes=6)
    >>> stream.n_tasks, stream.input_shape, stream[5].train.y.tolist()
    (6, (2, 5, 5), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    """

    setting: Setting = option("task", "what is told at test time: task or domain (labels are local to the task)")
    kind: Kind = option("s_pl", "which of the sequences")
    sources: list[str] = option(["mnist", "fashion_mnist"], "where images come from: names of `list sources`")
    views: list[list[Transform]] = option([[]], "transformations that make domains of the sources, one list a view")
    classes: int = option(
        8, "classes of a domain, an even number; a source has as many domains as groups of so many", ge=4
    )
    shape: Shape | None = option(None, "channels, height and width of an image; left out: those of the first source")
    full: Count = option(30_000, "training rows of a problem with plenty of data")
    fewer: Count = option(10_000, "training rows where images or cells are few")
    few_images: Count = option(100, "images that such a problem has, where images are few")
    few_cells: Count = option(15, "cells of the pattern that it has, where cells are few")
    few: Count = option(10, "training rows of a problem that is to be told from what is known")
    aside: Count = option(5_000, "validation rows, of images set aside")
    test_rows: Count = option(5_000, "test rows")
    seed: int = option(0, "seed of the stream's own choices; the learners' seeds do not change the stream", ge=0)

    @classmethod
    def sources_in(cls, options: Mapping[str, Any]) -> list[str]:
        return list(options["sources"])

    def prepare(self) -> None:
        if self.setting == "class":
            raise UsageError("stream.setting: problems of BELL share their two labels; use 'task' or 'domain'")
        if self.classes % 2:
            raise UsageError(f"stream.classes: patterns have an even number of classes on a side, found {self.classes}")
        if not self.sources or not self.views:
            raise UsageError("stream.sources and stream.views: name at least one source, and one view, which may be []")
        first = self.images(self.sources[0])
        shape = tuple(self.shape or first.train_x.shape[1:])
        if shape[1] != shape[2] and any("turn" in view for view in self.views):
            raise UsageError(f"stream.views: 'turn' needs images as wide as high, found {shape[1]} × {shape[2]}")
        self._image_shape, self.input_shape = shape, (2 * shape[0], *shape[1:])
        mean, std = self.scale_of(first, shape[0])
        self.mean, self.std, self.outputs = 2 * mean, 2 * std, 2
        domains = [
            (source, group, tuple(view))
            for view in self.views
            for source in self.sources
            for group in range(self.class_count(source) // self.classes)
        ]
        self.problems = _problems(self.kind, domains, rng.arrays(self.seed, "bell", self.kind))[: self.n]
        self.n_tasks = self.n_steps = len(self.problems)

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step

    def __getitem__(self, step: int) -> Experience:
        problem = self.problems[self.task_id(step)]
        count = {"full": self.full, "few": self.few}.get(problem.size, self.fewer)
        return Experience(
            step=step,
            task_id=step,
            train=self._data(problem, step, count, "train"),
            validation=self._data(problem, step, self.aside, "validation"),
            classes=2,
        )

    def train_rows(self, step: int) -> int | None:
        return {"full": self.full, "few": self.few}.get(self.problems[self.task_id(step)].size, self.fewer)

    def test(self, task_id: int) -> Data:
        return self._data(self.problems[task_id], task_id, self.test_rows, "test")

    def describe(self) -> dict[str, str | int]:
        return {"benchmark": f"BELL {self.kind}", "source": ", ".join(self.sources)}

    def name_of(self, task_id: int) -> str:
        own = self.problems[task_id]
        return f"{' '.join(self.composition(task_id).inputs)}, {own.pattern} {own.order}, {own.size}"

    def composition(self, task_id: int) -> Composition:
        own = self.problems[task_id]
        return Composition(
            (own.source, *([f"{own.group}"] if own.group else []), *own.view), f"{own.pattern} {own.order}"
        )

    def _pattern(self, problem: Problem) -> np.ndarray:
        """Return which pairs of classes are 1, ``[classes, classes]``."""
        order = np.arange(self.classes)
        if problem.order:
            order = rng.arrays(self.seed, "order", problem.pattern, problem.order).permutation(self.classes)
        return pattern(problem.pattern, self.classes)[np.ix_(order, order)]

    def _data(self, problem: Problem, task: int, count: int, half: str) -> Data:
        """Return rows of a problem, as many of each label as of the other, drawn for this half of the task."""
        arrays, draw = self.images(problem.source), rng.arrays(self.seed, "pairs", half, task)
        images, labels = (arrays.test_x, arrays.test_y) if half == "test" else (arrays.train_x, arrays.train_y)
        pools = [self._pool(problem, task, labels, label, half) for label in range(self.classes)]
        wanted = self._pattern(problem)
        known = [np.argwhere(wanted == bool(label)) for label in (0, 1)]
        if half == "train" and problem.size == "cells":
            known = self._few_cells(known, task)
        y = np.arange(count) % 2
        pairs = np.zeros((count, 2), dtype=np.int64)
        for label in (0, 1):
            pairs[y == label] = draw.choice(known[label], size=int((y == label).sum()))
        rows = np.zeros_like(pairs)
        for label, pool in enumerate(pools):
            rows[pairs == label] = draw.choice(pool, size=int((pairs == label).sum()))
        halves = [self._seen(problem, torch.from_numpy(images[rows[:, side]])) for side in (0, 1)]
        return Data(torch.cat(halves, dim=1).to(self.device), torch.from_numpy(y).to(self.device))

    def _pool(self, problem: Problem, task: int, labels: np.ndarray, label: int, half: str) -> np.ndarray:
        """Return the images of a class, by their places in the source, that this half of a task draws from."""
        found = np.flatnonzero(labels == problem.group * self.classes + label)
        if half == "test":
            return found
        found = rng.arrays(self.seed, "aside", problem.source, problem.group, label).permutation(found)
        cut = max(1, len(found) // ASIDE)
        if half == "validation" or len(found) == 1:
            return found[:cut]
        if problem.size == "images":
            kept = max(1, self.few_images // self.classes)
            return rng.arrays(self.seed, "images", task, label).permutation(found[cut:])[:kept]
        return found[cut:]

    def _few_cells(self, known: list[np.ndarray], task: int) -> list[np.ndarray]:
        """Return some of the cells of each label, as many of one as of the other but for an odd one."""
        draw = rng.arrays(self.seed, "cells", task)
        counts = (max(1, self.few_cells // 2), max(1, self.few_cells - self.few_cells // 2))
        return [draw.permutation(own)[:count] for own, count in zip(known, counts, strict=True)]

    def _seen(self, problem: Problem, x: Tensor) -> Tensor:
        x = to_shape(x, self._image_shape)
        for transform in problem.view:
            x = transformed(x, transform, self.seed)
        return x


def pattern(name: str, classes: int) -> np.ndarray:
    """Return which cells ``[classes, classes]`` of a pattern are 1, for an even number of classes.

    >>> pattern("xor", 4).astype(int).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]

    Raises:
        UsageError: for a pattern that there is not.
    """
    row, column = np.indices((classes, classes))
    middle = (classes - 1) / 2
    off = np.maximum(abs(row - middle), abs(column - middle))
    if name not in PATTERNS:
        raise UsageError(f"there is no pattern '{name}'; there are {', '.join(PATTERNS)}")
    found: dict[str, np.ndarray] = {
        "xor": (row < classes / 2) != (column < classes / 2),
        "circle": np.hypot(row - middle, column - middle) < 3 / 8 * classes,
        "cross": np.minimum(abs(row - column), abs(row + column - classes + 1)) < classes / 6,
        "square": (off > middle - 0.5) | (off < (classes - 4) / 4),
    }
    return found[name]


def _problems(kind: Kind, domains: list[Domain], draw: np.random.Generator) -> list[Problem]:
    """Return the problems of a sequence, whose parts are drawn."""
    sizes: list[Size]
    patterns = [(name, order) for name in PATTERNS for order in range(ORDERS)]

    def some(known: list[T], count: int) -> list[T]:
        return [known[int(place)] for place in draw.permutation(len(known))[:count]]

    if kind == "s_long":
        where = [domains[int(draw.integers(len(domains)))] for _ in range(LONG)]
        what = [patterns[int(draw.integers(len(patterns)))] for _ in range(LONG)]
        early: tuple[Size, ...] = ("full", "images", "cells")
        late: tuple[Size, ...] = ("images", "cells", "few")
        sizes = [early[int(draw.choice(3, p=[0.5, 0.25, 0.25]))] for _ in range(LONG // 2)]
        sizes += [late[int(draw.choice(3, p=[0.4, 0.4, 0.2]))] for _ in range(LONG // 2)]
        return [Problem(*own, *asked, size) for own, asked, size in zip(where, what, sizes, strict=True)]
    # which of the domains and patterns that are drawn each problem has, and how many rows
    full: list[Size] = ["full"]
    images: list[Size] = ["images"]
    sequences: dict[Kind, tuple[list[int], list[int], list[Size]]] = {
        "s_pl": ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], full * 6),
        "s_minus": ([0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 0], ["full", *images * 5]),
        "s_plus": ([0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 0], [*images * 5, "full"]),
        "s_in": ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 0], [*full * 5, "cells"]),
        "s_sp": ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 0], [*full * 5, "cells"]),
        "s_out": ([0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 5], ["full", *images * 5]),
        "s_out_star": ([0, 0, 1, 2, 3, 0], [0, 1, 2, 3, 4, 5], ["images", "full", *images * 4]),
        "s_out_star_star": ([0, 0, 1, 2, 3, 0], [0, 1, 2, 3, 4, 0], ["images", "full", *images * 4]),
        "s_few": ([0, 1, 2, 0, 3, 1], [0, 1, 2, 3, 4, 3], ["full", "full", *images * 3, "few"]),
    }
    one, other, sizes = sequences[kind]
    needed = max(one) + 1
    if len(domains) < needed:
        raise UsageError(
            f"stream.kind: '{kind}' has {needed} domains, and the sources, classes and views make {len(domains)}: name more"
        )
    chosen, wanted = some(domains, needed), some(patterns, max(other) + 1)
    found = [Problem(*chosen[d], *wanted[p], size) for d, p, size in zip(one, other, sizes, strict=True)]
    if kind == "s_sp":
        last = found[-1]
        found[-1] = Problem(last.source, last.group, (*last.view, "permute"), last.pattern, last.order, last.size)
    return found
