"""Rotated: the same images at ever new angles."""

from __future__ import annotations

from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.source_stream import SourceStream
from cl_engine.errors import UsageError
from cl_engine.options import option


class Rotated(SourceStream):
    """Rotated: every task is the whole source turned by its own angle (Lopez-Paz & Ranzato, 2017).

    With ``n`` tasks the angles are spread evenly from 0 to ``degrees``, or drawn if ``spread`` is false; without ``n``
    the stream has no end and each angle is drawn. Bilinear interpolation, corners filled with the value 0.

    >>> from cl_engine.testing.small import images
    >>> Rotated(images(), source="given", n=3, degrees=90).name_of(1)
    '30°'
    """

    degrees: float = option(180.0, "the largest angle", gt=0, le=360)
    spread: bool = option(True, "angles evenly spread rather than drawn, where the stream has an end")

    def prepare(self) -> None:
        if len(self.input_shape) != 3:
            raise UsageError(
                f"stream.source: '{self.source}' has no images to rotate, its inputs are {self.input_shape}"
            )

    def classes_of(self, kind: int) -> tuple[int, ...]:
        return tuple(range(self.arrays.classes))

    def global_label(self, kind: int, local: int) -> int:
        return kind * self.arrays.classes + local

    def angle(self, kind: int) -> float:
        """Return the angle of a task in degrees, counter-clockwise."""
        if self.spread and self.n_tasks is not None:
            return kind * self.degrees / self.n_tasks
        return float(rng.arrays(self.seed, "angle", kind).uniform(0, self.degrees))

    def transform(self, kind: int, x: Tensor) -> Tensor:
        from torchvision.transforms.functional import InterpolationMode, rotate  # 1 s to import: only when used

        angle = self.angle(kind)
        return x if angle == 0 else rotate(x, angle, InterpolationMode.BILINEAR)

    def title(self, kind: int) -> str:
        return f"{self.angle(kind):.0f}°"
