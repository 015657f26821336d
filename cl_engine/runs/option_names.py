"""Options of plug-ins and of a scenario's tables, read from the text of their classes: nothing is imported, torch least of all.

Completion in a shell asks for them, and has a tenth of a second. What `cl_engine.options` makes of the same classes is the truth;
the tests hold one against the other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cl_engine.runs import plugin_names
from cl_engine.runs.plugin_names import Kind

ROOT = Path(__file__).parents[2]
TABLES = {  # of a scenario, whose options are those of one class
    "train": ("cl_engine.training.optimizers", "Train"),
    "agenda": ("cl_engine.engine.agenda", "AgendaOptions"),
    "backbone": ("cl_engine.training.pretraining", "BackboneOptions"),
}
GROUP, CONFIGURED = "OptionGroup", "Configured"


@dataclass(frozen=True)
class Named:
    """An option as its class writes it.

    >>> options_of("strategies", "replay")["samples"].meaning
    'rows the memory holds'

    Attributes:
        meaning: what it is for.
        values: what may stand there, where that is one of a few words.
    """

    meaning: str
    values: tuple[str, ...] = ()


def options_of(kind: Kind, name: str) -> dict[str, Named]:
    """Return the options of a plug-in that comes with the engine, by name; none of one that does not, or cannot be read."""
    path = plugin_names.files(kind).get(name)
    if path is None:
        return {}
    module = f"cl_engine.{path.parent.name}.{name}"
    classes = [node for node in _tree(module).body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    plugin = next((node for node in classes if CONFIGURED in _ancestors(module, node)), None)
    return {} if plugin is None else dict(_fields(module, plugin))


def options_of_table(table: str) -> dict[str, Named]:
    """Return the options of a scenario's table ``train``, ``agenda`` or ``backbone``, by name; of no other there are some."""
    if table not in TABLES:
        return {}
    module, name = TABLES[table]
    found = _class(module, name)
    return {} if found is None else dict(_fields(*found))


@lru_cache(maxsize=256)
def _tree(module: str) -> ast.Module:
    """Return the text of a module of ours as a tree; an empty one of what is not ours or cannot be read."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    try:
        return ast.parse(path.read_text(encoding="utf-8")) if module.startswith("cl_engine") else ast.Module([], [])
    except (OSError, ValueError, SyntaxError):
        return ast.Module([], [])


def _found(module: str, name: str) -> tuple[str, ast.stmt] | None:
    """Return the statement that makes a name of a module, and the module where it stands."""
    for node in _tree(module).body:
        match node:
            case ast.ClassDef() if node.name == name:
                return module, node
            case ast.Assign(targets=[ast.Name(id=target)]) if target == name:
                return module, node
            case ast.ImportFrom(module=str(source), names=names):
                for each in names:
                    if name == (each.asname or each.name):
                        return _found(source, each.name)
    return None


def _class(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    found = _found(module, name)
    return (found[0], found[1]) if found and isinstance(found[1], ast.ClassDef) else None


def _class_at(module: str, named: ast.expr) -> tuple[str, ast.ClassDef] | None:
    """Return the class that ``Name`` or ``module.Name`` stands for."""
    match named:
        case ast.Name(id=name):
            return _class(module, name)
        case ast.Attribute(value=ast.Name(id=of), attr=name):
            imports = (node for node in _tree(module).body if isinstance(node, ast.ImportFrom) and node.module)
            source = next(
                (node.module for node in imports if any(of == (e.asname or e.name) for e in node.names)), None
            )
            return _class(f"{source}.{of}", name) if source else None
    return None


def _bases(module: str, node: ast.ClassDef) -> list[tuple[str, ast.ClassDef]]:
    return [found for base in node.bases if (found := _class_at(module, base))]


def _ancestors(module: str, node: ast.ClassDef) -> set[str]:
    return {node.name}.union(*(_ancestors(*base) for base in _bases(module, node)))


def _fields(module: str, node: ast.ClassDef) -> Iterator[tuple[str, Named]]:
    """Yield the options of a class: those of its bases, those of its groups, its own."""
    for base in reversed(_bases(module, node)):
        yield from _fields(*base)
    plain = CONFIGURED not in _ancestors(module, node)  # a pydantic model, whose fields need no value
    for each in node.body:
        if not (isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)):
            continue
        group = _class_at(module, each.annotation)
        if group and GROUP in _ancestors(*group):
            yield from _fields(*group)
        elif (
            not each.target.id.startswith("_")
            and (plain or each.value)
            and "ClassVar" not in ast.unparse(each.annotation)
        ):
            yield each.target.id, Named(_meaning(module, each.value), tuple(_values(module, each.annotation)))


def _meaning(module: str, value: ast.expr | None) -> str:
    match value:
        case ast.Call(func=ast.Name(id="option"), args=[_, meaning, *_]):
            return _text(module, meaning)
    return ""


def _text(module: str, written: ast.expr) -> str:
    """Return a text that stands there, or that a name stands for."""
    match written:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            found = _found(module, name)
            return _text(found[0], found[1].value) if found and isinstance(found[1], ast.Assign) else ""
    return ""


def _values(module: str, annotation: ast.expr) -> Iterator[str]:
    match annotation:
        case ast.Name(id="bool"):
            yield from ("true", "false")
        case ast.Name(id=name):
            found = _found(module, name)
            if found and isinstance(found[1], ast.Assign):
                yield from _values(found[0], found[1].value)
        case ast.BinOp(left=left, right=right):
            yield from _values(module, left)
            yield from _values(module, right)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=chosen):
            listed = chosen.elts if isinstance(chosen, ast.Tuple) else [chosen]
            yield from (str(each.value) for each in listed if isinstance(each, ast.Constant))
