"""Scenario files: stream, net, training and agenda as TOML."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_engine.errors import UsageError, a_name, unknown
from cl_engine.options import value_in
from cl_engine.runs.scenario_names import FOLDER, scenario_names

__all__ = ["FOLDER", "TABLES", "Scenario", "parsed", "scenario_names"]
TABLES = ("stream", "net", "backbone", "train", "agenda", "strategy")


@dataclass(frozen=True)
class Scenario:
    """A scenario as read: its name, its unchecked tables, its text, the folder of its file (empty: it has none).

    ``logged`` says that the tables are those of a log: what was accepted when it was begun is accepted still.

    >>> Scenario.load("permuted_digits").tables["stream"]["name"]
    'permuted'
    """

    name: str
    tables: dict[str, Any]
    text: str
    folder: str = ""
    logged: bool = False

    @classmethod
    def load(cls, scenario: str | Path) -> Scenario:
        """Read a file, or the one of this name in ``scenarios/``.

        Raises:
            UsageError: if there is no such file, it is not TOML, or a table is missing or unknown.
        """
        if not isinstance(scenario, str | os.PathLike):
            raise UsageError(
                f"a scenario is a file, a name of `list scenarios`, or a Scenario; found a {type(scenario).__name__}: of tables "
                "one is made by Scenario.of(name, tables)"
            )
        path = Path(scenario)
        try:
            path = path if path.is_file() else FOLDER / f"{scenario}.toml"
            there = path.is_file()
        except OSError as error:  # a name that is too long, a folder that may not be looked into
            raise UsageError(f"the scenario {path} cannot be read: {error.strerror}") from None
        if not there or (path.parent == FOLDER and path.stem not in scenario_names()):
            raise unknown("scenario (nor file)", str(scenario), scenario_names())
        try:
            text = path.read_text(encoding="utf-8-sig")
            tables = tomllib.loads(text)
        except OSError as error:
            raise UsageError(f"the scenario {path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # tomllib says so of what is nested too deep
            raise UsageError(f"{path} is not TOML: {error}") from None
        folder = "" if path.parent == FOLDER else str(path.parent.absolute())  # beside our own lie no plug-ins
        return cls.of(path.stem, tables, text, str(path), folder)

    @classmethod
    def of(
        cls, name: str, tables: dict[str, Any], text: str = "", where: str = "scenario", folder: str = ""
    ) -> Scenario:
        """Make a scenario from its tables."""
        for table, content in tables.items():
            if table not in TABLES:
                raise UsageError(f"{where}: {unknown('table', table, TABLES)}")
            if not isinstance(content, dict):
                raise UsageError(f"{where}: {table} must be a table, found {content!r}")
        for table in ("stream", "net"):
            if not isinstance(tables.get(table, {}).get("name"), str):
                raise UsageError(f'{where}: the table [{table}] with a name = "…" is missing')
        for strategy, options in tables.get("strategy", {}).items():
            if not isinstance(options, dict):
                raise UsageError(
                    f"{where}: strategy.{strategy} must be a table [strategy.{strategy}], found {options!r}"
                )
        return cls(name, tables, text, folder)

    def with_overrides(self, strategy: str, overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the tables with the overrides in place, ``strategy`` being the options of this strategy alone.

        A strategy's table may hold tables ``net``, ``train`` and ``backbone``: options of its net, of training and of what nets
        start from, for that strategy.
        Where they or the overrides name another net, the scenario's options of its own net do not hold.
        """
        tables = {name: dict(self.tables.get(name, {})) for name in TABLES}
        own = dict(tables["strategy"].get(strategy, {}))
        for name in ("net", "train", "backbone"):
            changed = own.pop(name, {})
            if name == "backbone" and not isinstance(
                changed, dict
            ):  # an option of the strategy's own, as packnet has one
                own[name] = changed
                continue
            if not isinstance(changed, dict):
                raise UsageError(f"strategy.{strategy}.{name} must be a table, found {changed!r}")
            if name == "net" and changed.get("name", tables["net"]["name"]) != tables["net"]["name"]:
                tables["net"] = {}
            tables[name] |= changed
        tables["strategy"] = own
        if overrides.get("net.name", tables["net"]["name"]) != tables["net"]["name"]:
            tables["net"] = {}  # the scenario's options are those of another net
        for key, value in overrides.items():
            if isinstance(value, type):
                a_name(key, value)
            table, _, option = key.rpartition(".")
            if table.startswith("strategy"):
                raise UsageError(f"--set {key}: options of the strategy have no dot: --set {option}={value}")
            if table == "backbone.train":
                tables["backbone"]["train"] = {**tables["backbone"].get("train", {}), option: value}
                continue
            if table not in ("", *TABLES):
                near = difflib.get_close_matches(table, TABLES, n=1)
                hint = f" (did you mean '{near[0]}.{option}'?)" if near else ""
                raise UsageError(
                    f"--set {key}: no table '{table}'{hint}; there are: stream, net, backbone, train, agenda"
                )
            tables[table or "strategy"][option] = value
        return tables


def parsed(assignment: str) -> tuple[str, Any]:
    """Return key and value of ``KEY=VALUE``; the value is read as TOML, and as a plain string if it is not TOML."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {assignment}: write KEY=VALUE, as in --set train.lr=0.1")
    return key.strip(), value_in(text)
