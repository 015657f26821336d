"""What a class of a user must have, looked for when it is named: a mistake is told before anything is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from cl_engine.data.source_stream import SourceStream
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.strategy import Strategy

# what the engine hands to a method, by the class that declares it
CALLED: dict[type, Mapping[str, tuple[str, ...]]] = {
    Strategy: {"start": (), "learn": ("experience",), "predict": ("x", "task_id")},
    Stream: {"task_id": ("step",), "__getitem__": ("step",), "test": ("task_id",)},
}


def check_plugin(what: str, kind: type[Any]) -> None:
    """Refuse a class that lacks a method, or one of whose methods does not take what it is given.

    Args:
        what: what it is and its name, as an error begins.
        kind: the class.

    Raises:
        UsageError: naming the method, and how it is to be written.
    """
    base = next((base for base in CALLED if issubclass(kind, base)), None)
    if base is None:
        return
    missing = [name for name in dir(kind) if getattr(inspect.getattr_static(kind, name), "__isabstractmethod__", False)]
    if missing:
        several = "methods" if len(missing) > 1 else "method"
        wanted = ", ".join(f"{name}{_declared(kind, name)}" for name in missing)
        raise UsageError(f"{what}: {kind.__name__} lacks the {several} {wanted}, which must be written")
    for name, given in CALLED[base].items():
        method = getattr(kind, name)
        if not _takes(method, [None, *given]):
            raise UsageError(
                f"{what}: {kind.__name__}.{name} is written as {name}{_signature(method)}; the engine calls it as "
                f"{name}({', '.join(('self', *given))})"
            )
    _check_made(what, kind)


def _check_made(what: str, kind: type[Any]) -> None:
    """Refuse a class whose ``__init__`` does not take what it is given."""
    makers: dict[Any, tuple[str, tuple[str, ...]]] = {
        None: ("net", ("seeds", "setting", "train")),
        _function(Stream.build): ("", ("device",)),
        _function(SourceStream.build): ("arrays", ("device",)),
    }
    maker = _function(getattr(kind, "build", None))
    if maker not in makers:  # it says itself what it is made of
        return
    first, named = makers[maker]
    if not _takes(kind, [None] if first else [], dict.fromkeys((*named, *kind.Options.model_fields))):
        wanted = ", ".join(["self", *([first] if first else []), *(f"{name}=…" for name in named), "**options"])
        raise UsageError(
            f"{what}: {kind.__name__}.__init__ is written as __init__{_signature(kind.__init__)}; the engine calls it as "
            f"__init__({wanted}): leave it out, or write it so"
        )


def _function(method: Any) -> Any:
    return getattr(method, "__func__", None)


def _takes(function: Callable[..., Any], given: list[Any], named: Mapping[str, Any] | None = None) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it does not say
        return True
    try:
        signature.bind(*given, **(named or {}))
    except TypeError:
        return False
    return True


def _signature(function: Callable[..., Any]) -> str:
    """Return the names that a function takes, without types and defaults."""
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    names = [stars.get(each.kind, "") + each.name for each in inspect.signature(function).parameters.values()]
    return f"({', '.join(names)})"


def _declared(kind: type[Any], name: str) -> str:
    found = inspect.getattr_static(kind, name)
    return _signature(found) if inspect.isfunction(found) else ""
