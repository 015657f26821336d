"""The floors of the house: a file imports only from floors below its own, and stays small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cl_engine"
# the floors of DESIGN.md, from the ground up; a folder stands for all files in it
FLOORS = [
    [
        "errors",
        "formats",
        "rng",
        "tree",
        "bank",
        "events",
        "images",
        "flops",
        "typed",
        "chunks",
        "linear",
        "allocator",
        "graphs",
    ],
    [
        "options",
        "rehearsal",
        "metrics",
        "augmentation",
        "module_head",
        "module_mode",
        "audit",
        "stability",
        "log_journal",
        "idx_files",
        "cifar_files",
        "image_files",
        "pretrained",
        "disk",
        "collector",
    ],
    ["blocks"],
    [
        "stream",
        "optimizers",
        "ctrl_tasks",
        "proxies",
        "best",
        "log_file",
        "lifelong",
        "fit_journal",
        "stopping",
        "stopped_seeds",
        "determinism",
    ],
    ["agenda", "exhaustion", "source_stream", "architecture", "memory", "ledger", "on_disk"],
    ["net", "checkpoint", "torchvision_files", "mnist1d_files", "many_runs"],
    ["heads", "job", "checkpoint_store", "frozen_features"],
    ["saves"],
    ["learner"],
    ["crew"],
    ["fit"],
    ["recall/", "masks/"],
    ["modules/"],
    ["strategy"],
    ["examiner"],
    ["strategies/", "streams/", "sources/", "nets/"],
    ["engine", "log_tables", "console", "plugins", "scenario", "results"],
    ["log_matrix"],
    ["recorder", "analysis/", "backbone", "data_root"],
    ["run_folder", "export/"],
    ["experiment"],
    ["estimate", "interop/"],
    ["sweep/"],
    ["session"],
    ["cli"],
]
ONLY_HERE = {"avalanche": "interop", "ray": "sweep", "optuna": "sweep"}
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def floor_of(path: Path) -> int:
    inside = path.relative_to(PACKAGE)
    place = f"{inside.parts[0]}/" if len(inside.parts) > 1 else inside.stem
    found = [number for number, floor in enumerate(FLOORS) if place in floor]
    return found[0] if found else -1


def imports(path: Path) -> set[str]:
    """Return the modules a file imports, inside of functions and for type checking alone too."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def of_ours(path: Path) -> set[Path]:
    files = set()
    for module in imports(path):
        if module.startswith("cl_engine."):
            target = PACKAGE.parent / Path(*module.split("."))
            files |= {file for file in (target.with_suffix(".py"), target / "__init__.py") if file.exists()}
    return files - {PACKAGE / "__init__.py"}


@pytest.mark.parametrize("path", [file for file in FILES if file != PACKAGE / "__init__.py"], ids=lambda p: p.stem)
def test_a_file_has_a_floor_and_imports_from_lower_floors_only(path: Path):
    own = floor_of(path)
    assert own >= 0, f"{path.name} stands on no floor: give it one here and in DESIGN.md"
    inside_folder = {
        file
        for file in of_ours(path)
        if file.parent == path.parent
        and path.parent.name in ("analysis", "recall", "masks", "modules", "interop", "export", "sweep")
    }
    assert not {file.name for file in of_ours(path) - inside_folder if floor_of(file) >= own}


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
    assert "torch" not in _imported_by("import cl_engine.results, cl_engine.analysis.report")


def test_running_an_experiment_does_not_import_avalanche():
    assert "avalanche" not in _imported_by("import cl_engine.experiment, cl_engine.session")
