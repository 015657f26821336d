"""What is handed out, wheel and source distribution: built from the tree, and tried where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EVERYTHING = """
import contextlib, importlib, importlib.abc, io, json, pkgutil, runpy, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "avalanche":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import cl_engine
from click.testing import CliRunner
from cl_engine.cli import main

found = {"file": cl_engine.__file__, "version": cl_engine.__version__, "broken": {}, "calls": {}}
for module in pkgutil.walk_packages(cl_engine.__path__, "cl_engine."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        found["broken"][module.name] = str(error)
for call in (
    "list", "list strategies",
    *(f"run tiny.toml -s {each} --seeds 2 --out runs/{each} --set stream.n=2" for each in ("finetune", "piggyback")),
    "show runs/finetune", "compare runs", "report runs -o page.html", "check tiny.toml -s finetune",
    "run tiny.toml -s avalanche:EWC", "run tiny.toml -s EWC", "run avalanche.toml -s finetune",
):
    done = CliRunner().invoke(main, call.split())
    found["calls"][call] = done.exit_code, done.output
sys.argv = ["cl_engine", "list", "scenarios"]
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    runpy.run_module("cl_engine", run_name="__main__", alter_sys=True)  # as `python -m` does
found["listed"] = out.getvalue()
print(json.dumps(found))
"""
GUEST = '[stream]\nname = "avalanche"\nbenchmark = "SplitMNIST"\n[net]\nname = "mlp"\n'


def committed() -> list[str]:
    """Return the files of the repository; those that there are where this is none."""
    if not (ROOT / ".git").exists():
        return [file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*") if file.is_file()]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and not name.startswith(".") and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the source distribution of the tree, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    for name in committed():  # to another place, as `build` leaves files there
        target = folder / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder / "tree")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path) -> Path:
    """Return a folder with what the wheel puts where Python looks for packages."""
    (wheel,) = (built / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(built / "site")
    return built / "site"


def away(unpacked: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in another folder with the unpacked wheel, and without the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def tried(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return what the modules and commands of the wheel say in a folder of their own, where Avalanche is not installed."""
    folder = tmp_path_factory.mktemp("away")
    shutil.copy(ROOT / "tests" / "tiny.toml", folder)
    (folder / "avalanche.toml").write_text(GUEST)
    done = away(unpacked, folder, "-W", "ignore", "-c", EVERYTHING)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def files_in(folder: Path) -> set[str]:
    found = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return {file.as_posix() for file in found if "egg-info" not in str(file) and "dist-info" not in str(file)}


def test_the_wheel_holds_every_module_and_data_file_of_the_package_and_every_scenario(built: Path, unpacked: Path):
    tree = files_in(built / "tree")
    scenarios = {f"cl_engine/{name}" for name in tree if name.startswith("scenarios/") and name.endswith(".toml")}
    assert len(scenarios) > 50
    assert files_in(unpacked) == {name for name in tree if name.startswith("cl_engine/")} | scenarios
    assert {"LICENSE", "NOTICE"} <= {file.name for file in unpacked.glob("*.dist-info/licenses/*")}


def test_the_source_distribution_holds_all_that_the_tests_need(built: Path):
    (archive,) = (built / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        there = {name.partition("/")[2] for name in file.getnames()}
    assert files_in(built / "tree") <= there


def test_the_wheel_says_what_it_needs_and_avalanche_is_among_it(unpacked: Path):
    (folder,) = unpacked.glob("*.dist-info")
    said = message_from_string((folder / "METADATA").read_text(encoding="utf-8"))
    needs = [need for need in said.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert len(needs) == len(PROJECT["dependencies"])
    assert any(need.startswith("avalanche-lib") for need in needs)
    assert said["Version"] == PROJECT["version"]
    assert "cl-engine = cl_engine.cli:main" in (folder / "entry_points.txt").read_text(encoding="utf-8")


def test_every_extra_that_a_sentence_tells_one_to_install_is_one():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "cl_engine").rglob("*.py")]
    told = {
        extra
        for page in pages
        for extra in re.findall(r"install[^\n]*?(?:cl-engine|\.)\[(\w+)\]", page.read_text(encoding="utf-8"))
    }
    assert {"onnx", "ray"} <= told <= PROJECT["optional-dependencies"].keys()


def test_the_wheel_runs_as_a_program_from_any_folder_and_lists_the_scenarios(tried: dict):
    listed = re.findall(r"^  (\w+) +\S", tried["listed"], re.MULTILINE)
    assert listed == sorted(path.stem for path in (ROOT / "scenarios").glob("*.toml"))


def test_a_script_that_uses_the_wheel_finds_its_types(unpacked: Path, tmp_path: Path):
    (tmp_path / "script.py").write_text(
        'from cl_engine.results import open_run\n\nreveal_type(open_run("x").status)\nwrong: int = open_run("x").path\n'
    )
    (tmp_path / "mypy.ini").write_text(  # others' types cost half a minute, and are not what is asked
        "[mypy]\nstrict = true\n[mypy-numpy.*,xarray.*,pandas.*]\nfollow_imports = skip\n"
    )
    done = away(unpacked, tmp_path, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "script.py")
    assert done.stdout.splitlines() == [
        'script.py:3: note: Revealed type is "str"',
        'script.py:4: error: Incompatible types in assignment (expression has type "Path", variable has type "int")'
        "  [assignment]",
        "Found 1 error in 1 file (checked 1 source file)",
    ]


def test_without_avalanche_every_module_but_those_of_interop_is_imported(unpacked: Path, tried: dict):
    assert tried["file"] == str(unpacked / "cl_engine" / "__init__.py")
    assert tried["version"] == PROJECT["version"]
    assert tried["broken"]
    assert all(name.startswith("cl_engine.interop.") for name in tried["broken"])
    assert {error.partition(":")[0] for error in tried["broken"].values()} == {
        "Avalanche is not installed, and this needs it"
    }


def test_without_avalanche_the_commands_do_their_work_and_what_is_avalanches_is_refused_in_a_sentence(tried: dict):
    asked = {call: told for call, told in tried["calls"].items() if "avalanche" in call or "EWC" in call}
    for call, (code, told) in tried["calls"].items():
        assert call in asked or code == 0, (call, told)
    refused = asked.pop("run tiny.toml -s EWC")
    assert (refused[0], "it is 'ewc' here" in refused[1]) == (2, True)
    said = "Avalanche is not installed, and this needs it: pip install 'avalanche-lib>=0.6,<0.7'"
    assert {(code, told.strip()) for code, told in asked.values()} == {(2, f"Error: {said}")}
