"""What a score is: its name, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a score is: its name, its unit ("1": none), and whether more of it is better.

    >>> Measure("mean_angle", "degree", higher=False).title
    'mean_angle (degree, less is better)'
    """

    name: str
    unit: str = "1"
    higher: bool = True

    @property
    def title(self) -> str:
        """The name, with unit and direction where they are not as one would think."""
        said = [self.unit] * (self.unit != "1") + ["less is better"] * (not self.higher)
        return f"{self.name} ({', '.join(said)})" if said else self.name
