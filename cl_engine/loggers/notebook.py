"""Progress of a run in a notebook, and the choice of how progress is shown."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

from rich.console import Console as Terminal

from cl_engine import events
from cl_engine.data.stream import Stream
from cl_engine.loggers.console import Console

EVERY = 0.2  # seconds between two looks at most, so that a notebook is not written to all the time


class Notebook(Console):
    """Progress in the output of a notebook's cell, drawn anew in its place; needs no widgets.

    >>> issubclass(Notebook, Console)
    True
    """

    def __init__(self, label: str, stream: Stream) -> None:
        super().__init__(label, stream)
        self.live = True
        self.shown = -EVERY

    def __call__(self, event: events.Event) -> None:
        """Take in an event, and show what is new."""
        super().__call__(event)
        now = time.monotonic()
        if self.picture is not None and now >= self.shown + EVERY:
            self.shown = now
            self.picture.update(self._html())

    def close(self) -> None:
        """Show how it ended."""
        if self.picture is not None:
            self.what = self.left = ""
            self.picture.update(self._html())
            self.picture = None

    def _start(self, event: events.StreamStarted) -> None:
        from IPython.display import display

        self.done = event.step + 1
        self.picture = display(self._html(), display_id=True)

    def _html(self) -> Any:
        from IPython.display import HTML

        return HTML(self.text())

    def text(self) -> str:
        """Return it as HTML; no name is markup."""
        total = self.stream.n_steps
        ends = f' max="{total}" value="{self.done:g}"' if total else ""
        said = " ".join(part for part in (self.label, self.counted, self.what, *self.score, self.left) if part)
        return f"<progress{ends}></progress> {html.escape(said)}"


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
