"""Streams whose tasks come from several sources, of which a few are kept in memory at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import torch

from cl_engine.data.source import Arrays, Sources
from cl_engine.data.source_stream import need_classes
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError


class SeveralSources(Stream):
    """A stream over images of several sources, each read when a task needs it, and at the start, to know that it can be.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.testing.streams import Given
    >>> from cl_engine.streams.datasets import Datasets
    >>> Datasets(Given(images()), sources=["birds", "cars"]).class_count("birds")
    6

    Attributes:
        kept: number of sources that are in memory at a time.
        named_by: the option that names the sources, for error messages.
    """

    kept: ClassVar[int] = 6
    named_by: ClassVar[str] = "sources"

    def __init__(self, data: Sources, /, device: torch.device | str = "cpu", **options: Any) -> None:
        """Build the stream over the sources in ``data``, its tensors on ``device``.

        Raises:
            UsageError: for options that do not exist, or do not fit the sources or each other.
        """
        self.configure(options, "stream")
        self.device, self._sources = torch.device(device), data
        self.images = lru_cache(self.kept)(self._images)
        self._class_counts: dict[str, np.ndarray] = {}  # training rows of each class
        self.prepare()

    @classmethod
    def build(cls, options: Mapping[str, Any], sources: Sources, device: torch.device | str) -> Self:
        """Build the stream over these sources."""
        return cls(sources, device=device, **options)

    @abstractmethod
    def prepare(self) -> None:
        """Check the options against the sources, and set up what tasks need; called once."""

    def class_count(self, source: str) -> int:
        """Return the number of classes of a source; reads it the first time, so that what is missing or damaged is met then."""
        if source not in self._class_counts:
            found = self.images(source)
            self._class_counts[source] = np.bincount(found.train_y, minlength=found.classes)
        return len(self._class_counts[source])

    def class_rows(self, source: str, classes: Sequence[int]) -> list[int]:
        """Return how many training rows there are of these classes of a source that `class_count` was asked about."""
        return [int(self._class_counts[source][label]) for label in classes]

    def scale_of(self, first: Arrays, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of images of this number of channels, by those of the first source."""
        mean, std = (v if len(v) in (1, channels) else v[:1] * channels for v in (first.mean, first.std))
        return mean, std

    def _images(self, source: str) -> Arrays:
        found = self._sources.load(source)
        if found.train_x.dtype != np.uint8 or found.train_x.ndim != 4:
            raise UsageError(
                f"stream.{self.named_by}: '{source}' holds no images; this stream brings images to one shape"
            )
        need_classes(source, found)
        return found
