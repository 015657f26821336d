"""Objects by name: ``module:object`` and ``file.py:object``, where they are looked for, and a note of what was found."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, TypeVar

from cl_engine.errors import UsageError
from cl_engine.runs.own_code import remember
from cl_engine.runs.signals import Stopped

P = ParamSpec("P")
R = TypeVar("R")

_beside: ContextVar[str] = ContextVar("beside", default="")  # the folder of the scenario that names what is looked for
_noting: ContextVar[tuple[dict[str, ModuleType], ...]] = ContextVar("noting", default=())
_added: list[str] = []  # folders on the import path that are there for plug-ins
_files: dict[Path, tuple[str, ModuleType]] = {}  # what was loaded from a file, and the checksum of its text


@contextmanager
def looking_beside(folder: str) -> Iterator[None]:
    """Look for modules and files in this folder too, after the current one; the folder of a scenario, say."""
    token = _beside.set(folder)
    try:
        yield
    finally:
        _beside.reset(token)


def beside_its_scenario(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Let a method of an object look for plug-ins in the folder ``beside`` of that object too."""

    @wraps(method)
    def looking(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with looking_beside(self.beside):
            return method(self, *args, **kwargs)

    return looking


@contextmanager
def noting() -> Iterator[dict[str, ModuleType]]:
    """Collect the modules that plug-ins are taken from meanwhile, by name."""
    found: dict[str, ModuleType] = {}
    token = _noting.set((*_noting.get(), found))
    try:
        yield found
    finally:
        _noting.reset(token)


def note(module: ModuleType, found: Any = None) -> None:
    """Note that a plug-in was taken from a module, and the module that it was written in."""
    own = getattr(found, "__module__", None)
    for each in (module, sys.modules.get(own) if isinstance(own, str) else None):
        if each is not None:
            remember(each)
            for notes in _noting.get():
                notes[each.__name__] = each


def attribute(what: str, name: str) -> Any:
    """Return the object that ``module:object`` or ``file.py:object`` names; ``what`` it is to be begins the error.

    Raises:
        UsageError: if the module cannot be imported, or has no such object.
    """
    module, _, wanted = name.rpartition(":")
    holder = imported(what, module, name)
    try:
        found = getattr(holder, wanted)
    except AttributeError as error:
        own = (key for key, value in vars(holder).items() if getattr(value, "__module__", None) == holder.__name__)
        there = [key for key in own if not key.startswith("_")]
        known = f"; there are: {', '.join(there)}" if there else ""
        raise UsageError(f"{what} '{name}' cannot be imported: {error}{known}") from None
    note(holder, found)
    return found


def imported(what: str, module: str, name: str = "") -> ModuleType:
    """Import the module of a plug-in, from where Python looks for modules or, after that, from the current folder.

    A name that ends in ``.py`` is a file. Behind the current folder comes that of the scenario which names the plug-in.

    Args:
        what: what is looked for, as it begins the error.
        module: the module's full name, or a file.
        name: what the user calls the plug-in, if it is not the module.

    Raises:
        UsageError: if there is none, or it cannot be imported, for whatever reason.
    """
    begins = f"{what} '{name or module}' cannot be imported"
    try:
        return _from_file(begins, module) if module.endswith(".py") else _imported(begins, module)
    except (UsageError, Stopped):
        raise
    except (Exception, SystemExit) as error:  # a module may do anything when it is imported
        raise UsageError(f"{begins}: {reason(error, module)}") from error


def reason(error: BaseException, module: str) -> str:
    """Return what an error in an import says, and the line of the plug-in that it comes from."""
    if isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0]):
        other = _beside.get() and Path(_beside.get()) != Path.cwd()
        scenario = f", nor in that of the scenario ({_beside.get()})" if other else ""
        return f"{error}, neither where Python looks for modules nor in the current folder ({Path.cwd()}){scenario}"
    kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "importlib" not in each.filename]
    frames = [each for each in frames if Path(each.filename).parent != Path(__file__).parent]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{kind}{error}{where}"


def _imported(begins: str, module: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.append("")  # the last place, so that no file there hides a package
    if _beside.get():
        _look_in(_beside.get(), last=True)
    if module.partition(".")[0] not in sys.modules:
        importlib.invalidate_caches()  # it may have been written a moment ago
    found = importlib.import_module(module)
    top = getattr(sys.modules.get(module.partition(".")[0]), "__file__", None)
    if top is not None:
        path = Path(top)
        root = str(path.parents[1] if path.name == "__init__.py" else path.parent)
        if root in _added and root != _beside.get() and Path(root) != Path.cwd():
            raise UsageError(
                f"{begins}: this process has the module '{module}' from {top}, which another scenario or plug-in named; name "
                "the file instead (folder/file.py:Name), or run it by itself"
            )
    return found


def _look_in(folder: str, last: bool = False) -> None:
    """Put a folder among those where modules are looked for, behind all of Python's and before the current one, or after it."""
    if folder in sys.path:
        return
    ours = [k for k, place in enumerate(sys.path) if place in _added or (place == "" and k)]
    sys.path.insert(len(sys.path) if last or not ours else ours[0], folder)
    _added.append(folder)


class _AsItStands(SourceFileLoader):
    """Runs a text that was read, and never a compiled form of an older one."""

    def __init__(self, name: str, path: str, content: bytes) -> None:
        super().__init__(name, path)
        self.content = content

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.content, self.path)


def _from_file(begins: str, named: str) -> ModuleType:
    """Load a file as a module; one whose text is another than when it was loaded last is loaded anew."""
    path = _path_of(begins, named)
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():  # a file of a package imports its neighbours by their names in it
        root, parts = root.parent, [root.name, *parts]
    _look_in(str(root))
    if len(parts) > 1:
        module = importlib.import_module(".".join(parts))
        if Path(str(module.__file__)).resolve() != path:
            raise UsageError(
                f"{begins}: Python finds the module '{'.'.join(parts)}' in {module.__file__}, not in {path}"
            )
        return module
    content = path.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    if path in _files and _files[path][0] == checksum:
        return _files[path][1]
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItStands(name, str(path), content))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__from_file__ = True  # type: ignore[attr-defined]
    before = sys.modules.get(name)
    sys.modules[name] = module  # where classes look for the names in their annotations
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        raise
    remember(module, content)
    _files[path] = checksum, module
    return module


def _path_of(begins: str, named: str) -> Path:
    """Return the file of a name: in the current folder or, after that, in the scenario's."""
    try:
        path = Path(named).expanduser()
    except RuntimeError as error:  # no such user's ~
        raise UsageError(f"{begins}: {error}") from None
    beside = [Path(_beside.get())] if _beside.get() and not path.is_absolute() else []
    folders = list(dict.fromkeys([Path.cwd(), *beside]))
    for folder in folders:
        if (folder / path).is_file():
            return (folder / path).resolve()
    where = str(path) if path.is_absolute() else f"{path} in the current folder ({folders[0]})"
    more = f", nor in that of the scenario ({folders[1]})" if len(folders) > 1 else ""
    raise UsageError(f"{begins}: there is no file {where}{more}")


def _module_name(path: Path) -> str:
    """Return the name that a file has as a module: its own, unless that is another module's."""
    stem = re.sub(r"\W", "_", path.stem)
    holder = getattr(sys.modules.get(stem), "__file__", None)
    try:
        spec = importlib.util.find_spec(stem) if stem not in sys.modules else None
    except (ImportError, ValueError):
        spec = None
    there = holder or (spec.origin if spec is not None else None)
    free = stem not in sys.modules and spec is None
    if free or (there is not None and Path(there).resolve() == path):
        return stem
    return f"{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
