"""What a shell offers where a person presses Tab: names, options and folders, found without importing torch."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from cl_engine.runs.plugin_names import Kind

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
GOES_ON = ("=", ".", ":", "/", "?", "&")  # ends of words that are not over: no blank is put behind them
RESULTS = "results"
OPEN = "open"  # the type of an item that goes on


def scenarios(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the scenarios that come with the program, and files of one's own."""
    from cl_engine.runs.scenario_names import scenario_names

    found = _items(((name, "") for name in scenario_names()), incomplete)
    return [*found, *_files(incomplete, ".toml", among=bool(found))]


def strategies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer all strategies, Avalanche's behind ``avalanche:``, and files of one's own as ``file.py:``."""
    from cl_engine.runs.plugin_names import names
    from cl_engine.runs.twin_names import AVALANCHE

    if incomplete.startswith("avalanche:"):
        return _items(((f"avalanche:{name}", "") for name in sorted(AVALANCHE)), incomplete)
    found = _items([*((name, "") for name in names("strategies")), ("avalanche:", "any of Avalanche's")], incomplete)
    files = [] if ":" in incomplete else _files(incomplete, ".py", among=bool(found))
    return [*found, *(each if each.type == OPEN else _item(f"{each.value}:", "") for each in files)]


def sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer all sources, and behind ``?`` the options of one."""
    return _plugins("sources", incomplete)


def of_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer what there is of the kind that was typed before."""
    if (kind := ctx.params.get("kind")) == "scenarios":
        return [each for each in scenarios(ctx, param, incomplete) if not each.value.endswith((*GOES_ON, ".toml"))]
    return _plugins(kind, incomplete) if kind else []


def settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer what ``--set`` takes: options of the strategy and of training, ``TABLE.option``, and values where there are few."""
    scenario, chosen = _chosen(ctx)
    tables = _tables(scenario)
    key, equals, value = incomplete.partition("=")
    if equals:
        said, _, last = value.rpartition(",")  # a sweep takes several
        begin = f"{key}={said}," if said else f"{key}="
        kind = "sources" if key.endswith(".source") else PLUGGED.get(key)
        if kind:
            return [_item(f"{begin}{item.value}", item.help or "") for item in _plugins(kind, last)]
        return _items(((f"{begin}{each}", "") for each in _values(key, tables, chosen)), incomplete)
    table, dot, _ = key.rpartition(".")
    if dot:
        return _items(((f"{table}.{name}=", about) for name, about in _options(table, tables).items()), incomplete)
    from cl_engine.runs.option_names import options_of

    own = [(f"{name}=", about.meaning) for each in chosen for name, about in options_of("strategies", each).items()]
    training = [(f"{name}=", about) for name, about in _options("train", tables).items()]
    return _items(dict([*training, *own, *((f"{name}.", "") for name in OF_A_SCENARIO)]).items(), incomplete)


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer folders of runs, those below ``results`` before anything was typed."""
    return _folders(incomplete, "log.h5")


def sweeps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer folders of sweeps, those below ``results`` before anything was typed."""
    return _folders(incomplete, "sweep.json")


def formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer what runs can be exported to."""
    names = ("csv", "parquet", "netcdf", "tensorboard", "wandb-offline", "l2logger")
    return _items(((name, "") for name in names), incomplete)


def devices(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer devices by their usual names."""
    return _items(((name, "") for name in ("auto", "cpu", "cuda")), incomplete)


OF_A_SCENARIO = ("stream", "net", "train", "agenda", "backbone")
PLUGINS: dict[str, Kind] = {
    "stream": "streams",
    "net": "nets",
}  # tables whose options are those of the plug-in they name
PLUGGED: dict[str, Kind] = {
    "upkeep": "upkeep",
    "train.upkeep": "upkeep",
    "agenda.metrics": "metrics",
}  # options that name some


def _plugins(kind: Kind, incomplete: str) -> list[CompletionItem]:
    """Offer all plug-ins of a kind, and behind ``?`` the options of one."""
    from cl_engine.runs.option_names import options_of
    from cl_engine.runs.plugin_names import names

    head, mark, options = incomplete.partition("?")
    if not mark:
        return _items(((name, "") for name in names(kind)), incomplete)
    said, _, _ = options.rpartition("&")
    begin = f"{head}?{said}&" if said else f"{head}?"
    known = options_of(kind, head.partition("/")[0])
    return _items(((f"{begin}{key}=", about.meaning) for key, about in known.items()), incomplete)


def _options(table: str, tables: dict[str, Any]) -> dict[str, str]:
    """Return the options of a scenario's table with their meanings, as far as they can be known."""
    from cl_engine.runs.option_names import options_of, options_of_table

    if table == "backbone.train":
        table = "train"
    if table not in PLUGINS:
        return {name: about.meaning for name, about in options_of_table(table).items()}
    known = options_of(PLUGINS[table], _named(tables, table))
    return {"name": f"one of `list {PLUGINS[table]}`", **{name: about.meaning for name, about in known.items()}}


def _values(key: str, tables: dict[str, Any], chosen: Iterable[str]) -> Iterable[str]:
    """Return what may stand behind a key, where that is one of a few words."""
    from cl_engine.runs.option_names import options_of, options_of_table
    from cl_engine.runs.plugin_names import names

    table, _, option = key.rpartition(".")
    if table in PLUGINS and option == "name":
        return names(PLUGINS[table])
    if table in PLUGINS:
        known = options_of(PLUGINS[table], _named(tables, table))
    elif table:
        known = options_of_table(table)
    else:
        known = options_of_table("train")
        for each in chosen:
            known = known | options_of("strategies", each)
    return known[option].values if option in known else ()


def _chosen(ctx: click.Context) -> tuple[str, list[str]]:
    """Return the scenario and the strategies that were typed; of a command about a run, those that its folder is called by."""
    given = ctx.params
    named = [given["strategy"]] if given.get("strategy") else list(given.get("strategies") or ())
    several = given.get("targets") or ()
    words = [
        given.get("scenario"),
        given.get("run"),
        *several,
        *ctx.args,
    ]  # click leaves words there, before a bare --set
    word = next((str(word) for word in words if word), "")
    parts = Path(word).name.rsplit("-", 2)  # a run's folder
    return (parts[0], [parts[1]]) if "run" in given and len(parts) == 3 else (word, named)


def _tables(scenario: str) -> dict[str, Any]:
    from cl_engine.runs.scenario_names import FOLDER

    for path in (Path(scenario), FOLDER / f"{scenario}.toml"):
        try:
            return tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            continue
    return {}


def _named(tables: dict[str, Any], table: str) -> str:
    found = tables.get(table)
    return str(found.get("name", "")) if isinstance(found, dict) else ""


def _folders(incomplete: str, file: str) -> list[CompletionItem]:
    """Offer folders that hold a file, and those that lead to more."""
    if incomplete:
        return _paths(incomplete, lambda path: False, file)
    return [
        _item(str(each.parent), "") for deep in ("*", "*/*") for each in sorted(Path(RESULTS).glob(f"{deep}/{file}"))
    ]


def _files(incomplete: str, ending: str, among: bool) -> list[CompletionItem]:
    """Offer files of one's own; ``among`` other names folders are left out, unless a path is being typed."""
    found = _paths(incomplete, lambda path: path.suffix == ending)
    return [each for each in found if "/" in incomplete or not among or not each.value.endswith("/")]


def _paths(incomplete: str, wanted: Callable[[Path], bool], file: str = "") -> list[CompletionItem]:
    """Offer the files that are wanted, the folders that hold ``file``, and as words that go on all other folders."""
    folder, slash, begin = incomplete.rpartition("/")
    try:
        there = sorted(path for path in Path(folder or slash or ".").iterdir() if path.name.startswith(begin))
    except (OSError, ValueError):
        return []
    found = []
    for path in there:
        if path.name.startswith(".") and not begin.startswith("."):
            continue
        shown = f"{folder}{slash}{path.name}"
        if path.is_dir():
            found.append(_item(shown if file and (path / file).is_file() else f"{shown}/", ""))
        elif wanted(path):
            found.append(_item(shown, ""))
    return found


def _items(names: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [_item(name, about) for name, about in names if name.startswith(incomplete)]


def _item(value: str, about: str) -> CompletionItem:
    return CompletionItem(value, type=OPEN if value.endswith(GOES_ON) else "plain", help=about or None)
