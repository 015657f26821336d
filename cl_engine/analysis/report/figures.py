"""The figures of a page: a picture for paper and for readers without scripts, and the same numbers as a figure to work in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cl_engine.analysis.charts.chart import Chart, packed
from cl_engine.analysis.charts.looks import looks
from cl_engine.analysis.names import differing, one_line
from cl_engine.analysis.plots.gallery import Picture
from cl_engine.analysis.report.document import drawn
from cl_engine.results.run import Run

Made = Mapping[str, Callable[[], Chart | None]]


class Figures:
    """What a page shows of its runs as pictures and figures.

    >>> Figures([]).letters
    {}

    Attributes:
        letters: the shapes of letters that all pictures share.
        faults: sentences on what could not be drawn, added to as it happens.
    """

    def __init__(self, faults: list[str]) -> None:
        self.letters: dict[str, str] = {}
        self.faults = faults

    def shown(self, pictures: Sequence[Picture], charts: Made, place: str, paper: bool = True) -> list[dict[str, Any]]:
        """Return pictures and figures as the templates show them, those with a name together; what cannot be drawn is a fault.

        Without ``paper`` what is there as a figure has no picture.
        """
        found = []
        for picture in pictures:
            chart = self._tried(place, picture.name, charts.get(picture.name, lambda: None))
            figure: dict[str, Any] | None = {"name": picture.name, "aid": picture.aid, "svg": ""}
            if paper or chart is None:
                figure = self._tried(place, picture.name, partial(self._picture, picture, place))
            if figure is not None:
                found.append({**figure, "chart": None if chart is None else packed(chart.data)})
        return found

    def aside(self) -> Figures:
        """Return others of the same page, whose letters and faults `join` adds to these."""
        return Figures([])

    def join(self, other: Figures) -> None:
        """Add the letters and faults of others."""
        self.letters.update(other.letters)
        self.faults += other.faults

    def _picture(self, picture: Picture, place: str) -> dict[str, Any] | None:
        fig = picture.draw()
        return None if fig is None else drawn(picture.name, picture.aid, fig, place, self.letters)

    def _tried(self, place: str, name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Exception as error:  # of whatever kind: the page goes on without it
            self.faults.append(f"The picture {place}-{name} could not be drawn: {type(error).__name__}: {error}")
            return None


def told_of(names: Sequence[str], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return what the page's script knows of the runs of a scenario: names, looks, and the words that a filter looks at."""
    options = differing(runs)
    return [
        {
            "name": name,
            "words": " ".join(
                [name, run.strategy, run.status, *(f"{key}={values[k]}" for key, values in options.items())]
            ),
            "light": look.light,
            "dark": look.dark,
            "dash": look.dash,
        }
        for k, (name, run, look) in enumerate(zip(map(one_line, names), runs, looks(runs), strict=True))
    ]
