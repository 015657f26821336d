"""Plug-ins: found by file, by entry point, and as module:object; and the examples of the README."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import cl_engine.strategies
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.options import described
from cl_engine.results.run import open_run
from cl_engine.runs import plugin_names, plugins
from tests.conftest import SETTINGS, TINY

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
MINE = (
    EXAMPLES[0]
    + """

import numpy as np
from torch import nn

from cl_engine.data.source import Arrays, Source
from cl_engine.streams.permuted import Permuted


class Noise(Source):
    def load(self, root):
        x, y = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8), np.arange(40) % 4
        return Arrays(x, y, x, y, classes=4)


class Shuffled(Permuted): ...


def build(input_shape, num_classes, wide):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, wide[0]), nn.ReLU(), nn.Linear(wide[0], num_classes))
"""
)
Tiny = Callable[..., Experiment]


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder on the import path, as if a package of somebody else's were installed there."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_module", "guest_module"):
        sys.modules.pop(name, None)


def install(guest: Path, entries: str) -> None:
    info = guest / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cl_engine.strategies]\n{entries}\n")


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_strategy_of_the_readme_runs_in_every_setting(guest: Path, tiny: Tiny, tmp_path: Path, setting: str):
    (guest / "my_module.py").write_text(EXAMPLES[0])
    experiment = tiny("my_module:L2", (0, 1, 2), pull=0.1, **{"stream.setting": setting})
    found = open_run(experiment.run(tmp_path / "run"))
    assert found.status == "finished"
    assert len(EXAMPLES[0].strip().splitlines()) < 30


def test_the_python_of_the_readme_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[1], "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "memory" in printed
    assert len(EXAMPLES[1].strip().splitlines()) <= 13


def test_an_entry_point_is_listed_without_being_imported_and_runs(guest: Path, tiny: Tiny, tmp_path: Path):
    (guest / "guest_module.py").write_text(EXAMPLES[0])
    install(guest, "l2 = guest_module:L2")
    assert "l2" in plugins.names("strategies")
    assert "guest_module:L2" in plugins.summary("strategies", "l2")
    assert "guest_module" not in sys.modules
    assert open_run(tiny("l2").run(tmp_path / "run")).strategy == "l2"


def test_a_broken_entry_point_is_named_with_its_package_and_breaks_nothing_else(guest: Path):
    install(guest, "broken = nowhere_at_all:Thing")
    assert "finetune" in plugins.names("strategies")
    with pytest.raises(UsageError, match="plug-in 'broken' of package 'guest' cannot be imported"):
        plugins.load("strategies", "broken")


def test_two_plug_ins_of_one_name_are_refused_and_all_others_are_there(guest: Path):
    install(guest, "finetune = guest_module:L2")
    for asked in (plugins.summary, plugins.load):
        with pytest.raises(UsageError, match="two packages bring a strategy named 'finetune'"):
            asked("strategies", "finetune")
    listed = CliRunner().invoke(main, ["list"])
    assert listed.exit_code == 0
    assert "finetune                 two packages bring a strategy named 'finetune'" in listed.output
    assert plugins.load("strategies", "replay").__name__ == "Replay"


BROKEN = {
    "not Python": ("class L2(:", "invalid syntax"),
    "bytes that are no text": ("# coding: utf-8\nname = '\udcff'", "can't decode"),
    "raises": ("import torch\n\n1 / 0", r"ZeroDivisionError: division by zero \(.*broken_module.py, line 3\)"),
    "ends the program": ("raise SystemExit(0)", r"SystemExit: 0 \(.*broken_module.py, line 1\)"),
    "needs what is not installed": ("import nowhere_at_all", r"No module named 'nowhere_at_all' \(.*line 1\)"),
    "has another name": ("class L3: ...", "has no attribute 'L2'"),
    "is something else": ("class L2: ...", "must be a subclass"),
}


@pytest.mark.parametrize("kind", ["strategies", "streams", "sources", "nets"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_module_that_cannot_be_imported_is_refused_with_its_line_whatever_it_does(
    guest: Path, broken: str, kind: plugins.Kind
):
    text, said = BROKEN[broken]
    (guest / "broken_module.py").write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError, match=said):
        plugins.load(kind, "broken_module:L2")
    sys.modules.pop("broken_module", None)


@pytest.mark.parametrize("broken", BROKEN)
def test_one_broken_file_among_the_strategies_is_listed_in_a_line_and_the_others_run(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text, _ = BROKEN[broken]
    (tmp_path / "strange.py").write_text(text, errors="surrogateescape")
    real = plugin_names.files
    monkeypatch.setattr(
        plugin_names,
        "files",
        lambda kind: real(kind) | ({"strange": tmp_path / "strange.py"} if kind == "strategies" else {}),
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("cl_engine.strategies.__path__", [*cl_engine.strategies.__path__, str(tmp_path)])
    for arguments in (["list"], ["list", "strategies"]):
        listed = CliRunner().invoke(main, arguments)
        assert listed.exit_code == 0
        assert sum("strange " in line for line in listed.output.splitlines()) == 1
        assert "  replay  " in listed.output
    with pytest.raises(UsageError, match="the strategy 'strange'"):
        plugins.load("strategies", "strange")


def test_plug_ins_in_the_current_folder_are_found_and_hide_no_package(tmp_path: Path):
    """As the installed program runs, whose folder is not the current one."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "random.py").write_text("raise AssertionError('a file of the user hides a package')")
    (tmp_path / "queue.py").write_text("raise AssertionError('a file of the user hides a package')")
    scenario = TINY.read_text().replace('"digits"', '"mine:Noise"').replace('"permuted"', '"mine:Shuffled"')
    (tmp_path / "own.toml").write_text(scenario.replace('"mlp"', '"mine:build"').replace("hidden", "wide"))
    program = "import sys; sys.path[:] = [p for p in sys.path if p]; from cl_engine.cli import main; main()"
    arguments = (
        "sweep",
        "own.toml",
        "-s",
        "mine:L2",
        "-s",
        "mine.py:L2",
        "--set",
        "stream.n=1",
        "--jobs",
        "1",
        "--no-report",
        "--quiet",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    sweep = [sys.executable, "-P", "-c", program, *arguments, "--out", "sweep"]
    done = subprocess.run(sweep, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    runs = [open_run(run) for run in sorted((tmp_path / "sweep").glob("own-*"))]
    assert [(run.strategy, run.status) for run in runs] == [("mine:L2", "finished"), ("mine.py:L2", "finished")]
    assert "class Shuffled" in json.loads(runs[0].environment["code"])["mine"]["text"]


def test_a_module_that_is_nowhere_is_said_to_be_so():
    with pytest.raises(UsageError, match=r"No module named 'nowhere_at_all', neither .* nor in the current folder"):
        plugins.load("strategies", "nowhere_at_all:L2")


@pytest.mark.parametrize("kind", ["strategies", "streams", "sources", "nets"])
def test_every_plug_in_says_in_one_line_what_it_is(kind: plugins.Kind):
    for name in plugins.names(kind):
        assert len(plugins.summary(kind, name)) > 20
        assert plugins.load(kind, name).__doc__.splitlines()[0] == plugins.summary(kind, name)


def test_a_method_that_strategies_had_before_says_where_it_is_now(tiny: Callable[..., Experiment]):
    experiment = tiny("finetune")
    strategy = experiment.build_strategy(experiment.stream())
    with pytest.raises(AttributeError, match=r"Strategy.net_for is now .* `self.shared.params\(…\)` here"):
        strategy.net_for(0)


def test_types_of_options_are_listed_in_words():
    for kind in plugins.BASES:
        for name in plugins.own(kind):
            for option, type_, _, _ in described(plugins.load(kind, name).Options):
                assert not re.search(r"FieldInfo|Annotated|typing|Literal|Union|<class", type_), (
                    kind,
                    name,
                    option,
                    type_,
                )
    listed = {option: type_ for option, type_, _, _ in described(plugins.load("strategies", "piggyback").Options)}
    assert listed["mask_lr"] == 'float > 0 | "auto"'
    assert listed["threshold"] == "float ≥ 0"
