"""Finding plug-ins by name: the package's own folders, entry points of other packages, ``module:object``, ``file.py:object``.

A plug-in that is broken is refused when it is asked for, and is in no other's way.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from typing import Any

from torch import nn

from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Source
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError, a_name, is_out_of_memory
from cl_engine.metrics.plugin import PluginMetric
from cl_engine.nn.architecture import Architecture
from cl_engine.nn.initialisation import initialised
from cl_engine.nn.target import Target
from cl_engine.options import named_with_options
from cl_engine.runs import plugin_names
from cl_engine.runs.guests import GUESTS
from cl_engine.runs.importing import attribute, imported, note, reason
from cl_engine.runs.plugin_checks import check_plugin
from cl_engine.runs.plugin_names import Kind, names, own
from cl_engine.runs.twin_names import unknown
from cl_engine.strategy import Strategy
from cl_engine.training.upkeep import Upkeep

__all__ = ["BASES", "SINGULAR", "Kind", "load", "names", "net", "net_builder", "own", "source", "summary"]
BASES: dict[Kind, type] = {
    "strategies": Strategy,
    "streams": Stream,
    "sources": Source,
    "nets": Architecture,
    "targets": Target,
    "labels": LabelFunction,
    "upkeep": Upkeep,
    "metrics": PluginMetric,
}
SINGULAR: dict[Kind, str] = {
    "strategies": "strategy",
    "streams": "stream",
    "sources": "source",
    "nets": "net",
    "labels": "view",
    "targets": "target",
    "upkeep": "upkeep",
    "metrics": "metric",
}


def summary(kind: Kind, name: str) -> str:
    """Return one line about a plug-in: the first of its docstring, read without importing it; empty if it has none.

    Raises:
        UsageError: if its file is not Python, or two packages bring one of that name.
    """
    _refuse_two(kind, name)
    if name in plugin_names.files(kind):
        try:
            tree = ast.parse(plugin_names.files(kind)[name].read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError) as error:
            raise UsageError(f"the {SINGULAR[kind]} '{name}' cannot be read: {error}") from None
        docs = [ast.get_docstring(node) for node in tree.body if isinstance(node, ast.ClassDef)]
        named = [doc for node, doc in zip(_classes(tree), docs, strict=True) if doc and _public(node, name)]
        return (named[0] if named else ast.get_docstring(tree) or "").partition("\n")[0]
    entry = plugin_names.entries(kind)[name][0]
    return f"from {entry.dist.name if entry.dist else 'another package'}: {entry.value}"


def load(kind: Kind, name: str) -> type[Any]:
    """Return the plug-in class of this name.

    ``module:Class`` and ``file.py:Class`` run code of that module or file, as importing it would.

    Raises:
        UsageError: if there is none, it cannot be imported, or it is not of that kind.
    """
    what = f"the {SINGULAR[kind]}"
    guest, _, rest = a_name(what, name).partition(":")
    if guest in GUESTS.get(kind, {}):
        return _welcomed(kind, guest, rest)
    if name.endswith(".py"):
        raise UsageError(f"{what} '{name}' is a file: name what is to be taken from it too, as in {name}:Mine")
    if ":" in name:
        named = attribute(what, name)
        for owner in (base.__module__.split(".")[0] for base in getattr(named, "__mro__", ())):
            if owner in GUESTS.get(kind, {}):
                return _welcomed(kind, owner, name)
        return _checked(kind, name, named)
    _refuse_two(kind, name)
    if name in plugin_names.files(kind):
        module = imported(what, f"cl_engine.{plugin_names.FOLDERS.get(kind, kind)}.{name}", name)
        base = BASES[kind]
        there = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
        found = [cls for cls in there if issubclass(cls, base) and not cls.__name__.startswith("_")]
        if not found:
            raise UsageError(f"{what} '{name}' is not there: {module.__file__} has no subclass of {base.__name__}")
        return found[0]
    if name in plugin_names.entries(kind):
        return _checked(kind, name, _of_entry(plugin_names.entries(kind)[name][0]))
    raise unknown(SINGULAR[kind], name, [*names(kind), *GUESTS.get(kind, {})])


def source(name: str) -> Source:
    """Return the source of this name: ``kind``, or ``kind/path`` for one that takes a path; options may follow.

    Options stand behind a question mark, as in ``folder/birds?upright=true``, with ``&`` between several.

    Raises:
        UsageError: if there is none, a path is missing or not wanted, or an option unknown or out of bounds.
    """
    named, options = named_with_options(name, "source")
    kind, _, path = named.partition("/") if ":" not in named else (named, "", "")
    cls: type[Source] = load("sources", kind)
    if cls.takes_path != bool(path):
        wanted = f"name it with a path, as '{kind}/NAME'" if cls.takes_path else f"it takes no path: name it '{kind}'"
        raise UsageError(f"source '{name}': {wanted}")
    (found := cls()).path = path
    found.configure(options, named)
    return found


def net_builder(
    name: str,
    options: dict[str, Any],
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    places: bool = False,
    vocabulary: int | None = None,
) -> Callable[[], nn.Module]:
    """Return a function that builds a freshly initialised net.

    ``name`` is that of a plug-in, or ``module:factory`` (or an entry point) for any callable that returns an ``nn.Module``.
    Such a factory is given the options, and, if its parameters are so called, ``input_shape``, ``num_classes`` (or
    ``outputs``), ``places`` and ``vocabulary``. The option ``init`` (`cl_engine.nn.initialisation`) holds for any net; a
    factory that has one of its own gets it. ``places`` says that answers are asked for at places, ``vocabulary`` how many
    tokens inputs are of.

    Raises:
        UsageError: if there is no such net, or its options are unknown, out of bounds, or too few for the tokens.
    """
    found = net(name)
    if inspect.isclass(found) and issubclass(found, Architecture):
        architecture: Architecture = found()
        if architecture.reads_images and len(input_shape) != 3:
            raise UsageError(
                f"net.name: '{name}' needs images [channels, height, width], found inputs of shape {input_shape}: choose another "
                "net, such as mlp"
            )
        if "vocabulary" in architecture.Options.model_fields:
            options = {**options, "vocabulary": _tokens(options.get("vocabulary"), vocabulary)}
        architecture.configure(options, "net")
        architecture.places, architecture.net_builder = places, net_builder
        return lambda: _built(name, input_shape, lambda: architecture.build(input_shape, outputs), architecture.init)
    known = _parameters(name, found)
    given = {"input_shape": input_shape, "num_classes": outputs, "outputs": outputs, "places": places}
    given |= {} if vocabulary is None else {"vocabulary": vocabulary}
    if name.startswith("torchvision.models:"):  # their factories hand it on as one of **kwargs
        known = {**known, "num_classes": inspect.Parameter("num_classes", inspect.Parameter.KEYWORD_ONLY)}
    arguments = {**{key: value for key, value in given.items() if key in known}, **options}
    init = "default" if "init" in known else arguments.pop("init", "default")
    return lambda: _built(name, input_shape, lambda: found(**arguments), init)


def net(name: str) -> Any:
    """Return what builds the net of this name: a class of `Architecture`, or any callable that returns an ``nn.Module``.

    Raises:
        UsageError: if there is none, or it cannot be imported.
    """
    guest, _, rest = name.partition(":")
    if guest in GUESTS["nets"]:
        return _welcomed("nets", guest, rest)
    if ":" in name:
        return attribute("the net", name)
    if name in plugin_names.entries("nets"):
        _refuse_two("nets", name)
        return _of_entry(plugin_names.entries("nets")[name][0])
    return load("nets", name)


def _tokens(chosen: Any, vocabulary: int | None) -> Any:
    """Return the number of tokens that a net is built for: what was chosen, or all there are."""
    if isinstance(chosen, int) and vocabulary is not None and chosen < vocabulary:
        raise UsageError(
            f"net.vocabulary: found {chosen}, and inputs are of {vocabulary} tokens: leave it out, or say more"
        )
    return vocabulary if chosen is None else chosen


def _built(name: str, input_shape: tuple[int, ...], build: Callable[[], nn.Module], init: str) -> nn.Module:
    try:
        module = build()
    except Exception as error:  # a builder of somebody else's may fail in any way
        if isinstance(error, UsageError) or is_out_of_memory(error):
            raise
        said = str(error) or type(error).__name__
        raise UsageError(f"net.name: '{name}' cannot be built for inputs of shape {input_shape}: {said}") from None
    if not isinstance(module, nn.Module):
        raise UsageError(f"net.name: '{name}' returned a {type(module).__name__}, not a torch.nn.Module")
    return initialised(module, init)


def _parameters(name: str, factory: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        raise UsageError(f"net.name: '{name}' is not a class or function that returns a torch.nn.Module") from None


def _refuse_two(kind: Kind, name: str) -> None:
    """Refuse a name that two packages bring: nobody could say afterwards which of them was run."""
    entries = plugin_names.entries(kind).get(name, [])
    if len(entries) + (name in plugin_names.files(kind)) > 1:
        raise UsageError(f"two packages bring a {SINGULAR[kind]} named '{name}'; one is {entries[-1].value}")


def _welcomed(kind: Kind, guest: str, rest: str) -> type[Any]:
    found: type[Any] = attribute(f"the {SINGULAR[kind]}", GUESTS[kind][guest][0])(rest)
    return found


def _of_entry(entry: EntryPoint) -> Any:
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:  # a foreign plug-in may fail in any way
        owner, why = entry.dist.name if entry.dist else "?", reason(error, "")
        raise UsageError(f"the plug-in '{entry.name}' of package '{owner}' cannot be imported: {why}") from error
    note(sys.modules[entry.module], found)
    return found


def _checked(kind: Kind, name: str, found: Any) -> type[Any]:
    base = BASES[kind]
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UsageError(
            f"'{name}' is not a {SINGULAR[kind]}: it must be a subclass of {base.__module__}.{base.__name__}"
        )
    check_plugin(f"the {SINGULAR[kind]} '{name}'", found)
    return found


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def _public(node: ast.ClassDef, name: str) -> bool:
    return node.name.lower() == name.replace("_", "")
