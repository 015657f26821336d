"""Plug-ins: found by file, by entry point, and as module:object; and the examples of the README."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from tests.conftest import SETTINGS

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
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


def test_two_plug_ins_of_one_name_are_refused(guest: Path):
    install(guest, "finetune = guest_module:L2")
    with pytest.raises(UsageError, match="two packages bring a strategy named 'finetune'"):
        plugins.names("strategies")


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
