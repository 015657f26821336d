"""The same numbers again: how far they are the same, and what the log says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.training.seed_group import SeedGroup
from tests.conftest import STRATEGIES, TINY

Tiny = Callable[..., Experiment]


def of_seed(run: Run, seed: int) -> list[np.ndarray]:
    """Return the losses of a seed, and its row of R."""
    losses = run.table("epochs")
    return [losses[losses.seed == seed]["loss"].to_numpy(), run.results["accuracy"].sel(seed=seed).values]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_of_a_strategy_gives_the_same_log_again(tiny: Tiny, tmp_path: Path, name: str):
    one, other = (facts(tiny(name, (0, 1, 2)).run(tmp_path / run) / "log.h5") for run in ("one", "other"))
    assert_same_facts(one, other)


def test_seeds_in_turn_give_the_same_bits_as_each_alone(tiny: Tiny, tmp_path: Path):
    together = open_run(tiny("piggyback", (0, 1)).run(tmp_path / "both"))
    for seed in (0, 1):
        alone = open_run(tiny("piggyback", (seed,)).run(tmp_path / f"{seed}"))
        for mine, own in zip(of_seed(together, seed), of_seed(alone, seed), strict=True):
            np.testing.assert_array_equal(mine, own)
    assert together.environment["determinism"].endswith("a seed without the others gives the same bits")


def test_seeds_side_by_side_give_the_losses_of_each_alone_within_rounding(tiny: Tiny, tmp_path: Path):
    experiment = tiny("finetune", (0, 1, 2, 3))
    assert experiment.build_strategy(experiment.stream()).net.side_by_side(4)
    together = open_run(experiment.run(tmp_path / "four"))
    for seed in (0, 3):
        alone = open_run(tiny("finetune", (seed,)).run(tmp_path / f"{seed}"))
        np.testing.assert_allclose(of_seed(together, seed)[0], of_seed(alone, seed)[0], rtol=1e-4)
    assert together.environment["determinism"].endswith("a seed without the others gives them within rounding")


def typed(out: Path) -> tuple[int, str]:
    done = CliRunner().invoke(
        main, ["run", str(TINY), "-s", "finetune", "--quiet", "--deterministic", "--out", str(out)]
    )
    return done.exit_code, done.stderr


@pytest.mark.usefixtures("forking")
def test_the_log_promises_no_bits_where_seeds_may_be_divided_among_processes(tiny: Tiny, tmp_path: Path):
    run = open_run(tiny("finetune", (0, 1)).run(tmp_path))
    assert run.environment["determinism"].endswith("a seed without the others gives them within rounding")


def test_deterministic_algorithms_and_whole_float32_are_used_while_the_run_goes_on_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, found = SeedGroup.step, set()
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision

    def step(learner: SeedGroup, epoch: int, batch: int) -> None:
        tf32 = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
        found.add((torch.are_deterministic_algorithms_enabled(), *tf32))
        original(learner, epoch, batch)

    monkeypatch.setattr(SeedGroup, "step", step)
    assert typed(tmp_path)[0] == 0
    assert found == {(True, "ieee", "ieee")}
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == before
    assert "another run gives the same bits" in open_run(tmp_path).environment["determinism"]


def test_an_operation_that_has_no_deterministic_form_ends_the_run_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def step(learner: SeedGroup, epoch: int, batch: int) -> None:
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))

    monkeypatch.setattr(SeedGroup, "step", step)
    code, said = typed(tmp_path)
    assert (code, "Failed: --deterministic: an operation has no deterministic form" in said) == (1, True), said
