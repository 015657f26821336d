"""A code may keep what a task adds to a frozen net: learned as the strategies of adapters and masks learn it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.strategies.skill_recall import SkillRecall
from cl_engine.strategy import Strategy
from cl_engine.testing import StrategyContract
from tests.conftest import TINY

Tiny = Callable[..., Experiment]
SAME: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "lora": ({"lora_rank": 2}, "lora", {"rank": 2}),
    "patch": ({"adapter_lr": 0.02}, "patch", {"patch_lr": 0.02}),
    "mask": ({"adapter_lr": 0.003}, "piggyback", {"mask_lr": 0.003}),
}


def learned(experiment: Experiment) -> Strategy:
    """Return the strategy of an experiment, all of whose tasks it has learned."""
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    for _ in simulate(stream, strategy, plan(stream, experiment.agenda)):
        pass
    return strategy


@pytest.mark.parametrize("backbone", ["initial", "first_task"])
@pytest.mark.parametrize("what", SAME)
def test_what_waits_answers_as_the_strategy_that_keeps_it_as_it_is(what: str, backbone: str, tiny: Tiny):
    ours, name, theirs = SAME[what]
    codes = learned(tiny("skill_recall", (0, 1), what=what, buffer=9, backbone=backbone, **ours))
    rows = learned(tiny(name, (0, 1), backbone=backbone, **theirs))
    x = tiny("finetune").stream().test(1).x
    for task in range(4):
        assert torch.equal(codes.predict(x, task), rows.predict(x, task)), f"task {task}"


def test_a_code_gives_an_adapter_of_a_net_that_stays_as_it_was(tiny: Tiny):
    strategy = learned(tiny("skill_recall", what="lora", codec="quantised", bits=8, buffer=1))
    assert isinstance(strategy, SkillRecall)
    assert strategy.manifest.size < sum(tensor[0].numel() for tensor in strategy.decoded(0).values())
    assert strategy.keeper.held(strategy.state) == 3
    drawn = strategy.net.init(strategy.seeds)
    assert all(torch.equal(tensor, drawn[name]) for name, tensor in strategy.state["backbone"].items())
    assert "backbone" in strategy.read_by_recall


def test_masks_come_out_of_codes_as_they_went_in(tiny: Tiny):
    exact = learned(tiny("skill_recall", what="mask", buffer=9))
    coded = learned(tiny("skill_recall", what="mask", buffer=1, codec="quantised", bits=2))
    assert isinstance(exact, SkillRecall)
    assert isinstance(coded, SkillRecall)
    for task in range(3):
        one, other = exact.decoded(task), coded.decoded(task)
        off = {name: tensor == 0 for name, tensor in one.items() if name in exact.kept(task) and "head" not in name}
        assert off
        assert any(bits.any() for bits in off.values())
        assert all(torch.equal(bits, other[name] == 0) for name, bits in off.items())


def test_what_is_added_to_a_net_cannot_begin_from_scratch(tiny: Tiny):
    with pytest.raises(UsageError, match="what a task adds to a frozen net"):
        learned(tiny("skill_recall", what="patch", begin="scratch"))


def test_a_run_that_is_cut_goes_on_with_the_net_that_the_first_task_learned(tmp_path: Path):
    options = {"what": "lora", "backbone": "first_task", "codec": "basis"}
    held = {"strategy": "skill_recall", "scenario": TINY, "options": options}
    contract = type("Held", (StrategyContract,), held)()
    contract.test_a_cut_in_the_middle_of_an_experience_is_resumed_from_the_last_epoch_saved(1, tmp_path)
