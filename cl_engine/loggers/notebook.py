"""Progress of a run in a notebook, and the choice of how progress is shown."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

from rich.console import Console as Terminal

from cl_engine.data.stream import Stream
from cl_engine.loggers.console import Console

EVERY = 0.2  # seconds between two looks at most, so that a notebook is not written to all the time


class NotebookBar:
    """A bar in the output of a cell, drawn anew in its place; needs no widgets.

    >>> bar = NotebookBar("mine", 4, show=lambda text: None)
    >>> bar.update(0, completed=1, score="ACC 0.9")
    >>> bar.text()
    '<progress max="4" value="1"></progress> mine ACC 0.9'
    """

    def __init__(self, label: str, total: int | None, show: Any) -> None:
        self.label, self.total, self._show = label, total, show
        self.done = 0.0
        self.fields: dict[str, str] = {}
        self.shown = -EVERY

    def start(self) -> None:
        """Show it."""
        self._show(self.text())

    def update(self, task: Any, completed: float, **fields: str) -> None:
        """Say how much is done, and what else."""
        self.done = completed
        self.fields |= fields
        now = time.monotonic()
        if now >= self.shown + EVERY:
            self.shown = now
            self._show(self.text())

    def stop(self) -> None:
        """Show how it ended."""
        self._show(self.text())

    def text(self) -> str:
        """Return it as HTML."""
        ends = f' max="{self.total}" value="{self.done:g}"' if self.total else ""
        said = " ".join(part for part in (self.label, *self.fields.values()) if part)
        return f"<progress{ends}></progress> {html.escape(said)}"


class Notebook(Console):
    """Progress in the output of a notebook's cell.

    >>> issubclass(Notebook, Console)
    True
    """

    def __init__(self, label: str, stream: Stream) -> None:
        super().__init__(label, stream)
        self.live = True

    def _made(self, total: int | None, done: int) -> Any:
        from IPython.display import HTML, display

        held = display(HTML(""), display_id=True)
        bar = NotebookBar(self.label, total, lambda text: held.update(HTML(text)))
        bar.done = done
        return bar


def in_notebook() -> bool:
    """Return whether the code runs in a kernel of Jupyter, without importing it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def progress(label: str, stream: Stream, shown: bool | None = None) -> Console | None:
    """Return what shows the progress of a run: a bar on a terminal or in a notebook, a line an experience elsewhere.

    ``shown`` False: nothing; None: nothing but on a terminal and in a notebook.
    """
    if shown is False:
        return None
    if in_notebook():
        return Notebook(label, stream)
    return Console(label, stream) if shown or Terminal(stderr=True).is_terminal else None
