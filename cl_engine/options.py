"""Options as annotated class fields, checked by pydantic: one mechanism for strategies, streams, nets and settings."""

from __future__ import annotations

import inspect
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cl_engine.errors import UsageError, unknown

M = TypeVar("M", bound=BaseModel)
INSIDE = ("tuple[", "list[", "function-", "constrained-", "literal[")  # what pydantic calls alternatives of a type
STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def option(default: Any = ..., meaning: str = "", **limits: Any) -> Any:
    """Declare an option with its meaning and limits (``ge``, ``le``, … as in ``pydantic.Field``).

    ``default=...`` makes the option required. An option that is newer than experiments on disk says in ``before`` which value
    stands for what they did without it: with that value they stay the same experiments.
    """
    if "before" in limits:
        limits["json_schema_extra"] = {"before": limits.pop("before")}
    return Field(default, description=meaning, **limits)


def unsaid(model: type[BaseModel], values: Mapping[str, Any]) -> set[str]:
    """Return the options that stand as they did before there were such, as `option` declares: older experiments lack them."""
    extras = {name: info.json_schema_extra for name, info in model.model_fields.items()}
    before = {name: extra["before"] for name, extra in extras.items() if isinstance(extra, dict) and "before" in extra}
    return {name for name, value in before.items() if name in values and values[name] == value}


class OptionGroup(BaseModel):
    """Options that are handed on as one object; their keys stand beside the other options of the class that has the group.

    >>> class Colour(OptionGroup):
    ...     hue: int = option(0, "degrees", ge=0, lt=360)
    >>> Colour.of({"hue": 120, "watts": 5.0}).values()
    {'hue': 120}
    """

    model_config = STRICT

    @classmethod
    def fields(cls) -> dict[str, tuple[Any, FieldInfo]]:
        """Return type and declaration of every option, those of groups within this one among them."""
        found: dict[str, tuple[Any, FieldInfo]] = {}
        for name, info in cls.model_fields.items():
            found |= _group_fields(info.annotation) or {name: (info.annotation, info)}
        return found

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the group with those of its options that are among ``values``, the others by default."""
        found = {}
        for name, info in cls.model_fields.items():
            if _group_fields(info.annotation):
                found[name] = info.annotation.of(values)  # type: ignore[union-attr]
            elif name in values:
                found[name] = values[name]
        return cls(**found)

    def values(self) -> dict[str, Any]:
        """Return the options in force, by name."""
        found: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            found |= value.values() if isinstance(value, OptionGroup) else {name: value}
        return found


def _group_fields(annotation: Any) -> dict[str, tuple[Any, FieldInfo]]:
    """Return the options of a group; empty for what is none."""
    return annotation.fields() if inspect.isclass(annotation) and issubclass(annotation, OptionGroup) else {}


class Configured:
    """A class whose annotated fields with a value are its options.

    ``pull: float = 0.01`` or ``pull: float = option(0.01, "strength of the pull", ge=0)``. A field that is annotated
    without a value is not an option, unless it is an `OptionGroup`, whose options are then the class's too. `configure`
    checks the values given and sets them on the object.

    >>> class Spring(Configured):
    ...     pull: float = option(0.01, "strength of the pull", ge=0)
    >>> spring = Spring()
    >>> spring.configure({"pull": 2.0})
    >>> spring.pull
    2.0
    """

    Options: ClassVar[type[BaseModel]]
    _option_groups: ClassVar[dict[str, type[OptionGroup]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherited = getattr(cls, "Options", None)
        fields: dict[str, Any] = {}
        if inherited is not None:
            fields |= {name: (info.annotation, info) for name, info in inherited.model_fields.items()}
        hints = get_type_hints(cls, include_extras=True)
        groups = dict(cls._option_groups)
        for name in inspect.get_annotations(cls):
            if grouped := _group_fields(hints[name]):
                fields |= grouped
                groups[name] = hints[name]
                continue
            if name.startswith("_") or name not in cls.__dict__ or get_origin(hints[name]) is ClassVar:
                continue
            value = cls.__dict__[name]
            fields[name] = (hints[name], value)
            if isinstance(value, FieldInfo):
                if value.default is PydanticUndefined:
                    delattr(cls, name)
                else:
                    setattr(cls, name, value.default)
        cls._option_groups = groups
        cls.Options = create_model(f"{cls.__name__}Options", __config__=STRICT, **fields)

    def configure(self, options: Mapping[str, Any], where: str = "") -> None:
        """Check ``options`` and set them, with the defaults of those left out, on this object.

        Raises:
            UsageError: naming every unknown option and every value of a wrong type or outside its limits.
        """
        values = checked(self.Options, options, where).model_dump()
        for name, group in self._option_groups.items():
            setattr(self, name, group.of(values))
        grouped = {name for group in self._option_groups.values() for name in group.fields()}
        for name in values.keys() - grouped:
            setattr(self, name, values[name])

    def options(self) -> dict[str, Any]:
        """Return the options in force, by name."""
        grouped = {key: value for name in self._option_groups for key, value in getattr(self, name).values().items()}
        return {name: grouped[name] if name in grouped else getattr(self, name) for name in self.Options.model_fields}


def value_in(text: str) -> Any:
    """Return a value that is written as TOML, or the plain text if it is not TOML."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def named_with_options(text: str, where: str) -> tuple[str, dict[str, Any]]:
    """Return a name and the options behind it, ``name?key=value&key=value``.

    Raises:
        UsageError: for what is not written like this; ``where`` says what is named.
    """
    name, _, written = text.partition("?")
    parts = [part.partition("=") for part in written.split("&") if part]
    odd = next((key for key, equals, _ in parts if not equals or not key.strip()), None)
    if odd is not None:
        raise UsageError(f"{where} '{text}': '{odd}' is no option; write {name}?KEY=VALUE, with & between several")
    return name, {key.strip(): value_in(value) for key, _, value in parts}


def checked(model: type[M], values: Mapping[str, Any], where: str = "") -> M:
    """Return ``values`` as a ``model``, or raise one `UsageError` that names all that is wrong with them.

    ``where`` is the dotted place of the values in the user's input and stands before each key in the message.
    """
    prefix = f"{where}." if where else ""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError):
        odd = next((key for key, value in values.items() if not _is_json(value)), "?")
        raise UsageError(
            f"{prefix}{odd}: a {type(values[odd]).__name__} is not allowed; use numbers, strings, lists or true/false"
        ) from None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise UsageError("; ".join(_sentence(model, item, prefix) for item in error.errors())) from None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _sentence(model: type[BaseModel], item: Any, prefix: str) -> str:
    path = ".".join(str(part) for part in item["loc"] if not str(part).startswith(INSIDE))
    if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
        return str(unknown("option", f"{prefix}{path}", [f"{prefix}{name}" for name in model.model_fields]))
    if item["type"] == "missing":
        return f"{prefix}{path} is missing"
    message = item["msg"][0].lower() + item["msg"][1:]
    return f"{prefix}{path}: {message}, found {json.dumps(item['input'], default=str)}"


def described(model: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """Return ``(name, type, default, meaning)`` of every option, for help pages."""
    rows = []
    for name, info in model.model_fields.items():
        kind = type_in_words(info.annotation)
        optional = " | none" * kind.endswith(" | none")
        kind = kind.removesuffix(optional) + _bounds(info.metadata) + optional
        default = "required" if info.is_required() else json.dumps(info.default, default=str)
        rows.append((name, kind, default, info.description or ""))
    return rows


def type_in_words(kind: Any) -> str:
    """Return a type as help pages have it: words that may stand there, ``int ≥ 1``, ``list of float``.

    >>> type_in_words(list[float | str] | None)
    'list of (float | str) | none'
    """
    parts = get_args(kind)
    match get_origin(kind):
        case typing.Literal:
            return " | ".join(json.dumps(part) for part in parts)
        case typing.Union | types.UnionType:
            return " | ".join(map(type_in_words, parts))
        case typing.Annotated:
            inner, *notes = parts
            metadata = [each for note in notes for each in getattr(note, "metadata", [note])]
            return type_in_words(inner) + _bounds(metadata)
        case None:
            return "none" if kind is types.NoneType else getattr(kind, "__name__", str(kind))
        case origin:
            inner = [f"({text})" if " | " in text else text for text in map(type_in_words, parts)]
            return f"{origin.__name__} of {(' to ' if origin is dict else ', ').join(inner)}"


def _bounds(metadata: Iterable[Any]) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [(sign, getattr(note, name)) for note in metadata for name, sign in signs.items() if hasattr(note, name)]
    return ",".join(f" {sign} {value:,}" if isinstance(value, int) else f" {sign} {value:g}" for sign, value in found)
