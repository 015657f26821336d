"""Steps that are recorded and replayed come to what steps taken one by one come to, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import RunFailed
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.training import cuda_graphs
from cl_engine.training.cuda_graphs import lasting
from tests import recording

Tiny = Callable[..., Experiment]
LONG = {"train.epochs": 3, "train.batch": 7}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a net": ("finetune", {}),
    "several rates, which change": (
        "finetune",
        {"train.optimizer": "sgd", "train.milestones": [1, 2], "train.momentum": 0.9},
    ),
    "rates that change at every step": (
        "finetune",
        {"train.optimizer": "sgd", "train.schedule": "cosine", "train.schedule_by": "step", "train.warmup": 0.5},
    ),
    "Adam": ("finetune", {"train.optimizer": "adam", "train.lr": 0.01}),
    "averages and gradients that are clipped": ("finetune", {"train.ema": 0.9, "train.clip_norm": 0.5}),
    "rehearsed rows": ("replay", {}),
    "masks": ("piggyback", {}),
    "a frozen net and several fits": ("head_only", {}),
    "convolutions with statistics": ("finetune", {"net.name": "small_cnn"}),
    "numbers told": ("hat", {}),
    "images moved and mirrored, some rehearsed": ("replay", {"train.crop": 1, "train.flip": 0.5}),
    "a net that draws": ("finetune", {"net.name": "cl_engine.testing.small:with_dropout", "net.hidden": 8}),
    "pools of blocks": ("compose", {"net.name": "isometric", "net.width": 4, "net.steps": 2, "net.patch": 8}),
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record steps on the CPU once ``seen`` is told to; it then gets an entry for every recording and replay."""
    found: list[str] = []

    def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
        replay = recording.recorded(step)
        found.append("recorded")
        return lambda: (found.append("replayed"), replay())[1]

    monkeypatch.setattr(cuda_graphs, "possible", lambda device: bool(found))
    monkeypatch.setattr(cuda_graphs, "lasting", lambda optimizers: True)
    monkeypatch.setattr(cuda_graphs, "LEAST", 1)
    monkeypatch.setattr(cuda_graphs, "recorded", recorded)
    monkeypatch.setattr(cuda_graphs, "_SAID", set())
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_run_of_replayed_steps_has_the_log_of_any_other(
    case: str, seeds: tuple[int, ...], tiny: Tiny, tmp_path: Path, seen: list[str], caplog: pytest.LogCaptureFixture
):
    strategy, options = CASES[case]
    experiment = tiny(strategy, seeds, **LONG, **options)
    plain = facts(experiment.run(tmp_path / "plain") / "log.h5")
    assert not seen
    seen.append("go")
    again = facts(experiment.run(tmp_path / "replayed") / "log.h5")
    assert not [record for record in caplog.records if "training step" in record.message]
    assert seen.count("replayed") > 20 > seen.count("recorded") / len(seeds)
    assert_same_facts(again, plain)


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(
    tiny: Tiny, tmp_path: Path, seen: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    own = torch.optim.Adam.step

    def waiting(self: torch.optim.Adam, *given: Any) -> Any:
        assert (
            self.param_groups[0]["params"][0].grad.sum().item() < 1e9
        )  # waits for the number, once there are gradients
        return own(self, *given)

    monkeypatch.setattr(torch.optim.Adam, "step", waiting)
    experiment = tiny("finetune", (0,), **LONG)
    plain = facts(experiment.run(tmp_path / "plain") / "log.h5")
    seen.append("go")
    again = facts(experiment.run(tmp_path / "not replayed") / "log.h5")
    assert seen == ["go"]
    assert "cannot be recorded (operation not permitted" in caplog.text
    assert_same_facts(again, plain)


REASONS: dict[str, dict[str, Any]] = {
    "upkeep counts its steps outside of the GPU": {"train.upkeep": "l2_init"},
    "its schedule moves the momentum at every step": {"train.schedule": "one_cycle"},
    "transforms are drawn outside of the GPU": {"train.transforms": ["random_horizontal_flip"]},
    "its optimiser keeps numbers outside of the GPU": {"train.optimizer": "adagrad", "train.momentum": 0.0},
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_keeps_steps_from_being_recorded_is_said_once(
    reason: str, tiny: Tiny, seen: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    seen.append("go")
    monkeypatch.setattr(cuda_graphs, "lasting", lasting)
    experiment = tiny("finetune", (0, 1), **{"train.optimizer": "sgd", "train.momentum": 0.9, **REASONS[reason]})
    stream = experiment.stream()
    for _ in simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda)):
        pass
    assert seen == ["go"]
    assert caplog.text.count(f"is not recorded, because {reason}: steps are launched one by one") == 1


def test_memory_that_a_recording_uses_up_is_no_reason_to_go_on_without(
    tiny: Tiny, tmp_path: Path, seen: list[str], monkeypatch: pytest.MonkeyPatch
):
    def full(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(cuda_graphs, "recorded", full)
    seen.append("go")
    with pytest.raises(RunFailed, match="the GPU is out of memory"):
        tiny("finetune", (0,), **LONG).run(tmp_path)


def test_a_recording_that_does_something_else_is_not_used(
    tiny: Tiny, tmp_path: Path, seen: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    experiment = tiny("finetune", (0,), **LONG)
    plain = facts(experiment.run(tmp_path / "plain") / "log.h5")
    monkeypatch.setattr(cuda_graphs, "recorded", lambda step, device: lambda: None)  # which does nothing at all
    seen.append("go")
    again = facts(experiment.run(tmp_path / "not replayed") / "log.h5")
    assert caplog.text.count("does something else when it is replayed") == 1  # of a step that all three tasks take
    assert_same_facts(again, plain)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [("SGD", {}, True), ("Adam", {"capturable": True}, True), ("Adam", {}, False), ("Adagrad", {}, False)],
)
def test_steps_of_optimisers_that_count_outside_of_the_gpu_are_not_recorded(
    kind: str, options: dict[str, Any], expected: bool
):
    weights = [nn.Parameter(torch.zeros(2))]
    assert cuda_graphs.lasting([getattr(torch.optim, kind)(weights, lr=0.1, **options)]) is expected


def test_steps_are_recorded_on_a_gpu_alone_and_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(cuda_graphs.SWITCH, "1")
    assert cuda_graphs.possible(torch.device("cuda", 1))
    assert not cuda_graphs.possible(torch.device("cpu"))
    monkeypatch.delenv(cuda_graphs.SWITCH)
    assert not cuda_graphs.possible(torch.device("cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu_replayed_steps_learn_what_others_do(
    case: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    strategy, options = CASES[case]
    found, made = [], []
    own = cuda_graphs.recorded
    monkeypatch.setattr(cuda_graphs, "recorded", lambda step, device: (made.append(device), own(step, device))[1])
    for asked in ("0", "1"):
        monkeypatch.setenv(cuda_graphs.SWITCH, asked)
        monkeypatch.setattr(cuda_graphs, "LEAST", 1)
        run = tiny(strategy, (0,), **LONG, **options).run(tmp_path / asked, device="cuda")
        found.append(open_run(run).results["accuracy"].values)
    assert "training step" not in caplog.text
    assert made
    assert abs(found[0] - found[1])[~np.isnan(found[0])].max() <= 0.1
