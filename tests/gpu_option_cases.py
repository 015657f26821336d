"""Options of strategies and streams that take a path of their own, on a GPU and on the CPU: run as `tests/gpu_cases.py` is.

With one seed: its fits are grouped alike on both, so that a fit left in its middle on the one goes on on the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.gpu_cases import assert_same

NORM = {"net.name": "cl_engine.testing.small:with_batchnorm", "net.hidden": 4}
BLOCKS = {"net.name": "isometric", "net.width": 4, "net.steps": 2, "net.patch": 8}
ALIGNED, ASIDE, FOUR = {"stream.unlabelled": [1]}, {"stream.validation": 0.25}, {"stream.n": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "rows a few at a time": ("der", {"stream.pieces": 10, "stream.setting": "domain"}),
    "rows a few at a time, of a memory with heads": ("replay", {"stream.pieces": 10, "train.epochs": 1}),
    "boundaries that are blurred": (
        "finetune",
        {"stream.name": "split", "stream.setting": "class", "stream.blurry": 0.5},
    ),
    "tasks that change little by little": ("finetune", {"stream.gradual": 10, "stream.setting": "domain"}),
    "tasks that change little by little, each seed's own": (
        "finetune",
        {"stream.gradual": 10, "stream.gradual_by": "inputs", "stream.per_seed": True, "stream.setting": "domain"},
    ),
    "metrics of answers": ("finetune", {"agenda.metrics": ["ece", "confusion"]}),
    "units that are looked at": ("finetune", {"agenda.diagnose_every": 1, "stream.setting": "domain"}),
    "images that are zoomed": ("finetune", {"train.zoom": 0.2}),
    "upkeep that remembers": ("finetune", {"train.upkeep": "continual_backprop?rate=0.5&maturity=1"}),
    "layers that a dry run sizes": ("finetune", {"net.name": f"{__name__}:lazy"}),
    "attention": ("finetune", {"net.name": "vit", "net.width": 8, "net.layers": 1}),
    "codes of a basis": ("skill_recall", {"codec": "basis", "rank": 2, **FOUR}),
    "quantised codes": ("skill_recall", {"codec": "quantised", **FOUR}),
    "codes of a mean": ("skill_recall", {"codec": "mean", **FOUR}),
    "codes in closed form, corrected": (
        "skill_recall",
        {"closed_form": True, "residual_bits": 2, "references": "quantised", "code_batch": 1, "begin": "mean", **FOUR},
    ),
    "codes of chunks in closed form": ("skill_recall", {"closed_form": True, "chunk": 40, **FOUR}),
    "codes that start from a past one": ("hypernet", {"warm": True}),
    "judges whose gradient is turned round": (
        "align",
        {"align": ["features", "predictions"], "adversary": "reversal", **ALIGNED},
    ),
    "statistics of rows without labels": ("align", {"method": "statistics", **NORM, **ALIGNED}),
    "side tasks that are weighed": ("auxiliary", {"rule": "cosine", "smooth": 0.5, "tag_every": 1}),
    "tasks in one, with an adversary": (
        "single_tasking",
        {"form": "joint", "adversary": 0.1, "parts": ["norms"], **NORM},
    ),
    "tasks sampled by their progress": ("joint", {"sampling": "progress", **ASIDE}),
    "weights shared by tasks that are learned anew": (
        "weight_sharing",
        {"form": "joint", "heads": "learned", "sets": 2},
    ),
    "sources by their Gaussians": ("compose", {"sources": "gaussian", **BLOCKS, **FOUR}),
    "blocks ordered without labels": (
        "compose",
        {"stream.unlabelled": [2], "stream.n": 3, "adapt_epochs": 1, **BLOCKS},
    ),
    "masks from uniform scores over the first task": ("piggyback", {"init": "uniform", "backbone": "first_task"}),
    "adapters with a bottleneck": ("patch", {"kind": "bottleneck"}),
    "a way that is not chosen by rows": ("adapt", {"choose": "tune"}),
}


def lazy(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, num_classes))


@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu_an_option_that_takes_a_path_of_its_own_does_what_it_does_on_the_cpu(case: str, tmp_path: Path):
    assert_same(*CASES[case], tmp_path, seeds=(0,))
