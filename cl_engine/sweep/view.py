"""Views of a sweep: one that is kept up to date while it runs, and a table for when it is over or asked about."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cl_engine.analysis.names import one_line
from cl_engine.core.narrow import bar, fitted, flow
from cl_engine.core.text import duration, size
from cl_engine.sweep.folder import Entry
from cl_engine.sweep.status import Status

SHOWN_RUNNING, SHOWN_FAILED, SHOWN_ROWS, SHOWN_COLUMNS = 8, 20, 30, 5
NARROW = 100  # width where the output is no terminal
TICK = 0.2  # seconds between two pictures
FILES = 4  # of a run: log, checkpoint, lock, attempts
EVERY = 10.0  # seconds between two lines about counts where the output is no terminal


class View:
    """Shows counts, running runs and the best one, kept up to date on a terminal; a line for each run in a file.

    >>> View(quiet=True).close()
    """

    def __init__(self, terminal: Console | None = None, quiet: bool = False) -> None:
        self.terminal = terminal or Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.live = Live(console=self.terminal, transient=True, refresh_per_second=4) if self._may_move else None
        self.started = False
        self.counted = time.monotonic()

    @property
    def _may_move(self) -> bool:
        return self.terminal.is_terminal and not self.quiet

    def __call__(self, tally: Status, said: str) -> None:
        """Show how the sweep stands, and what has happened."""
        now = time.monotonic()
        if said and not self.quiet:
            self.terminal.print(Text(said), soft_wrap=True)
        if self.live is not None and now - self.counted > TICK:
            self.counted = now
            if not self.started:
                self.live.start()
                self.started = True
            self.live.update(_picture(tally, self.terminal.width))
        elif self.live is None and not self.quiet and now - self.counted > EVERY:
            self.counted = now
            self.terminal.print(Text(_line(tally)), soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self.live is not None and self.started:
            self.live.update(Text(""))
            self.live.stop()


def print_status(tally: Status, out: Console | None = None) -> None:
    """Print how a sweep stands: counts, its runs, the best first, and what is wrong with those that failed or are damaged."""
    out = out or _console()
    out.print(Text(_line(tally), style="bold"), soft_wrap=not out.is_terminal)
    if tally.entries:
        _print_runs(tally, out)
    if tally.done and tally.warning:
        out.print(Text(tally.warning, style="yellow"), soft_wrap=not out.is_terminal)
    damaged = {name: look.fault for name, look in tally.looks.items() if look.fault and name not in tally.failed}
    for word, faults in (("failed", tally.failed), ("damaged", damaged)):
        for name, error in list(faults.items())[:SHOWN_FAILED]:
            out.print(
                Text(f"{word:<8} {tally.label(name)}: {one_line(error)}", style="red"), soft_wrap=not out.is_terminal
            )
        if len(faults) > SHOWN_FAILED:
            out.print(Text(f"         and {len(faults) - SHOWN_FAILED} more", style="red"))


def print_needs(
    counts: Mapping[str, int], needs: Mapping[str, Mapping[str, float]], threads: int, slots: int, why: str
) -> None:
    """Print what a sweep would take, kind by kind and in all, as far as was measured.

    Args:
        counts: runs of each kind.
        needs: what was measured of a kind: ``seconds``, and bytes of ``memory``, ``log`` and ``checkpoint``.
        threads: CPU threads of a run.
        slots: runs at a time on this machine, and ``why`` no more.
    """
    out = _console()
    table = _table("", "runs", "a run", "memory", "log", "checkpoint", "core-hours")
    seconds = disk = 0.0
    for kind, count in counts.items():
        need = needs.get(kind)
        if need is None:
            table.add_row(one_line(kind), str(count), *["–"] * 5)
            continue
        seconds += 0 if math.isnan(need["seconds"]) else count * need["seconds"]
        disk += count * (need["log"] + need["checkpoint"])
        sizes = (size(need[key]) for key in ("memory", "log", "checkpoint"))
        hours = f"{count * need['seconds'] * threads / 3600:.3f}"
        table.add_row(one_line(kind), str(count), duration(need["seconds"]), *sizes, hours)
    out.print(fitted(table, out))
    total = sum(counts.values())
    out.print(Text(f"{total} runs: {seconds * threads / 3600:.3f} core-hours, {size(disk)} in {FILES * total} files"))
    out.print(Text(f"{slots} at a time ({why}): about {duration(round(seconds / slots))}"))


def _picture(tally: Status, width: int) -> Group:
    done = bar((len(tally.done) + len(tally.dropped)) / max(1, len(tally.entries)), min(30, width // 3))
    parts = [flow([Text("sweep", style="bold"), done, Text(tally.counts()), Text(_left(tally))], width)]
    for name, each in list(tally.running.items())[:SHOWN_RUNNING]:
        heard = each.heard
        far = f"{heard.learned}/{heard.of}" if heard and heard.of else (str(heard.learned) if heard else "starting")
        took = duration(round(time.monotonic() - each.since))
        shown = [Text("  " + far, style="cyan"), Text(tally.label(name)), Text(took, style="dim")]
        parts.append(flow(shown, width, indent=4))
    if len(tally.running) > SHOWN_RUNNING:
        parts.append(Text(f"  and {len(tally.running) - SHOWN_RUNNING} more", style="dim"))
    if tally.best:
        parts.append(Text("  " + tally.shown_best(), style="green"))
    return Group(*parts)


def _left(tally: Status) -> str:
    going = bool(tally.running or tally.waiting)
    return f"about {duration(round(tally.left))} left" if math.isfinite(tally.left) and going else ""


def _line(tally: Status) -> str:
    return "; ".join(part for part in (tally.counts(), _left(tally), tally.shown_best()) if part)


def _print_runs(tally: Status, out: Console) -> None:
    entries = tally.entries
    varied = tally.varied[-SHOWN_COLUMNS:]
    several = len({entry.scenario for entry in entries.values()}) > 1
    objective, validated = tally.options.objective, tally.rows == "validation"
    scores = [f"{objective}, validation", f"{objective}, test"] if validated else [objective]
    table = _table(*(["scenario"] if several else []), "strategy", *varied, *scores, "learned", "time", "status")
    rest = [name for name in entries if tally.looks[name].status != "finished"]
    names = [*tally.done, *rest]
    for name in names[:SHOWN_ROWS]:
        entry, look = entries[name], tally.looks[name]
        cells = [*([entry.scenario] if several else []), entry.strategy]
        cells += [_value(entry, key) for key in varied]
        cells += [tally.shown(look.on(rows)) for rows in (("validation", "test") if validated else (tally.rows,))]
        cells += [str(look.learned), duration(look.seconds), _status(tally, name)]
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    out.print(fitted(table, out))
    if len(names) > SHOWN_ROWS:
        out.print(Text(f"{SHOWN_ROWS} of {len(names)} runs are shown, the best first", style="dim"))


def _value(entry: Entry, key: str) -> str:
    if key == "seeds":
        return ", ".join(map(str, entry.seeds))
    return str(entry.changes[key]) if key in entry.changes else ""


def _status(tally: Status, name: str) -> str:
    if name in tally.running:
        return "running"
    if name in tally.failed:
        return "failed"
    if name in tally.dropped:
        by = tally.dropped_by.get(name, "")
        return f"dropped after {tally.dropped[name]}{f' ({by})' if by else ''}"
    status = tally.looks[name].status
    words = {"new": "waiting", "running": "interrupted"}
    reference = " (reference)" if tally.entries[name].reference and status == "finished" else ""
    return words.get(status, status) + reference


def _table(*heads: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        words = head in ("", "scenario", "strategy", "status")
        table.add_column(one_line(head), justify="left" if words else "right", no_wrap=not words, overflow="fold")
    return table


def _console() -> Console:
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=max(NARROW, out.width))
