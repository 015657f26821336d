"""Progress of a run in the terminal."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from cl_engine import events
from cl_engine.core.measure import Measure
from cl_engine.core.text import duration, size
from cl_engine.data.stream import Stream

WEIGHT_OF_NEWEST = 0.3


class Console:
    """A progress bar with the time left on a terminal; a line an experience where the output is a file.

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
        self.bar: Any = None  # a Progress of rich, or what does as one
        self.task = TaskID(0)
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
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _start(self, event: events.StreamStarted) -> None:
        if self.live:
            self.bar = self._made(event.n_steps, event.step + 1)
            self.bar.start()

    def _made(self, total: int | None, done: int) -> Any:
        """Return a bar for so many experiences, of which some are done."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counted]}", markup=False),
            TextColumn("{task.fields[what]}", markup=False, style="dim"),
            TextColumn("{task.fields[score]}", markup=False, style="cyan"),
            TextColumn("{task.fields[left]}", markup=False, style="green"),
        )
        bar = Progress(*columns, console=self.terminal, transient=True)
        fields = {"counted": "", "what": "starting", "score": "", "left": ""}
        self.task = bar.add_task(self.label, total=total, completed=done, **fields)  # type: ignore[arg-type]
        return bar

    def _show(self, step: int, what: str | None, share: float) -> None:
        if self.bar is None:
            return
        total = self.stream.n_steps
        fields: dict[str, str] = {"counted": f"{step + 1}/{total}" if total else f"{step + 1}"}
        if what is not None:
            fields["what"] = what
        left = self._left(step + share)
        if left is not None:
            fields["left"] = f"{duration(round(left))} left"
        self.bar.update(self.task, completed=step + share, **fields)

    def _scored(self, event: events.Scored) -> None:
        took = time.perf_counter() - self.began
        self.each = took if self.each is None else (1 - WEIGHT_OF_NEWEST) * self.each + WEIGHT_OF_NEWEST * took
        acc, bwt = (_mean(values) for values in (event.acc, event.bwt))
        score = f"ACC {acc:.3f} BWT {bwt:+.3f}" if math.isfinite(acc) else ""
        score = score.replace(" BWT +nan", "").replace(" BWT nan", "")
        score = score if self.stream.only_accuracy else self._by_measure()
        if self.bar is not None:
            self.bar.update(self.task, completed=event.step + 1, score=score)
        elif not self.quiet:
            total, left = self.stream.n_steps, self._left(event.step + 1)
            counted = f"{event.step + 1}/{total}" if total else f"{event.step + 1}"
            rest = f"{duration(round(left))} left" if left is not None else ""
            said = ", ".join(part for part in (score, f"memory {size(self.memory)}", rest) if part)
            line = f"{self.label}: {counted} {said}"
            self.terminal.print(Text(line), soft_wrap=True)

    def _by_measure(self) -> str:
        """Return the mean score of each measure over the tasks met that have been tested."""
        found: dict[Measure, list[float]] = {}
        for task in sorted(self.met & self.row.keys()):
            found.setdefault(self.stream.target(task).measure, []).append(self.row[task])
        return ", ".join(
            f"{measure.name} {sum(held) / len(held):.3g}{'' if measure.higher else ' (less is better)'}"
            for measure, held in found.items()
        )

    def _left(self, done: float) -> float | None:
        total = self.stream.n_steps
        return None if total is None or self.each is None else max(0.0, total - done) * self.each


def _mean(values: tuple[float, ...]) -> float:
    """Return the mean over the seeds that have a value: one that was stopped has none."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
