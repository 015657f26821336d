"""Every block of code in the README and in docs/ does what it is shown for: Python runs, commands are taken, TOML fits.

How-to pages are followed to the letter: their files are written where a reader would save them, and their commands run. On the
other pages commands are parsed and what they name is resolved, as a run would before its first step.
"""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.cli.commands import _experiment
from cl_engine.cli.sweep import _given
from cl_engine.cli.sweep import sweep as sweep_command
from cl_engine.experiment import Experiment
from cl_engine.runs.scenario import TABLES, Scenario
from cl_engine.sweep.combinations import cells
from cl_engine.sweep.config import requested
from cl_engine.sweep.sweep import Sweep
from tests.conftest import TINY
from tests.pages import PAGES, ROOT, Block, blocks, commands, named

HOW_TO = [page for page in PAGES if page.parent.name == "how-to"]
ELSEWHERE = {  # whose Python is run by a test of its own, which looks at more
    "README.md": "tests/test_plugins.py",
    "docs/analysis.md": "tests/test_docs.py",
    "docs/data.md": "tests/test_docs.py",
    "docs/learners.md": "tests/test_docs.py",
}
WITH_PYTHON = [page for page in PAGES if page not in HOW_TO and blocks(page, "python") and named(page) not in ELSEWHERE]
WITH_TOML = [page for page in PAGES if page not in HOW_TO and blocks(page, "toml")]
WITH_SHELL = [page for page in PAGES if page not in HOW_TO and blocks(page, "sh")]
RUN = re.compile(r"(RUN|SWEEP|RUN…|…)$|results/")  # what stands for a run's folder
OF_SWEEPS = inspect.signature(sweep_command.callback).parameters.keys() - {"given"}  # typed beside its options
MODULES = ("build", "http.server", "mkdocs", "pytest", "venv")
SHELL = (".", "[", "(", "eval", "export", "source", "umask", "scenarios")
PROGRAMS = ("bash", "chmod", "head", "mkdir", "mypy", "python3", "ray", "rsync", "ruff", "srun", "tee")
NAMES = {page: named(page) for page in PAGES}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Go to a folder of a reader's, which has the reference runs, and a cache of its own; forget what was imported from there."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CL_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    here = [
        name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(str(tmp_path))
    ]
    for name in here:
        del sys.modules[name]


def run_python(block: Block, names: dict[str, Any]) -> None:
    exec(compile(block.text, f"{named(block.page)}: {block.file or 'python'}", "exec"), names)


@pytest.mark.parametrize("page", HOW_TO, ids=NAMES.get)
def test_a_how_to_page_can_be_followed_to_the_letter(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    names: dict[str, Any] = {}
    written = [block for block in blocks(page) if block.file]
    for block in written:
        (folder / block.file).write_text(block.text, encoding="utf-8")
        assert page.read_text(encoding="utf-8").count(block.file) > 1, f"nothing on the page uses {block.file}"
    for block in blocks(page):
        if block.language == "python" and not block.file:
            run_python(block, names)
        elif block.language == "toml" and not block.file:
            check_tables(block)
        elif block.language == "sh":
            check_syntax(block)
            for words in commands(block.text) if not block.text.startswith("#!") else ():
                follow(words)


def follow(words: list[str]) -> None:
    """Run a command of a how-to page; sweeps, and what takes files from elsewhere, are looked at alone."""
    if words[0] == "python" and words[1] != "run.py":
        runpy.run_path(words[1])
        return
    from_elsewhere = words[2:3] in (["sweep"], ["status"]) or "RUN" in words or words[-1].endswith("library=default")
    if words[:2] != ["python", "run.py"] or from_elsewhere:
        check_command(words)
        return
    arguments = [found for word in words[2:] for found in (sorted(map(str, Path().glob(word))) or [word])]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f"{' '.join(words)}\n{done.output[-800:]}"


@pytest.mark.parametrize("page", WITH_SHELL, ids=NAMES.get)
def test_commands_of_a_page_are_taken(page: Path, folder: Path):
    for block in blocks(page, "sh"):
        check_syntax(block)
        for words in commands(block.text):
            check_command(words)


def check_syntax(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], check=False, input=block.text, text=True, capture_output=True)
    assert not checked.returncode, checked.stderr


def check_command(words: list[str]) -> None:
    """Refuse a command that names what is not there: a command, an option, a scenario, a strategy, a file."""
    shown = " ".join(words)
    match words:
        case ["python", "run.py", name, *arguments] | ["cl-engine", name, *arguments]:
            check_own(name, arguments)
        case ["python", "-m", module, *_]:
            assert (ROOT / Path(*module.split("."))).with_suffix(".py").exists() or module in MODULES, shown
        case ["python" | ".venv/bin/python", file, *_] if file.endswith(".py"):
            assert (ROOT / file).exists() or Path(file).exists(), shown
        case ["make", target, *_]:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text(), shown
        case ["pytest", *files]:
            assert all((ROOT / file).exists() for file in files if file.endswith(".py")), shown
        case ["pip", "install", "-e", what] if what != ".":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert set(re.findall(r"\w+", what)) <= extras.keys(), shown
        case ["pip", "install", "." | "torch", *_]:
            pass  # the program alone; another build of torch, from elsewhere
        case [program, *_]:
            known = program.rstrip("=") in (*SHELL, *PROGRAMS) or "=" in program
            assert known, f"{shown}: nobody looks at this command; say in tests/test_pages.py how it is checked"


def check_own(name: str, arguments: list[str]) -> None:
    """Parse a command of ours as it would be parsed, runs that it names being some that there are."""
    command = main.get_command(click.Context(main), name)
    assert command is not None, f"run.py has no command {name}"
    run = "results/reference/permuted_digits-replay"
    given = [run if RUN.search(word) and name not in ("run", "sweep", "check") else word for word in arguments]
    if "--help" in given:
        return
    context = command.make_context(name, given)
    values = context.params
    if name in ("run", "check"):
        scenario, strategy = values["scenario"], values["strategy"]
        if scenario.removesuffix(".toml") in ("my_scenario", "page", "mine") or Path(scenario).exists():
            scenario = str(TINY)
        of_others = any(text.startswith("net.name=") and ":" in text for text in values["settings"])
        if ":" not in strategy and not of_others:
            _experiment(scenario, strategy, values["seeds"], values["settings"])
    if name == "sweep" and "$" not in arguments[0] and not values["targets"][0].endswith(".toml"):
        found = requested(
            values["targets"], _given(**{key: value for key, value in values.items() if key not in OF_SWEEPS})
        )
        for cell in cells(found):
            cell.combination(
                {key: many[0] for key, many in found.set.items() if isinstance(many, list)}, found.strategies
            )


@pytest.mark.parametrize("page", WITH_TOML, ids=NAMES.get)
def test_tables_of_a_page_are_what_a_scenario_or_a_sweep_takes(page: Path, folder: Path):
    for block in blocks(page, "toml"):
        check_tables(block)


def check_tables(block: Block) -> None:
    """Refuse tables that a scenario, or a sweep, would not take; a part of a table is read as part of that of the tests."""
    tables = tomllib.loads(block.text)
    if {"scenarios", "strategies"} & tables.keys():
        Path("mine.toml").write_text(TINY.read_text())
        Path("sweep.toml").write_text(block.text)
        assert requested(["sweep.toml"], {}).strategies == tables["strategies"]
        return
    assert set(tables) <= set(TABLES)
    tiny = tomllib.loads(TINY.read_text())
    whole = {**tiny, **tables}
    for table in ("stream", "net"):
        if "name" not in tables.get(table, {"name": ""}):
            whole[table] = {**tiny[table], **tables[table]}
    whole["strategy"] = tables.get("strategy", {})
    for strategy in whole["strategy"] or ["finetune"]:
        Experiment.of(Scenario.of("page", whole), strategy)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=NAMES.get)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, folder: Path, tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
):
    names = GIVEN.get(named(page), lambda *_: {})(folder, tiny, monkeypatch)
    sys.modules.pop("my_module", None)
    for block in blocks(page, "python"):
        run_python(block, names)


def with_avalanche(folder: Path, tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a script of Avalanche's has before it comes to the blocks of the page."""
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.models import SimpleMLP
    from avalanche.training import EWC, Naive
    from avalanche.training.plugins import EvaluationPlugin
    from torch.nn import CrossEntropyLoss
    from torch.optim import SGD

    from tests.avalanche_of_users import split_digits

    plugin = EvaluationPlugin(accuracy_metrics(experience=True), loggers=[])
    found = {made.__name__: made for made in (EWC, Naive, SGD, CrossEntropyLoss, SimpleMLP, EvaluationPlugin)}
    return found | {"bench": split_digits(2, task_labels=True), "plugin": plugin, "accuracy_metrics": accuracy_metrics}


def with_transfers(folder: Path, tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Make the run that the page reads."""
    tiny("taxonomy").run(folder / "results" / "taxonomy_mnist-taxonomy-…")
    return {}


def with_sweeps(folder: Path, tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let a sweep be checked alone: tests/test_sweep_runs.py runs some."""
    from types import SimpleNamespace

    def looked_at(self: Sweep) -> Any:
        assert [cell.strategy for cell in cells(self.options)] == ["replay"]
        return SimpleNamespace(best=[], failed=[])

    monkeypatch.setattr(Sweep, "run", looked_at)
    return {}


def with_parts(folder: Path, tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Make two runs that differ in their seeds."""
    return {"paths": [tiny("finetune", (seed,)).run(folder / "results" / str(seed)) for seed in (0, 1)]}


def with_a_log(folder: Path, tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Make the run whose log the page opens."""
    tiny("finetune").run(folder / "results" / "…")
    return {}


GIVEN = {
    "docs/avalanche.md": with_avalanche,
    "docs/extending.md": with_parts,
    "docs/log-format.md": with_a_log,
    "docs/sweeps.md": with_sweeps,
    "docs/transfer.md": with_transfers,
}


def test_no_language_of_a_block_is_left_out():
    unknown = {block.language for page in PAGES for block in blocks(page)} - {"python", "sh", "toml", ""}
    assert not unknown, f"nobody runs blocks of {unknown}: say in tests/test_pages.py what is done with them"
    plain = [block for page in PAGES for block in blocks(page) if not block.language]
    assert not [block.text for block in plain if re.match(r"(PYTHONPATH=\S+ )?python ", block.text)], "say ```sh"
