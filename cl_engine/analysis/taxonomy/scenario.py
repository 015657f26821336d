"""The scenario of a policy: the run's own, with few labels where they are to be saved, and routes for the strategy `policy`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cl_engine.analysis.names import one_line
from cl_engine.analysis.taxonomy.affinities import Affinities
from cl_engine.analysis.taxonomy.policies import Policy
from cl_engine.errors import UsageError
from cl_engine.results.run import Run

BARE = re.compile(r"[A-Za-z0-9_-]+")
READOUT = ("hidden", "readout_epochs")  # options of readouts, which `taxonomy` and `policy` have in common
TABLES = ("stream", "net", "backbone", "train", "agenda")


def scenario_of(policy: Policy, affinities: Affinities, run: Run) -> str:
    """Return the scenario, as TOML, in which the strategy `policy` executes a policy that follows from a run.

    Tasks that are trained come first. Where the stream can withhold labels, those that a policy saves never reach the strategy;
    validation rows are labelled too and nothing is chosen any more, so that there are none.

    Raises:
        UsageError: if two tasks have one name, or the order of the run's tasks is not in its options.
    """
    names = affinities.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two tasks of {run.path} are called '{twice}'; routes between tasks need a name for each")
    options = run.experiment["options"]
    kinds = _kinds(options["stream"], names)
    order = [*policy.trained, *(task for task in range(len(names)) if task not in policy.trained)]
    used = {way.target: affinities.labels[way.target] if way.kind == "full" else way.labels for way in policy.ways}
    tables = {name: dict(options[name]) for name in TABLES if options.get(name)}
    tables["stream"] |= {"task_order": [kinds[task] for task in order], "revisit": 0, "validation": 0.0}
    if "labelled" in tables["stream"]:
        tables["stream"]["labelled"] = [used[kinds.index(kind)] for kind in range(len(names))]
    routed = [way for way in policy.ways if way.kind == "transfer"]
    own: dict[str, Any] = {"routes": {names[way.target]: [names[source] for source in way.sources] for way in routed}}
    if routed:
        own["labels"] = max(way.labels for way in routed)
    own |= {name: value for name, value in options.get("strategy", {}).items() if name in READOUT}
    trained = ", ".join(names[task] for task in policy.trained)
    head = (
        f"# The policy for a budget of {policy.budget}, by the transfers of {one_line(run.scenario)}.\n"
        f"# Trained are {one_line(trained)}.\n"
        "# Run it with:  python run.py run THIS_FILE -s policy\n"
    )
    return head + "".join(_table(name, table) for name, table in {**tables, "strategy.policy": own}.items())


def _kinds(stream: Mapping[str, Any], names: tuple[str, ...]) -> list[int]:
    """Return the place of each task in the stream's own order, which `task_order` counts in."""
    order, views = stream.get("task_order", 0), list(stream.get("views", ()))
    if isinstance(order, list):
        return list(order)[: len(names)]
    if not order:
        return list(range(len(names)))
    if set(names) <= set(views):
        return [views.index(name) for name in names]
    raise UsageError(
        f"stream.task_order: the run's is shuffle {order}; a policy can be written for a run with a list of tasks, or 0"
    )


def _table(name: str, content: Mapping[str, Any]) -> str:
    lines = [f"\n[{name}]\n"]
    lines += [f"{_key(key)} = {_value(value)}\n" for key, value in content.items() if value is not None]
    return "".join(lines)


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    """Return a value as TOML writes it; what is None in a table is left out."""
    match value:
        case Mapping():
            inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items() if each is not None)
            return f"{{ {inner} }}" if inner else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
