"""The demo: the strategies side by side, with whatever may happen to one of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import joblib
import pytest
from click.testing import CliRunner, Result

from cl_engine.cli import main, terminal
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.signals import Stopped
from cl_engine.sweep.folder import SweepFolder
from cl_engine.testing.logs import assert_same_facts, facts
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
TROUBLED = "tests.sweep_of_users:Troubled"


def test_the_demo_shows_each_family_but_those_that_need_other_tasks_or_a_pre_trained_net():
    shown = {*plugins.own("strategies")} - terminal.NOT_SHOWN
    table = (ROOT / "README.md").read_text().partition("| what is done against forgetting |")[2].partition("\n\n")[0]
    families = {row.split("|")[1].strip(): set(re.findall(r"`(\w+)`", row)) for row in table.splitlines()[2:]}
    assert len(families) == 9
    without = [family for family, strategies in families.items() if not strategies & shown]
    assert without == ["tasks that serve each other, domains without labels"]


def demo(out: Path, *flags: str) -> Result:
    return CliRunner().invoke(main, ["demo", "--out", str(out), *flags], catch_exceptions=False)


def test_strategies_of_the_demo_run_side_by_side_and_one_that_fails_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scenario, out = tmp_path / "short.toml", tmp_path / "out"
    trouble = f'[strategy."{TROUBLED}"]\ntrace = "{tmp_path / "trace"}"\ntrouble = "failed"\ntimes = 3\n'
    scenario.write_text(f"{TINY.read_text()}\n{trouble}")
    monkeypatch.setattr(terminal, "DEMO", str(scenario))
    monkeypatch.setattr(plugins, "own", lambda kind: ["adapt", "finetune", TROUBLED])
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)

    failed = demo(out)
    assert failed.exit_code == 1
    assert "Failed: 1 of 2 strategies failed; the same command tries them again; " in failed.stderr
    assert "as planned" in failed.stderr
    assert "finetune" in failed.stdout
    assert "ACC" in failed.stdout
    assert (out / "report.html").exists()
    entries = {entry.strategy: entry.name for entry in SweepFolder(out).entries}
    assert sorted(entries) == ["finetune", TROUBLED]
    assert len({SweepFolder(out).attempts(name)[1]["where"] for name in entries.values()}) == 2
    alone = Experiment.of(str(scenario), "finetune", (0, 1, 2)).run(tmp_path / "alone", device="cpu")
    assert_same_facts(facts(out / entries["finetune"] / "log.h5"), facts(alone / "log.h5"))

    before = open_run(out / entries["finetune"]).attributes["run_id"]
    again = demo(out)
    assert again.exit_code == 0
    assert {open_run(out / name).status for name in entries.values()} == {"finished"}
    assert open_run(out / entries["finetune"]).attributes["run_id"] == before
    assert {word for word in again.stdout.split() if word in ("finetune", TROUBLED)} == {"finetune", TROUBLED}

    def stopped(self: Any, **named: Any) -> None:
        raise Stopped(15)

    monkeypatch.setattr(terminal.Sweep, "run", stopped)
    ended = demo(out, "--fresh")
    assert ended.exit_code == 128 + 15
    assert "Stopped. To go on: " in ended.stderr
    assert f"removed {out / entries['finetune'] / 'log.h5'}" in ended.stderr
    assert not list(out.glob("*/log.h5"))
