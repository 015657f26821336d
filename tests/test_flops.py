"""Operations are counted as torch's own counter counts them, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from cl_engine.events import EpochEnded, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.modules.events import CandidateTried
from cl_engine.nn.attention import SelfAttention
from cl_engine.nn.flops import Flops
from cl_engine.results.run import open_run

Tiny = Callable[..., Experiment]
NETS = {
    "fully connected": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), (7, 6)),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, stride=2)),
        (5, 2, 8, 8),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_step_counts_as_many_operations_as_torch_says(name: str):
    build, shape = NETS[name]
    net, x = build(), torch.randn(shape)
    with FlopCounterMode(display=False) as theirs:
        net(x).sum().backward()
    with Flops() as ours:
        net(x).sum().backward()
    assert ours.total == theirs.get_total_flops() > 0
    with FlopCounterMode(display=False) as theirs, torch.inference_mode():
        net(x)
    with Flops() as ours, torch.inference_mode():
        net(x)
    assert ours.total == theirs.get_total_flops() > 0


@pytest.mark.parametrize("name", NETS)
def test_seeds_side_by_side_count_as_many_operations_as_one_after_the_other(name: str):
    build, shape = NETS[name]
    net, x = build(), torch.randn(shape)
    params = {key: torch.stack([t.detach()] * 3).requires_grad_() for key, t in net.named_parameters()}
    with Flops() as together:
        torch.vmap(lambda one: functional_call(net, one, (x,)).sum())(params).sum().backward()
    with Flops() as alone:
        net(x).sum().backward()
    assert together.total == 3 * alone.total


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_attention_counts_the_same_by_whatever_kernel(hidden: bool, training: bool):
    net, x = SelfAttention(8, 2), torch.randn(3, 5, 8)
    params = {key: t.detach().clone().requires_grad_(training) for key, t in net.named_parameters()}
    padding = torch.zeros(3, 5, dtype=torch.bool) if hidden else None

    def answered(one: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(net, one, (x, padding))

    with Flops() as kernel:
        by_kernel = answered(params).sum()
    with Flops() as formula:
        by_formula = torch.vmap(answered)({key: t[None] for key, t in params.items()})[0].sum()
    torch.testing.assert_close(by_kernel, by_formula)
    assert kernel.total == formula.total > 0
    if training:  # kernels keep no scores: backward they compute them again
        with Flops() as kernel:
            by_kernel.backward()
        with Flops() as formula:
            by_formula.backward()
        assert kernel.total == formula.total + 2 * 3 * 5 * 5 * 8


def test_a_run_logs_the_operations_of_training_and_of_an_answer(tiny: Tiny, tmp_path: Path):
    heard: list[float] = []

    def hear(event: object) -> None:
        if isinstance(event, EpochEnded | TaskLearned):
            heard.append(event.flops)

    experiment = tiny("finetune", **{"net.hidden": [12]})
    run = open_run(experiment.run(tmp_path / "run", listeners=lambda stream: [hear]))
    table = run.table("experiences")
    rows, forward = 60, 2 * (64 * 12 + 12 * 10)
    # inputs need no gradient: three products for the second layer and two for the first, twice over all rows
    assert (table["training_flops"] == 2 * rows * (3 * 2 * 120 + 2 * 2 * 768)).all()
    assert (table["inference_flops"] == forward).all()
    assert sum(heard) == table["training_flops"].sum() + table["inference_flops"].sum()


def test_the_operations_of_a_search_are_those_of_all_its_candidates(tiny: Tiny, tmp_path: Path):
    tried: dict[int, float] = {}

    def hear(event: object) -> None:
        if isinstance(event, CandidateTried):
            tried[event.step] = tried.get(event.step, 0.0) + event.flops

    run = open_run(tiny("mntdp").run(tmp_path / "run", listeners=lambda stream: [hear]))
    assert run.table("experiences")["training_flops"].tolist() == pytest.approx(list(tried.values()))
