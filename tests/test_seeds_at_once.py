"""Seeds that train as one do so in groups where the maps of a step would take more of a GPU than they are meant to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cl_engine.experiment import Experiment
from cl_engine.nn.batching import STEP_BYTES, trained_at_once
from cl_engine.testing.devices import SHORT, whole
from cl_engine.training import fit
from cl_engine.training.vmapped_seeds import VmappedSeeds

GPU = torch.device("cuda")
KEPT = {"train.keep_optimizer": True, "train.ema": 0.9, "train.upkeep": "continual_backprop", "agenda.online": True}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "what optimisers and upkeep remember, and averages": ("finetune", KEPT),
    "rehearsed images moved and mirrored": ("replay", {"train.crop": 1, "train.flip": 0.5}),
    "tasks of their own": ("finetune", {"stream.per_seed": True}),
    "validation rows that end training": ("independent", {"stream.validation": 0.25, "train.patience": 1}),
    "paths of a search": ("mntdp", {"stream.validation": 0.25}),
    "numbers told, and what the seeds share": ("hat", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_seeds_in_groups_learn_what_they_learn_together(
    case: str, tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
):
    strategy, options = CASES[case]
    experiment = tiny(strategy, (0, 1, 2), **{**SHORT, **options})
    together, made = whole(experiment), []
    own = VmappedSeeds.__init__

    def in_pairs(seeds: int, device: torch.device, numbers: Callable[[], int]) -> list[range]:
        assert numbers() > 64  # of a row of inputs
        return [range(begin, min(begin + 2, seeds)) for begin in range(0, seeds, 2)]

    def noted(self: VmappedSeeds, job: Any, places: range) -> None:
        made.append(places)
        own(self, job, places)

    monkeypatch.setattr(fit, "trained_at_once", in_pairs)
    monkeypatch.setattr(VmappedSeeds, "__init__", noted)
    torch.testing.assert_close(whole(experiment), together, rtol=1e-4, atol=1e-4)
    assert {len(places) for places in made} == {2}


def test_groups_are_as_even_as_can_be_and_there_is_one_where_memory_suffices_and_on_a_cpu(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, "cl_engine")
    assert trained_at_once(10, GPU, lambda: STEP_BYTES // 40) == [range(10)]
    assert trained_at_once(10, torch.device("cpu"), lambda: STEP_BYTES) == [range(10)]
    assert not caplog.records
    for _ in range(2):
        assert list(map(len, trained_at_once(10, GPU, lambda: STEP_BYTES // 16))) == [3, 3, 4]
    assert list(map(len, trained_at_once(2, GPU, lambda: STEP_BYTES))) == [1, 1]
    assert (
        caplog.text.count("10 seeds train in 3 groups: the maps of a step take 536.9 MB of the GPU for each seed") == 1
    )
