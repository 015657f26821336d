"""SIGINT and SIGTERM, as people and Slurm send them: a run ends within a batch, says so, and can be taken up again."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.errors import RunFailed, UsageError
from cl_engine.interop.offline import WouldDownload
from cl_engine.results.run import open_run
from cl_engine.runs.signals import Stopped
from cl_engine.sweep.run_job import Paused
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.training.seed_group import SeedGroup
from tests.conftest import TINY

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def typed(out: Path, strategy: str, *settings: str) -> tuple[int, str]:
    sets = [part for setting in settings for part in ("--set", setting)]
    ended = CliRunner().invoke(main, ["run", str(TINY), "-s", strategy, "--quiet", "--out", str(out), *sets])
    return ended.exit_code, ended.stderr


def signalled_at(monkeypatch: pytest.MonkeyPatch, where: str, number: int, nth: int = 1) -> list[float]:
    """Let this process be sent a signal when a function is called for the n-th time; return when that was."""
    owner: Any = pytest.importorskip(where.partition(":")[0])
    *path, name = where.partition(":")[2].split(".")
    for part in path:
        owner = getattr(owner, part)
    original, calls, when = getattr(owner, name), 0, []

    def hooked(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            when.append(time.monotonic())
            os.kill(os.getpid(), number)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, hooked)
    return when


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("strategy", "where", "nth"),
    [
        ("finetune", "cl_engine.training.seed_group:SeedGroup.step", 10),
        ("finetune", "cl_engine.engine.evaluator:Evaluator.sums", 7),
        ("finetune", "cl_engine.loggers.recorder:Recorder._write", 2),
        ("finetune", "cl_engine.checkpoints.file:save_file", 2),
        ("skill_recall", "cl_engine.recall.consolidation:_Group._step", 5),
        ("mntdp", "cl_engine.modules.growth:Growth.accuracy", 2),
        ("avalanche:Naive", "torch.optim:SGD.step", 9),
    ],
)
def test_wherever_the_signal_arrives_the_run_is_stopped_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, where: str, nth: int, number: int
):
    assert typed(tmp_path / "whole", strategy, *settings_of(strategy))[0] == 0
    with monkeypatch.context() as patch:
        sent = signalled_at(patch, where, number, nth)
        code, said = typed(tmp_path / "cut", strategy, *settings_of(strategy))
    assert len(sent) == 1
    assert (code, "Stopped. To go on from the last save:" in said) == (128 + number, True), said
    assert open_run(tmp_path / "cut").status == "stopped"
    assert typed(tmp_path / "cut", strategy, *settings_of(strategy))[0] == 0
    assert_same_facts(facts(tmp_path / "cut" / "log.h5"), facts(tmp_path / "whole" / "log.h5"))


def settings_of(strategy: str) -> list[str]:
    return ["train.optimizer=sgd", "agenda.curve_batches=0"] if strategy.startswith("avalanche") else []


def test_a_run_stops_within_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = 0
    when = signalled_at(monkeypatch, "cl_engine.training.seed_group:SeedGroup.step", signal.SIGTERM, 9)
    original = SeedGroup.step

    def slow(learner: SeedGroup, epoch: int, batch: int) -> None:
        nonlocal steps
        original(learner, epoch, batch)
        steps += bool(when)
        time.sleep(0.06)  # longer than between two looks at whether anybody still reads

    monkeypatch.setattr(SeedGroup, "step", slow)
    assert typed(tmp_path, "finetune")[0] == 143
    assert steps == 1


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "where", ["cl_engine.experiment:Experiment.stream", "cl_engine.training.seed_group:SeedGroup.step"]
)
def test_before_the_first_step_too_while_data_are_read_and_a_backbone_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
):
    monkeypatch.setenv("CL_CACHE", str(tmp_path / "cache"))
    settings = ["backbone.source=digits", "backbone.train.epochs=2"]
    with monkeypatch.context() as patch:
        signalled_at(patch, where, number, 1)
        code, said = typed(tmp_path / "run", "finetune", *settings)
    assert code == 128 + number, said
    assert "Traceback" not in said
    assert typed(tmp_path / "run", "finetune", *settings)[0] == 0


def test_every_error_of_the_package_comes_back_from_another_process():
    errors = [Stopped(signal.SIGTERM), Paused(), UsageError("a"), RunFailed("b"), WouldDownload("c")]
    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
