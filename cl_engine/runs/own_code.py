"""Code that is not the engine's own: the source texts of a module and of what it imports, as they were when it was imported."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

from cl_engine.errors import UsageError
from cl_engine.results.code import Code, as_text

ENGINE = Path(__file__).resolve().parents[1]
INSTALLED = ("site-packages", "dist-packages")
MOST = 1000  # modules of a plug-in that are followed

# what was read of a module when it was met first: a file may change while its module lives on
_contents: WeakKeyDictionary[ModuleType, bytes] = WeakKeyDictionary()
_codes: WeakKeyDictionary[ModuleType, Code] = WeakKeyDictionary()


def remember(module: ModuleType, content: bytes | None = None) -> Code:
    """Return the code of a module, and of the modules of its user's that it imports; told once, it stays.

    Args:
        module: a module that was just imported.
        content: of its file, where it is known already.

    Returns:
        Nothing of the engine and of Python itself; of an installed package the module alone, with the package's version.
    """
    if module not in _codes:
        if content is not None:
            _contents[module] = content
        _codes[module] = _told(module)
    return _codes[module]


def code_of(modules: Iterable[ModuleType]) -> Code:
    """Return the code of modules together, by name."""
    found: Code = {}
    for module in modules:
        for name, told in remember(module).items():
            twice = name in found and found[name]["file"] != told["file"]  # two files of one name, in two folders
            found[f"{name} ({Path(told['file']).parent.name})" if twice else name] = told
    return dict(sorted(found.items()))


def fingerprint(code: Code) -> dict[str, list[str]]:
    """Return what stands for code: checksums, and versions of packages, by name."""
    return {name: [told["sha256"], told.get("package", "")] for name, told in code.items()}


def _told(module: ModuleType) -> Code:
    path = _file(module)
    if path is None or _is_known(path):
        return {}
    if _is_installed(path):
        package = _package(module.__name__.partition(".")[0])
        return {module.__name__: {**_entry(path, _content(module, path)), "package": package}}
    found: Code = {}
    waiting = {_called(module, path): (module.__name__, path)}
    while waiting and len(found) < MOST:
        called, (name, path) = waiting.popitem()
        content = _content(sys.modules.get(name) if name != module.__name__ else module, path)
        found[called] = _entry(path, content)
        for imported in _imports(content, name, path):
            other = _found(imported, path)
            if other is not None and imported not in found and other != path:
                waiting[imported] = (imported, other)
    return found


def _called(module: ModuleType, path: Path) -> str:
    """Return the name that a module's code goes by: where it lies is no part of it, so that a project can be moved."""
    return path.stem if getattr(module, "__from_file__", False) else module.__name__


def _entry(path: Path, content: bytes) -> dict[str, str]:
    text = as_text(content) if path.suffix == ".py" else ""
    return {"file": str(path), "sha256": hashlib.sha256(content).hexdigest(), "text": text}


def _file(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if isinstance(file, str) else None


def _content(module: ModuleType | None, path: Path) -> bytes:
    if module is not None and _file(module) == path:
        if module not in _contents:
            _contents[module] = _read(path)
        return _contents[module]
    return _read(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # in a zip, or removed since
        return b""


def _imports(content: bytes, name: str, path: Path) -> Iterator[str]:
    """Yield the full names of what a source text imports, wherever in it, and of the packages they are in."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    named: list[str] = [package] if package else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            place = ".".join([*above, *([node.module] if node.module else [])])
            named += [place, *(f"{place}.{alias.name}" for alias in node.names)]
    for whole in named:
        parts = whole.split(".")
        yield from (".".join(parts[:k]) for k in range(1, len(parts) + 1))


def _found(name: str, importer: Path) -> Path | None:
    """Return the file of a module if it is its user's own.

    Raises:
        UsageError: if the module of this name that is in use is not the one that lies beside the file that imports it.
    """
    top = name.partition(".")[0]
    if not top or top in (*sys.stdlib_module_names, "cl_engine", "__main__"):
        return None
    holder = _file(sys.modules.get(top))
    if holder is not None and _is_installed(holder):
        return None
    path = _file(sys.modules[name]) if name in sys.modules else _unloaded(name)
    if path is None or _is_known(path) or _is_installed(path):
        return None
    beside = importer.with_name(f"{name}.py")
    if beside != path and beside.is_file() and not (importer.parent / "__init__.py").is_file():
        raise UsageError(
            f"{importer} imports '{name}', and this process has it from {path}, not from {beside} beside it: rename one of them"
        )
    return path


def _unloaded(name: str) -> Path | None:
    """Return the file of a module that is imported later, found without importing the packages it is in."""
    places: list[str] | None = None
    spec, parts = None, name.split(".")
    for k in range(len(parts)):
        try:
            spec = PathFinder.find_spec(".".join(parts[: k + 1]), places)
        except (ImportError, ValueError, OSError):
            return None
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or ())
        if k + 1 < len(parts) and not places:
            return None
    return Path(spec.origin).absolute() if spec is not None and spec.origin and spec.has_location else None


@lru_cache(maxsize=4096)
def _is_known(path: Path) -> bool:
    """Return whether a file is of the engine, or of Python itself, whose versions the log says."""
    return path.is_relative_to(ENGINE) or (path.is_relative_to(_library()) and not _is_installed(path))


def _is_installed(path: Path) -> bool:
    return any(part in INSTALLED for part in path.parts)


@cache
def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


@cache
def _package(top: str) -> str:
    """Return name and version of the installed package that a module at the top is of; its name alone if there is none."""
    try:
        return f"{top} {metadata.version(top)}"
    except (metadata.PackageNotFoundError, ValueError):
        pass
    try:
        (name, *_) = metadata.packages_distributions().get(top, [top])
        return f"{name} {metadata.version(name)}"
    except Exception:  # metadata of one broken package are in no other's way
        return top
