"""The command `watch`: a running run shown in the terminal, from its log alone, on any machine that sees the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cl_engine.analysis.live.snapshot import Snapshot, snapshot
from cl_engine.analysis.names import one_line
from cl_engine.analysis.plots.style import plain
from cl_engine.core.narrow import bar
from cl_engine.core.text import duration, number, size
from cl_engine.errors import UsageError
from cl_engine.results.log_file import LOG_NAME

ATTEMPTS = 10  # times in a row that a file that is there may be unreadable: it may be about to be replaced
BLOCKS = "▁▂▃▄▅▆▇█"
LONGEST = 66  # letters of an event, where there is not room for more
WRITTEN = 12  # tasks whose score is written as a number


class Follower:
    """Reads a log again whenever it was published again; a file that is gone for a moment does not disturb it.

    >>> from pathlib import Path
    >>> Follower(Path("results/run")).file.name
    'log.h5'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._failed = 0

    @property
    def file(self) -> Path:
        """The log itself: the path, or the log in that folder."""
        return self.path if self.path.is_file() or self.path.suffix == ".h5" else self.path / LOG_NAME

    def news(self) -> Snapshot | None:
        """Return what the log says if it was published since it was asked last; None if not, or if there is none now.

        Raises:
            UsageError: if the file is there and cannot be read, ten times in a row.
        """
        try:
            found = self.file.stat()
        except OSError:
            return None
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        if state == self._seen:
            return None
        try:
            news = snapshot(self.file)
        except (UsageError, OSError, LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            self._failed += 1
            if self._failed < ATTEMPTS:
                return None
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{self.file} cannot be read: {error}") from None
        self._seen, self._failed = state, 0
        return news


def watch(path: Path, interval: float = 1.0, once: bool = False, out: Console | None = None) -> str:
    """Show how a run gets on until it ends, and return its status; before it has begun, wait for it.

    On a terminal the picture is renewed in place; where the output is a file, there is a line for each new experience.
    With ``once`` what is known now is shown once.

    Raises:
        UsageError: if the file is not the log of a run, or with ``once`` there is none; or there can be none, as nothing is where
            its folder would be.
    """
    out = out or Console(highlight=False)
    try:
        path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    follower = Follower(path)
    if once:
        return _once(follower, out)
    _check_place(path)
    news = follower.news()
    if news is None:
        sentence = f"waiting for {follower.file} to be written: a run writes it when it saves for the first time"
        out.print(_text(one_line(sentence)), soft_wrap=True)
    return _live(follower, news, interval, out) if out.is_terminal else _lines(follower, news, interval, out)


def _check_place(path: Path) -> None:
    """Refuse to wait where no run is about to begin: at a file that is no log, and in a folder whose parent is not there."""
    how = f"give a run's folder or its {LOG_NAME}"
    if path.is_file() and path.suffix != ".h5" and not h5py.is_hdf5(path):
        raise UsageError(f"{path} is a file, and not the log of a run: {how}")
    folder = path.parent if path.suffix == ".h5" else path
    if folder.exists() and not folder.is_dir() and not path.is_file():
        raise UsageError(f"{folder} is a file, so that no run can write there: {how}")
    if not folder.exists() and not folder.parent.is_dir():
        raise UsageError(f"there is no folder {folder.parent}, so that no run is about to write {folder}: {how}")


def _once(follower: Follower, out: Console) -> str:
    for _ in range(ATTEMPTS):
        if (news := follower.news()) is not None:
            out.print(shown(news, out.width))
            return news.status
        time.sleep(0.02)
    raise UsageError(f"there is no log at {follower.file}: give a run's folder or its {LOG_NAME}")


def _snapshots(
    follower: Follower, now: Snapshot | None, interval: float, idle: Callable[[Snapshot], None]
) -> Iterator[Snapshot]:
    """Yield each new moment of a run until its last; call ``idle`` with the newest one in between."""
    while True:
        if now is not None:
            yield now
            if now.status != "running":
                return
        latest, now = now, None
        while now is None:
            time.sleep(interval)
            now = follower.news()
            if now is None and latest is not None:
                idle(latest)


def _live(follower: Follower, news: Snapshot | None, interval: float, out: Console) -> str:
    status = ""
    with Live(console=out, auto_refresh=False, transient=False) as live:

        def draw(now: Snapshot) -> None:
            live.update(shown(now, out.width), refresh=True)

        for now in _snapshots(follower, news, interval, draw):
            draw(now)
            status = now.status
    out.print(_text(_end(status)))
    return status


def _lines(follower: Follower, news: Snapshot | None, interval: float, out: Console) -> str:
    status, told, silent = "", 0, False

    def mind(now: Snapshot) -> None:
        nonlocal silent
        if now.silence > now.patience and not silent:
            silent = True
            out.print(_text(_silence(now)), soft_wrap=True)

    for now in _snapshots(follower, news, interval, mind):
        told = min(told, now.done)  # a run that went on from an earlier save learns some experiences again
        for step in range(told, now.done):
            out.print(_text(_line(now, step)), soft_wrap=True)
        told, status, silent = now.done, now.status, False
    out.print(_text(f"{now.name}: {_end(status)}"), soft_wrap=True)
    return status


def _line(now: Snapshot, step: int) -> str:
    counted = f"{step + 1}/{now.planned}" if now.planned else f"{step + 1}"
    parts = [f"{_acc(now)} {now.acc[step]:.3f}"] if np.isfinite(now.acc[step]) else []
    parts += [f"BWT {now.bwt[step]:+.3f}"] if np.isfinite(now.bwt[step]) else []
    if step + 1 == now.done:
        parts += [_by_measure(now)] if len(now.by_measure) > 1 else []
        parts += [f"memory {size(sum(now.memory.values()))}"]
        parts += [f"{duration(round(now.left))} left"] if now.left > 0 else []
    return f"{now.name}: {counted} {', '.join(parts)}".rstrip()


def shown(now: Snapshot, width: int) -> Group:
    """Return a moment as it is shown on a terminal of this width."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    room = max(20, width - 14)
    facts.add_row("done", _progress(now, room))
    last = now.done - 1
    if last >= 0:
        facts.add_row("scores", _text(_by_measure(now) if len(now.by_measure) > 1 else _scores(now)))
        accs = now.acc[np.isfinite(now.acc)]
        if len(accs) > 1:
            line = _spark(accs, room, min(0.0, float(accs.min())), max(1.0, float(accs.max())))
            facts.add_row("ACC" if _acc(now) == "ACC" else "", line)
    if np.isfinite(now.row).any():
        facts.add_row("last row", _row(now, room))
    if len(now.curve):
        low = min(0.0, float(now.curve.min()))
        high = 1.0 if "accuracy" in now.curve_of else float(now.curve.max())
        line = _spark(now.curve, min(room, 40), low, high)
        line.append(f"  {now.curve[0]:.3f} to {now.curve[-1]:.3f}: {now.curve_of}")
        facts.add_row("learning", line)
    if now.memory:
        parts = ", ".join(f"{plain(name, 24)} {size(held)}" for name, held in now.memory.items())
        facts.add_row("memory", _text(f"{size(sum(now.memory.values()))} a seed ({parts})"))
    for k, (step, kind, told) in enumerate(now.events):
        facts.add_row("events" if k == 0 else "", _text(_cut(f"{step}: {kind} {told}", max(room, LONGEST))))
    head = _text(f"{plain(now.name, room)}, {now.seeds} seed{'s' if now.seeds != 1 else ''}: {now.status}", "bold")
    waiting = now.status == "running" and now.silence > now.patience
    return Group(head, facts, *([_text(_silence(now), "yellow")] if waiting else []))


def _scores(now: Snapshot) -> str:
    scores = {_acc(now): (now.acc, False), "BWT": (now.bwt, True), "forgetting": (now.forgetting, True)}
    values = [(name, _newest(found), signed) for name, (found, signed) in scores.items()]
    return "   ".join(f"{name} {number(value, signed=signed)}" for name, value, signed in values)


def _acc(now: Snapshot) -> str:
    """Return what the mean score over the tasks met is called: ACC, or by the one measure that is not accuracy."""
    names = [name for name in now.by_measure if name != "accuracy"]
    return f"{names[0]}{_way(now, names[0])}" if names else "ACC"


def _way(now: Snapshot, measure: str) -> str:
    return " (less is better)" if measure in now.less else ""


def _by_measure(now: Snapshot) -> str:
    """Return the mean score of each measure over the tasks learned: one over all of them would mean nothing."""
    return ", ".join(f"{name} {mean:.3g}{_way(now, name)}" for name, mean in now.by_measure.items())


def _progress(now: Snapshot, room: int) -> Text:
    text = _text(f"{now.done}/{now.planned} experiences" if now.planned else f"{now.done} experiences")
    if now.planned:
        text = bar(now.done / now.planned, min(24, room // 3)) + Text("  ") + text
    if now.status == "running":
        if now.left > 0:
            text.append(f", {duration(round(now.left))} left")
        if np.isfinite(now.each):
            text.append(f", {duration(now.each)} each")
        text.append(f", saved {duration(round(now.silence))} ago")
    return text


def _row(now: Snapshot, room: int) -> Text:
    """Show the score on each task: numbers of a few, blocks of many with the worst named if one measure is all of theirs."""
    tested = np.flatnonzero(np.isfinite(now.row))
    if len(tested) <= WRITTEN:
        return _text("  ".join(f"{task}: {now.row[task]:.2f}" for task in tested) + f"   (after {now.row_step})")
    counted = _text(f"{len(tested)} tasks after {now.row_step}")
    if len(now.by_measure) > 1:
        return counted
    scores = now.row[tested]
    text = _spark(scores, room, min(0.0, float(scores.min())), max(1.0, float(scores.max())))
    worst = tested[np.argsort(-scores if now.less else scores, kind="stable")[:3]]
    named = ", ".join(f"{task} {plain(now.tasks[task], 24)} {now.row[task]:.2f}" for task in worst)
    return text + _text("\n") + counted + _text(f"; worst: {named}")


def _spark(values: np.ndarray, room: int, low: float, high: float) -> Text:
    """Return numbers as blocks of eight heights, as many as there is room for; of more, means of neighbours."""
    parts = np.array_split(values, min(len(values), room))
    means = np.array([np.nanmean(part) for part in parts])
    heights = np.clip((means - low) / max(high - low, 1e-9) * len(BLOCKS), 0, len(BLOCKS) - 1)
    return Text("".join(BLOCKS[int(height)] for height in np.nan_to_num(heights)), style="cyan")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _newest(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else float("nan")


def _silence(now: Snapshot) -> str:
    return (
        f"nothing was saved for {duration(round(now.silence))}, though an experience takes {duration(now.each)}: the run may "
        "have been killed; the same command goes on with it"
    )


def _end(status: str) -> str:
    return {
        "finished": "finished",
        "stopped": "was stopped; the same command goes on with it",
        "failed": "failed; what was measured until then is in the log",
    }.get(status, f"ended as '{status}'")


def _text(text: str, style: str = "") -> Text:
    return Text(text, style=style)
