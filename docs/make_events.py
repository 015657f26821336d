"""Writes docs/events.md from the code: every event, and every array and column of a log.

python docs/make_events.py
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py

import cl_engine
from cl_engine import events
from cl_engine.events import Event, StrategyEvent, TaskTested
from cl_engine.loggers import columns as columns_of_tables
from cl_engine.loggers import recorder
from cl_engine.loggers.layout import create_results, create_validation
from cl_engine.loggers.tables import VALIDATION

PAGE = Path(__file__).parent / "events.md"
PACKAGE = Path(cl_engine.__file__).parent
LOGGED = {
    "EpochEnded": "`epochs`",
    "OnlineScored": "`online`",
    "CurvePoint": "`curves`",
    "EarlierTaskTested": "`stability`",
    "GuessScored": "`results/task_guess`",
    "TaskLearned": "`experiences`, `results/memory`, `results/seconds`",
    "Evaluated": "`results/score`, `sums`, or `accuracy`, `n_correct`, `n_total`",
    "ScoresReused": "`results/score`, `sums`, or `accuracy`, `n_correct`, `n_total`",
    "ValidationScored": "`results/validation`",
    "MetricScored": "`metrics`, `metric_sums`",
    "Scored": "`results/acc`, `bwt`, `fwt`, `forgetting`, `seconds`",
    "Saved": "`results/seconds`",
}
HEAD = """# Events and columns

Made from the code by `python docs/make_events.py`; a test fails when it is stale. [log-format.md](log-format.md) says what
the format promises.

`simulate` yields events; whoever reads them gets these objects. Every event has `step`, the experience it belongs to
(−1 before the first). Numbers of a seed each are tuples. `cl_engine.events.cells(event)` gives the cells of R that an event
tells of one by one, those that were tested and those that need not be.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [HEAD, "## Events of the engine\n", *_table(("event", "when", "fields", "logged in"), _engine())]
    parts += [
        "\n## Events of strategies\n",
        "Each number is a row of the table `events`: `kind` is the event, `name` the field. `Transferred` has its own tables.\n",
        *_table(("event", "strategies", "when", "fields"), _of_strategies()),
        "\n## Arrays of the group `results`\n",
        *_table(("array", "over", "type", "unit", "meaning"), _arrays()),
        "\n## Tables\n",
    ]
    names = (
        "experiences",
        "epochs",
        "online",
        "curves",
        "stability",
        "events",
        "metrics",
        "metric_sums",
        "transfers",
        "outcomes",
    )
    for name in names:
        columns = getattr(columns_of_tables, name.upper())
        rows = [(f"`{c.name}`", f"`{c.kind}`", c.unit, c.meaning) for c in columns]
        parts += [f"### `{name}`\n", *_table(("column", "type", "unit", "meaning"), rows), ""]
    return "\n".join(parts).rstrip() + "\n"


def _engine() -> Iterator[tuple[str, ...]]:
    named = [kind for kind in vars(events).values() if inspect.isclass(kind) and issubclass(kind, Event)]
    for kind in named:
        own = kind.__module__ == events.__name__
        if kind not in (Event, StrategyEvent, TaskTested) and (own or not issubclass(kind, StrategyEvent)):
            yield f"`{kind.__name__}`", _first(kind), _fields(kind), LOGGED.get(kind.__name__, "–")


def _of_strategies() -> Iterator[tuple[str, ...]]:
    users: dict[type, list[str]] = {}
    for path in sorted((PACKAGE / "strategies").glob("[a-z]*.py")):
        module = importlib.import_module(f"cl_engine.strategies.{path.stem}")
        for kind in {k for k in vars(module).values() if inspect.isclass(k) and issubclass(k, StrategyEvent)}:
            if kind is not StrategyEvent:
                users.setdefault(kind, []).append(path.stem)
    for folder in ("training", "recall", "masks", "modules"):  # events that a strategy hands on without naming them
        for path in sorted((PACKAGE / folder).glob("[a-z]*.py")):
            for kind in _events_in(importlib.import_module(f"cl_engine.{folder}.{path.stem}")):
                users.setdefault(kind, [f"those of `{folder}`"])
    for kind in sorted(users, key=lambda kind: kind.__name__):
        yield f"`{kind.__name__}`", ", ".join(users[kind]), _first(kind), _fields(kind)


def _events_in(module: Any) -> list[type[Event]]:
    own = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    return [kind for kind in own if issubclass(kind, StrategyEvent)]


def _arrays() -> Iterator[tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for classes_alone in (True, False):  # the second time those that there are where tasks ask for anything else
        stream: Any = SimpleNamespace(n_tasks=None, only_accuracy=classes_alone, most_sums=2)
        with h5py.File("columns", "w", driver="core", backing_store=False) as file:
            create_results(file.create_group("results"), [0], recorder.PHASES, stream)
            create_validation(file["results"], stream)
            within = file[f"results/{VALIDATION}"]
            arrays = {name: data for name, data in file["results"].items() if name != VALIDATION}
            for name, data in (arrays | {f"{VALIDATION}/{name}": within[name] for name in within}).items():
                axes = [dim[0].name.rpartition("/")[2] for dim in data.dims if len(dim)]
                kind = "str" if h5py.check_string_dtype(data.dtype) else data.dtype.str.lstrip("<|>")
                said = (data.attrs["units"], data.attrs["long_name"])
                found[name] = (f"`{name}`", ", ".join(axes) or "itself", f"`{kind}`", *said)
    yield from (found[name] for name in sorted(found))


def _fields(kind: type[Event]) -> str:
    return ", ".join(f"`{field.name}: {field.type}`" for field in dataclasses.fields(kind) if field.name != "step")


def _first(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _table(heads: tuple[str, ...], rows: Any) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(heads), line(("---",) * len(heads)), *map(line, rows)]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
