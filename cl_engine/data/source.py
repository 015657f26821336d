"""Sources: where data come from, as arrays with labels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from cl_engine.options import Configured


@dataclass(frozen=True, eq=False)
class Labels:
    """A labelling of a source's inputs: what may be asked of them beside the class, and the answers.

    >>> depth = Labels("number_map", {"channels": 1, "kind": "depth"}, np.ones((4, 1, 8, 8)), np.ones((2, 1, 8, 8)))
    >>> depth.target
    'number_map'

    Attributes:
        target: name of the target.
        options: the target's options.
        train, test: labels of the source's training and test rows, in the target's form; may be memory-mapped.
    """

    target: str
    options: dict[str, Any]
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a source: images (uint8) or signals (float32), class numbers, and further labellings by name.

    >>> x, y = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    >>> Arrays(x, y, x, y, classes=2).train_x.shape
    (4, 1, 8, 8)

    Attributes:
        train_x, test_x: ``[N, *shape]``; images as ``[N, channels, height, width]``.
        train_y, test_y: ``[N]``, int64, from 0 to ``classes`` − 1.
        mean, std: a number each channel, in stored units: what `Net` scales uint8 inputs by.
        about: what a reader of the log should know (a version, a checksum).
        labels: labellings of the same inputs by name.
        vocabulary: number of tokens where inputs are int64 tokens, 0 the padding; None: they are not.
        digits: whether the classes are the ten digits, by their numbers; None: it is not said.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    about: dict[str, str | int] = field(default_factory=dict)
    labels: dict[str, Labels] = field(default_factory=dict)
    vocabulary: int | None = None
    digits: bool | None = None


class Source(Configured):
    """A source of data: files under the data root, or a package.

    Its options stand behind its name and a question mark: ``scenes?size=96&view=aerial``.

    >>> class Zeros(Source):
    ...     def load(self, root):
    ...         x, y = np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1])
    ...         return Arrays(x, y, x, y, classes=2)
    >>> Zeros().load(Path()).classes
    2

    Attributes:
        needs_files: whether files must be under the data root; the others are shipped or generated.
        takes_path: whether the source is named with a path behind a slash, as ``folder/birds``, kept in ``path``.
    """

    needs_files: ClassVar[bool] = False
    takes_path: ClassVar[bool] = False
    path: str

    @abstractmethod
    def load(self, root: Path) -> Arrays:
        """Return the arrays; a `UsageError` that says how to get them if they are not there."""

    def fetch(self, root: Path) -> None:
        """Download the data to ``root``; nothing to do for sources that a package ships."""
        return


class Sources(Protocol):
    """The sources at hand, and where their files are.

    >>> from cl_engine.runs.data_root import DataRoot
    >>> sources: Sources = DataRoot(Path("data"))
    >>> sources.load("digits").classes
    10

    Attributes:
        root: the folder that data files are under.
    """

    @property
    def root(self) -> Path:
        """The folder that data files are under."""

    def load(self, name: str) -> Arrays:
        """Return the arrays of the source of this name; a `UsageError` if they are not there or damaged."""

    def plugin(self, kind: Literal["targets", "labels"], name: str) -> type[Any]:
        """Return the class of a target or label function; a `UsageError` if there is none of this name."""
