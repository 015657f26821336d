"""Saves of a run: its state between two items of the agenda, the progress of its fits in the middle of one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cl_engine.checkpoints import file as checkpoint
from cl_engine.checkpoints.store import MIDWAY, Store
from cl_engine.events import Saved
from cl_engine.training.fit_progress import FitProgress


class Checkpointer:
    """Writes checkpoints, and counts the seconds they take.

    Two files: the checkpoint holds the state between two items of the agenda; beside it, while an experience is being
    learned, `MIDWAY` holds what its fits have come to. Either is replaced as a whole. The second means something only
    beside the checkpoint of the place it was begun from.

    >>> Checkpointer(to=None, share=None, every_epochs=0).possible
    False

    Attributes:
        every_epochs: epochs between two saves in the middle of an experience; 0: there are none.
        has_state: whether the state on disk is the one that the strategy has now.
    """

    def __init__(self, to: Path | Store | None, share: float | None, every_epochs: int) -> None:
        self.store = Store(to) if isinstance(to, Path) else to
        self.share = share
        self.every_epochs = every_epochs if to is not None else 0
        self.has_state = False
        self._began, self._seconds, self._epochs = time.perf_counter(), 0.0, 0
        self._midway: dict[str, Any] | None = None

    @property
    def possible(self) -> bool:
        """Whether there is a place to save to."""
        return self.store is not None

    @property
    def behind(self) -> bool:
        """Whether saving has taken more than its share of the run so far."""
        elapsed = time.perf_counter() - self._began
        return self.share is not None and self._seconds > self.share * elapsed

    def resumed(self, resume: dict[str, Any]) -> None:
        """Take in what a run goes on from."""
        self.has_state, self._midway = True, resume.get("midway")

    def journal(self, step: int) -> FitProgress | None:
        """Return the journal of the experience that begins, one taken up if it was being learned; None: none is kept."""
        midway, self._midway, self._epochs = self._midway, None, 0
        if not self.every_epochs:
            return None
        return FitProgress.restored(midway) if midway is not None and midway["learning"] == step else FitProgress()

    def due(self) -> bool:
        """Count an epoch; return whether to save after it."""
        self._epochs += 1
        return self._epochs % self.every_epochs == 0 and not self.behind

    def whole(self, state: dict[str, Any], cursor: int, began: float) -> Saved:
        """Write the state of a run; return the event that says so. ``began`` is when saving did, by the clock of `time`."""
        assert self.store is not None
        size = self.store.save(state)
        self.store.path.with_name(MIDWAY).unlink(missing_ok=True)
        self.has_state = True
        return Saved(step=state["step"], cursor=cursor, bytes=size, seconds=self._took(began))

    def midway(self, journal: FitProgress, step: int, cursor: int, seconds: float, began: float) -> Saved:
        """Write what the fits of the experience at ``step``, ``seconds`` old, have come to; return the event that says so."""
        assert self.store is not None
        content = {**journal.state(seconds), "learning": step}
        size = checkpoint.save(self.store.path.with_name(MIDWAY), content)
        return Saved(step=step, cursor=cursor, bytes=size, midway=True, seconds=self._took(began))

    def finished(self) -> None:
        """Keep the last checkpoint alone."""
        if self.store is not None:
            self.store.keep_newest_only()

    def _took(self, began: float) -> float:
        seconds = time.perf_counter() - began
        self._seconds += seconds
        return seconds
