"""The floors of the house: a file imports only from floors below its own, and stays small."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import TINY

PACKAGE = Path(__file__).parents[1] / "cl_engine"
# the floors of DESIGN.md, from the ground up: a package, or a file at the top, imports only from those above it in this list
FLOORS = [
    ["errors"],
    ["core", "options"],
    ["events"],
    ["metrics", "checkpoints"],
    ["nn"],
    ["results"],
    ["targets", "scenes", "signals"],
    ["answer_metrics"],
    ["data"],
    ["training", "loggers"],
    ["recall", "masks"],
    ["adapters"],
    ["modules"],
    ["strategy"],
    ["strategies", "streams", "sources", "nets", "labels", "upkeep", "engine"],
    ["runs"],
    ["analysis"],
    ["export", "experiment"],
    ["estimate", "interop", "testing", "learners"],
    ["extension", "sweep"],
    ["cli"],
    ["__main__"],
]
# the same inside `analysis/`, which has rooms of its own
ANALYSIS = [
    ["names"],
    ["discovery", "code"],
    ["scores"],
    ["similarity"],
    ["taxonomy"],
    ["plots"],
    ["charts"],
    ["comparison"],
    ["paper"],
    ["report", "live"],
]
# no plug-in imports another
PLUGINS = ("strategies", "streams", "sources", "nets", "targets", "labels", "upkeep", "answer_metrics")
ONLY_HERE = {"avalanche": "interop", "optuna": "sweep", "ray": "sweep", "torchjd": "modules"}
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """Return the package, or the file at the top, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor_of(room: str, floors: list[list[str]] = FLOORS) -> int:
    found = [number for number, floor in enumerate(floors) if room in floor]
    return found[0] if found else -1


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Return the modules a file imports, inside of functions and for type checking alone too."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {whole if file_of(whole) else node.module for whole in parts.values()}
    return frozenset(found)


@functools.cache
def file_of(module: str) -> Path | None:
    target = PACKAGE.parent / Path(*module.split("."))
    return next((file for file in (target.with_suffix(".py"), target / "__init__.py") if file.exists()), None)


@functools.cache
def of_ours(path: Path) -> frozenset[Path]:
    files = {file for module in imports(path) if module.startswith("cl_engine.") and (file := file_of(module))}
    return frozenset(files - {PACKAGE / "__init__.py"})


@pytest.mark.parametrize("path", [file for file in FILES if file != PACKAGE / "__init__.py"], ids=str)
def test_a_file_has_a_floor_and_imports_from_lower_floors_only(path: Path):
    own = room_of(path)
    assert floor_of(own) >= 0, f"{own} stands on no floor: give it one here and in DESIGN.md"
    others = {file for file in of_ours(path) if room_of(file) != own or own in PLUGINS}
    assert not {str(file) for file in others if floor_of(room_of(file)) >= floor_of(own)}


@pytest.mark.parametrize("path", sorted((PACKAGE / "analysis").rglob("*.py")), ids=str)
def test_the_rooms_of_analysis_have_floors_too(path: Path):
    def place(file: Path) -> str:
        return file.relative_to(PACKAGE / "analysis").parts[0].removesuffix(".py")

    own, below = place(path), of_ours(path)
    others = {file for file in below if room_of(file) == "analysis" and place(file) != own}
    assert not {str(file) for file in others if floor_of(place(file), ANALYSIS) >= floor_of(own, ANALYSIS) >= 0}


def test_the_top_of_the_package_has_six_files():
    top = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert top == {"errors", "events", "options", "strategy", "experiment", "estimate"}


def test_every_room_is_installed():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"]) - {"cl_engine.scenarios"}
    rooms = {".".join(file.parent.relative_to(PACKAGE.parent).parts) for file in PACKAGE.rglob("__init__.py")}
    assert rooms == listed


def test_the_tree_is_counted(capsys: pytest.CaptureFixture[str]):
    """Count what stands at each level and what points at what; pytest -n0 -s shows it."""
    arrows = {(room_of(file), room_of(other)) for file in FILES for other in of_ours(file)} - {("__init__", "core")}
    arrows = {(one, other) for one, other in arrows if one != other}
    rooms = {room_of(file) for file in FILES} - {"__init__"}
    assert not {pair for pair in arrows if floor_of(pair[0]) <= floor_of(pair[1])}
    with capsys.disabled():
        print(f"\n{len(FILES)} files in {len(rooms)} rooms on {len(FLOORS)} floors, {len(arrows)} arrows, none upward")


def test_there_is_no_cycle_of_imports():
    waiting = {path: of_ours(path) for path in FILES}
    while True:
        free = {path for path, needs in waiting.items() if not needs & waiting.keys()}
        if not free:
            break
        waiting = {path: needs for path, needs in waiting.items() if path not in free}
    assert not waiting


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_is_short_and_named_after_what_it_is(path: Path):
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem not in {"utils", "util", "helpers", "common", "base", "manager", "handler", "misc"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_guests_are_imported_in_their_own_room_only(path: Path):
    for guest, room in ONLY_HERE.items():
        found = any(module.split(".")[0] == guest for module in imports(path))
        assert not found or room in path.relative_to(PACKAGE).parts[0]


def _imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(done.stdout.split())


def test_the_command_line_answers_without_torch():
    assert not {"torch", "xarray", "matplotlib", "avalanche", "ray", "optuna"} & _imported_by("import cl_engine.cli")


def test_reading_results_needs_no_torch():
    assert "torch" not in _imported_by(
        "import cl_engine.results.run, cl_engine.analysis.report.page, cl_engine.analysis.report.taxonomy"
    )


def test_running_an_experiment_imports_neither_avalanche_nor_pictures_nor_scikit_learn_nor_the_compiler(tmp_path: Path):
    """The compiler (`torch._dynamo`) would be half of the time that a run takes to start."""
    run = f"Experiment.of({str(TINY)!r}, 'finetune', (0, 1)).run({str(tmp_path)!r}, device='cpu')"
    found = _imported_by(f"from cl_engine.experiment import Experiment; import cl_engine.cli.terminal; {run}")
    assert not {"avalanche", "matplotlib", "sklearn", "torch._dynamo"} & found
