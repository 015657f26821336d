"""What every figure of a paper can be told: labels, title, axes and size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_engine.analysis.comparison.labels import renamed
from cl_engine.analysis.plots.style import SIZES, figure, legend, numbers_of, sized, styled
from cl_engine.errors import unknown

P = ParamSpec("P")


class Look(TypedDict, total=False):
    """The arguments that all figures here take; what is left out is chosen by the figure.

    >>> Look(title="", size="column")
    {'title': '', 'size': 'column'}

    Attributes:
        labels: other names of methods, streams and scores.
        title: empty: none.
        xlabel, ylabel: beside the axes.
        xlim, ylim: their ends.
        size: ``column``, ``text``, ``page`` or ``screen``, or width and height in inches.
        legend: whether there is one.
    """

    labels: Mapping[str, str]
    title: str
    xlabel: str
    ylabel: str
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    size: str | tuple[float, float]
    legend: bool


def of_paper(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw in the house style, with letters that suit the ``size`` it is asked for."""
    drawn = styled(draw)

    @functools.wraps(draw)
    def as_wide_as_asked(*args: P.args, **kwargs: P.kwargs) -> Figure:
        size = kwargs.get("size", "screen")
        if isinstance(size, str) and size not in SIZES:
            raise unknown("size of figures", size, SIZES)
        with sized(size if isinstance(size, str) else "screen"):
            return drawn(*args, **kwargs)

    return as_wide_as_asked


class Drawing:
    """A figure while it is drawn: its axes, the names and the colours of what is in it.

    >>> Drawing({"labels": {"replay": "ER"}}, ["replay"]).name("replay")
    'ER'
    """

    def __init__(
        self,
        look: Look,
        methods: Sequence[str],
        others: Sequence[str] = (),
        strategies: Mapping[str, str] | None = None,
    ) -> None:
        self.look = look
        self.name = renamed(look.get("labels"), [*methods, *others])
        of = [(strategies or {}).get(method, method) for method in methods]
        self.number = dict(zip(methods, numbers_of(of), strict=True))
        self.fig: Figure
        self.axes: Axes
        size = look.get("size", "screen")
        self.fig, self.axes = figure()
        self.height: float | None = None if isinstance(size, str) else size[1]
        if not isinstance(size, str):
            self.fig.set_size_inches(*size)

    def tall(self, inches: float) -> None:
        """Let it be so high on the screen, and in proportion elsewhere, unless its height was chosen."""
        if self.height is None:
            self.fig.set_figheight(inches * (self.fig.get_figwidth() / SIZES["screen"][0]) ** 0.75)

    def finished(self, title: str, xlabel: str, ylabel: str, **ends: Any) -> Figure:
        """Write title and axes, as they were asked for or else as given here, and return the figure."""
        look = self.look
        self.axes.set_title(look.get("title", title))
        self.axes.set(xlabel=look.get("xlabel", xlabel), ylabel=look.get("ylabel", ylabel))
        for end in ("xlim", "ylim"):
            chosen = look.get(end, ends.get(end))
            if chosen is not None:
                getattr(self.axes, f"set_{end}")(chosen)
        if look.get("legend", True) and self.axes.get_legend_handles_labels()[0]:
            legend(self.fig, self.axes)
            if self.height is not None:
                self.fig.set_figheight(self.height)
        return self.fig
