"""What was written before modules moved into rooms: names are found, runs and sweeps that were stopped are resumed."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cl_engine import events
from cl_engine.cli import main
from cl_engine.core.moved import MOVED, RENAMED
from cl_engine.experiment import Experiment
from cl_engine.results import open_run
from cl_engine.testing.logs import facts
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
ARCHIVED = Path(__file__).parent / "logs" / "before-rooms.tar.xz"
MIDWAY = {"agenda.save_every_epochs": 1, "agenda.curve_tasks": 1, "agenda.spot_checks": 0.0}


def test_every_name_that_readme_and_docs_import_is_there():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.py")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = re.findall(r"^\s*from (cl_engine[\w.]*) import ([^\n(]+)$", text, re.MULTILINE)
    assert len(found) > 20
    for module, names in found:
        for name in names.split(","):
            exec(f"from {module} import {name.split('#')[0]}", {})
    for module in re.findall(r"`(cl_engine(?:\.\w+)+)`", text):
        pkgutil.resolve_name(module)


@pytest.mark.parametrize("old", sorted(MOVED))
def test_a_module_is_found_under_the_name_it_had_and_says_where_it_is_now(old: str):
    name, now = f"cl_engine.{old}", f"cl_engine.{MOVED[old]}"
    sys.modules.pop(name, None)
    with pytest.warns(DeprecationWarning, match=f"{re.escape(name)} is now {re.escape(now)}$"):
        module = importlib.import_module(name)
    assert module is importlib.import_module(now)
    assert all(getattr(module, before) is getattr(module, after) for before, after in RENAMED.get(old, {}).items())
    assert module.__spec__ is not None
    assert module.__spec__.name == now


def test_a_strategy_written_before_the_move_still_imports_what_it_needs():
    code = (
        "from cl_engine.bank import Bank; from cl_engine.stream import Experience; from cl_engine.net import Net, Params\n"
        "from cl_engine.tree import Tree, leaves, mapped; from cl_engine.job import Curve, Midway; from cl_engine import rng\n"
        "from cl_engine.source_stream import SourceStream; from cl_engine.engine import simulate\n"
        "from cl_engine.metrics import acc, bwt; from cl_engine.events import Unchanged, EarlierTested, StrategyEvent\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    with pytest.warns(DeprecationWarning, match="Unchanged is now ScoresReused"):
        assert events.Unchanged is events.ScoresReused  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="Nothing"):
        events.Nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with four runs stopped in their second experience, and a sweep of which one run of two is over."""
    folder = tmp_path_factory.mktemp("archived")
    with tarfile.open(ARCHIVED) as packed:
        packed.extractall(folder, filter="data")
    return folder


AS_THEN: dict[str, dict[str, Any]] = {"hat": {"gradient": "exact", "clip": None}}  # what was done before these options


@pytest.mark.parametrize("strategy", ["replay", "skill_recall", "mntdp", "hat"])
def test_a_run_that_was_stopped_before_the_move_is_resumed_after_it(strategy: str, archived: Path, tmp_path: Path):
    experiment = Experiment.of(TINY, strategy, (0, 1), **MIDWAY, **AS_THEN.get(strategy, {}))
    before = open_run(archived / strategy)
    assert before.status == "stopped"
    measured = before.results["n_correct"].values.copy()
    first = before.table("epochs").query("step == 0")
    run = open_run(experiment.run(archived / strategy, device="cpu"))
    assert run.status == "finished"
    np.testing.assert_array_equal(run.results["n_correct"].values[: len(measured)], measured)
    assert run.table("epochs").query("step == 0").equals(first)
    whole = facts(experiment.run(tmp_path, device="cpu") / "log.h5")
    resumed = facts(archived / strategy / "log.h5")
    exact = {name for name, value in whole.items() if getattr(value, "dtype", np.dtype("f8")).kind not in "fO"}
    assert {name for name in exact if np.shape(whole[name]) != np.shape(resumed[name])} == set()
    # an older log counts all of the state to its end, a new one tells apart what follows from the seeds
    assert not resumed["results/memory_apart"].any()
    np.testing.assert_array_equal(resumed["results/memory"], whole["results/memory"] + whole["results/memory_apart"])
    np.testing.assert_array_equal(resumed["experiences/memory"], resumed["results/memory"].sum(axis=1))
    close = np.abs(resumed["results/n_correct"] - whole["results/n_correct"])
    assert close.max() <= 2  # rows of fifty: another processor rounds otherwise


def test_a_sweep_that_was_stopped_before_the_move_is_resumed_after_it(archived: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    sweep = archived / "sweep"
    done = next(log for log in sweep.glob("*/log.h5") if open_run(log).status == "finished")
    when = done.stat().st_mtime_ns
    typed = ["sweep", "tests/tiny.toml", "-s", "finetune", "--set", "lr=1e-3,1e-2", "--seeds", "1", "--out", str(sweep)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = CliRunner().invoke(main, [*typed, "--no-report"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "2 of 2 done" in result.stdout
    assert {open_run(log).status for log in sweep.glob("*/log.h5")} == {"finished"}
    assert done.stat().st_mtime_ns == when
