"""Plug-ins by ``file.py:Name`` and ``module:Name``, from any folder; plain modules, and broken ones, as entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs import importing, plugin_names, plugins
from cl_engine.sweep.combinations import restored, told
from tests.conftest import TINY
from tests.test_known_code import MINE

OTHERS = '''
import numpy as np
from torch import nn

from cl_engine.data.label_function import LabelFunction
from cl_engine.nn.target import Target
from cl_engine.streams.permuted import Permuted
from cl_engine.training.upkeep import Upkeep


class Noise(Source):
    """Noise of four classes."""

    def load(self, root):
        x, y = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8), np.arange(40) % 4
        return Arrays(x, y, x, y, classes=4)


class Shuffled(Permuted): ...


class Decay(Upkeep): ...


class Ordered(Target): ...


class Light(LabelFunction): ...


class Net(nn.Module):
    def __init__(self, num_classes, wide=8):
        super().__init__()
        self.hidden, self.head = nn.Linear(64, wide), nn.Linear(wide, num_classes)

    def forward(self, x):
        return self.head(self.hidden(x.flatten(1)).relu())
'''
ALL = {
    "strategies": "Mine",
    "streams": "Shuffled",
    "sources": "Noise",
    "upkeep": "Decay",
    "targets": "Ordered",
    "labels": "Light",
}


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder, empty but for a folder `lab` that has a file of plug-ins and what it imports."""
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "mine.py").write_text(MINE + OTHERS)
    (lab / "helper.py").write_text("RATE = 1.0\n")
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    importing._files.clear()
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("where", ["lab/mine.py", "./lab/mine.py", "{lab}/mine.py"])
def test_every_kind_of_plug_in_is_found_by_its_file(where: str, away: Path):
    file = where.format(lab=away / "lab")
    for kind, name in ALL.items():
        assert plugins.load(kind, f"{file}:{name}").__name__ == name
    assert plugins.net(f"{file}:Net").__name__ == "Net"


def test_a_scenario_finds_the_plug_ins_that_lie_beside_it_by_file_and_by_module_wherever_one_stands(away: Path):
    text = TINY.read_text().replace('"digits"', '"mine.py:Noise"').replace('"mlp"', '"mine:Net"')
    (away / "lab" / "own.toml").write_text(text.replace("hidden = [12, 12, 12]", "wide = 6"))
    made = Experiment.of("lab/own.toml", "mine.py:Mine", **{"stream.n": 1})
    assert made.folder.name.startswith("own-mine-py-Mine-")
    elsewhere = restored(told(made))  # as another process gets it
    run = open_run(elsewhere.run("run", device="cpu"))
    assert (run.status, run.strategy) == ("finished", "mine.py:Mine")


def test_the_folder_of_a_run_has_the_name_of_a_file_without_its_folders(away: Path):
    assert Experiment.of(TINY, f"{away}/lab/mine.py:Mine").folder.name.startswith("tiny-mine-py-Mine-")


REFUSED = {
    "nowhere.py:Mine": r"the strategy 'nowhere.py:Mine' cannot be imported: there is no file nowhere.py in the current folder "
    r"\({here}\), nor in that of the scenario \({scenario}\)",
    "/nowhere/at/all.py:Mine": r"there is no file /nowhere/at/all.py$",
    "nowhere_at_all:Mine": r"No module named 'nowhere_at_all', neither where Python looks for modules nor in the current folder "
    r"\({here}\), nor in that of the scenario \({scenario}\)",
    "lab/mine.py:Nine": r"has no attribute 'Nine'; there are: Mine, Noise, Shuffled",
    "lab/mine.py": r"the strategy 'lab/mine.py' is a file: name what is to be taken from it too, as in lab/mine.py:Mine",
    "lab/mine.py:Noise": r"'lab/mine.py:Noise' is not a strategy: it must be a subclass of",
    "lab/broken.py:Mine": r"cannot be imported: ZeroDivisionError: division by zero \(.*lab/broken.py, line 2\)",
    "lab/lost.py:Mine": r"cannot be imported: No module named 'never_written' \(.*lab/lost.py, line 1\)",
    "lab/wrong.py:Mine": r"invalid syntax \(wrong.py, line 1\)",
    "lab:Mine": r"has no attribute 'Mine'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_of_nothing_is_refused_with_the_places_where_was_looked(name: str, away: Path):
    (away / "lab" / "broken.py").write_text("\n1 / 0\n")
    (away / "lab" / "lost.py").write_text("import never_written\n")
    (away / "lab" / "wrong.py").write_text("class (:\n")
    with pytest.raises(UsageError, match=REFUSED[name].format(here=away, scenario=TINY.parent)):
        Experiment.of(TINY, name)
    assert "broken" not in sys.modules


def test_a_file_that_has_changed_is_taken_as_it_stands_now_in_the_same_process_too(away: Path):
    (away / "mine.py").write_text("class Mine: a = 1\n")
    first = importing.attribute("a", "mine.py:Mine")
    assert importing.attribute("a", "mine.py:Mine") is first
    (away / "mine.py").write_text("class Mine: a = 2\n")  # as long, in the same second: nothing but the text tells
    assert (first.a, importing.attribute("a", "mine.py:Mine").a) == (1, 2)


def test_files_of_one_name_in_two_folders_and_of_a_name_of_pythons_are_themselves(away: Path):
    for folder, value in (("a", 1), ("b", 2)):
        (away / folder).mkdir()
        (away / folder / "random.py").write_text(f"class Mine: a = {value}\n")
    assert [importing.attribute("a", f"{folder}/random.py:Mine").a for folder in ("a", "b")] == [1, 2]
    import random

    assert random.random() < 1


def test_what_a_file_imports_is_what_lies_beside_it_or_is_refused(away: Path):
    (away / "helper.py").write_text("RATE = 2.0\n")
    assert plugins.load("strategies", "lab/mine.py:Mine").__module__ == "mine"
    assert sys.modules["helper"].RATE == 1.0
    other = away / "other"
    other.mkdir()
    (other / "yours.py").write_text("from helper import RATE\n\n\nclass Yours: ...\n")
    (other / "helper.py").write_text("RATE = 3.0\n")
    with pytest.raises(
        UsageError, match=r"yours.py imports 'helper', and this process has it from .*lab/helper.py, not from"
    ):
        importing.attribute("the strategy", "other/yours.py:Yours")


def test_a_file_of_a_package_imports_its_neighbours(away: Path):
    (away / "pack" / "inner").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "inner/__init__": "",
        "two": "TWO = 2\n",
        "inner/one": "from ..two import TWO\n",
    }.items():
        (away / "pack" / f"{name}.py").write_text(text)
    assert importing.attribute("a number", "pack/inner/one.py:TWO") == 2


@pytest.fixture
def installed(away: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody else's is installed that brings a net, a strategy, and one of each that is broken."""
    monkeypatch.syspath_prepend(away / "lab")
    info = away / "lab" / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    groups = {"nets": "Net", "strategies": "Mine"}
    lines = [
        f"[cl_engine.{kind}]\nguest = mine:{name}\ngone = nowhere_at_all:X\nodd = mine mine\n"
        for kind, name in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return info


@pytest.mark.usefixtures("installed")
def test_a_plain_module_as_an_entry_point_serves_as_one_that_is_named_by_its_module_does():
    options = {"net.name": "guest", "stream.n": 1}
    run = open_run(Experiment.of(TINY, "guest", **options).run("run", device="cpu"))
    assert (run.status, run.experiment["options"]["net"]) == ("finished", {"name": "guest"})
    with pytest.raises(UsageError, match=r"net.name: 'guest' cannot be built .*unexpected keyword argument 'narrow'"):
        Experiment.of(TINY, "guest", **options, **{"net.narrow": 3}).run("other", device="cpu")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("kind", ["nets", "strategies"])
def test_list_names_what_is_broken_with_its_reason_and_goes_on(kind: str):
    done = CliRunner().invoke(main, ["list", kind])
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.output.splitlines() if line.startswith("  ") and line.split()}
    assert "from guest: mine:" in lines["guest"]
    assert "the plug-in 'gone' of package 'guest' cannot be imported: No module named 'nowhere_at_all'" in lines["gone"]
    assert "the plug-in 'odd' of package 'guest' cannot be imported" in lines["odd"]
    assert {"mlp", "finetune"} & lines.keys()
    assert CliRunner().invoke(main, ["list"]).exit_code == 0


def test_a_package_whose_list_of_entry_points_is_no_such_list_is_in_no_others_way(installed: Path):
    (installed.parent / "bad-1.0.dist-info").mkdir()
    (installed.parent / "bad-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (installed.parent / "bad-1.0.dist-info" / "entry_points.txt").write_text("[cl_engine.nets]\nno equals sign\n")
    plugin_names._entries_on.cache_clear()
    assert {"guest", "mlp"} <= set(plugins.names("nets"))
    plugin_names._entries_on.cache_clear()


@pytest.mark.usefixtures("installed")
def test_the_demo_shows_the_strategies_of_the_engine_alone(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []

    def made(options: object, *args: object, **named: object) -> None:
        shown.extend(options.strategies)  # type: ignore[attr-defined]
        raise UsageError("enough")

    monkeypatch.setattr("cl_engine.cli.terminal.Sweep", made)
    assert CliRunner().invoke(main, ["demo", "--out", "demo"]).exit_code == 2
    assert "finetune" in shown
    assert not {"guest", "gone", "odd"} & set(shown)
