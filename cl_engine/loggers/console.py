"""Progress of a run in the terminal."""

from __future__ import annotations

import math
import time

from rich.console import Console as Terminal
from rich.live import Live
from rich.text import Text

from cl_engine import events
from cl_engine.core.measure import Measure
from cl_engine.core.narrow import bar, flow
from cl_engine.core.text import duration, size
from cl_engine.data.stream import Stream

WEIGHT_OF_NEWEST = 0.3
BAR = 24  # cells
A_SECOND = 10  # pictures


class Console:
    """A progress bar with the time left on a terminal; a line an experience where the output is a file.

    On a narrow terminal it takes several lines, so that task, scores and time left are always there.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> console = Console("mine", Experiment.of(small.scenario(), "finetune").stream(), quiet=True)
    >>> console.close()
    """

    def __init__(self, label: str, stream: Stream, terminal: Terminal | None = None, quiet: bool = False) -> None:
        self.label, self.stream, self.quiet = label, stream, quiet
        self.terminal = terminal or Terminal(stderr=True)
        self.live = self.terminal.is_terminal and not quiet
        self.began = time.perf_counter()
        self.each: float | None = None
        self.memory = 0
        self.picture: Live | None = None
        self.done, self.counted, self.what, self.left = 0.0, "", "starting", ""
        self.score: list[str] = []
        self.met: set[int] = set()
        self.row: dict[int, float] = {}  # the newest score of each task, mean over seeds

    def __call__(self, event: events.Event) -> None:
        """Take in an event."""
        match event:
            case events.StreamStarted():
                self._start(event)
            case events.TaskStarted():
                self.began = time.perf_counter()
                self._show(event.step, f"learning {self.stream.name_of(event.task_id)}", 0.0)
            case events.Progress():
                self._show(event.step, None, 0.9 * event.done)
            case events.Evaluated() if not self.stream.only_accuracy:
                self.row[event.task_id] = _mean(tuple(event.score))
            case events.ScoresReused() if not self.stream.only_accuracy:
                self.row |= {
                    int(task): _mean(tuple(row)) for task, row in zip(event.task_ids, event.score, strict=True)
                }
            case events.TaskLearned():
                self.met.add(event.task_id)
                self.memory = sum(event.memory.values())
                self._show(event.step, "testing", 0.9)
            case events.Scored() if event.step >= 0:
                self._scored(event)
            case events.StreamEnded():
                self.close()

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self.picture is not None:
            self.picture.stop()
            self.picture = None

    def _start(self, event: events.StreamStarted) -> None:
        if not self.live:
            return
        self.done = event.step + 1
        self.picture = Live(
            get_renderable=self._picture, console=self.terminal, transient=True, refresh_per_second=A_SECOND
        )
        self.picture.start()

    def _picture(self) -> Text:
        total, width = self.stream.n_steps, self.terminal.width
        parts = [
            Text(self.label),
            bar(self.done / total, min(BAR, width // 3)) if total else Text(),
            Text(self.counted),
            Text(self.what, style="dim"),
            *(Text(score, style="cyan") for score in self.score),
            Text(self.left, style="green"),
        ]
        return flow(parts, width, gap=1)

    def _show(self, step: int, what: str | None, share: float) -> None:
        if self.picture is None:
            return
        self.done, self.counted = step + share, self._counted(step)
        if what is not None:
            self.what = what
        left = self._left(step + share)
        if left is not None:
            self.left = f"{duration(round(left))} left"

    def _counted(self, step: int) -> str:
        total = self.stream.n_steps
        return f"{step + 1}/{total}" if total else f"{step + 1}"

    def _scored(self, event: events.Scored) -> None:
        took = time.perf_counter() - self.began
        self.each = took if self.each is None else (1 - WEIGHT_OF_NEWEST) * self.each + WEIGHT_OF_NEWEST * took
        acc, bwt = (_mean(values) for values in (event.acc, event.bwt))
        score = [f"ACC {acc:.3f}"] if math.isfinite(acc) else []
        score += [f"BWT {bwt:+.3f}"] if math.isfinite(acc) and math.isfinite(bwt) else []
        if self.picture is not None:
            self.score = score if self.stream.only_accuracy else self._by_measure()
            self._show(event.step, None, 1.0)
        elif not self.quiet:
            left = self._left(event.step + 1)
            rest = f"{duration(round(left))} left" if left is not None else ""
            told = " ".join(score) if self.stream.only_accuracy else ", ".join(self._by_measure())
            said = ", ".join(part for part in (told, f"memory {size(self.memory)}", rest) if part)
            line = f"{self.label}: {self._counted(event.step)} {said}"
            self.terminal.print(Text(line), soft_wrap=True)

    def _by_measure(self) -> list[str]:
        """Return the mean score of each measure over the tasks met that have been tested."""
        found: dict[Measure, list[float]] = {}
        for task in sorted(self.met & self.row.keys()):
            found.setdefault(self.stream.target(task).measure, []).append(self.row[task])
        return [
            f"{measure.name} {sum(held) / len(held):.3g}{'' if measure.higher else ' (less is better)'}"
            for measure, held in found.items()
        ]

    def _left(self, done: float) -> float | None:
        total = self.stream.n_steps
        return None if total is None or self.each is None else max(0.0, total - done) * self.each


def _mean(values: tuple[float, ...]) -> float:
    """Return the mean over the seeds that have a value: one that was stopped has none."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
