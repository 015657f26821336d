"""The contract of upkeep: plain training where it does nothing, and each seed by itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.tree import Tree
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.testing import small
from cl_engine.testing.waiting import NeverWaiting
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob
from cl_engine.training.fit_progress import FitRecord, Resumable
from cl_engine.training.group_upkeep import GroupUpkeep
from cl_engine.training.optimizers import Train
from cl_engine.training.upkeep import Upkeep

SEEDS = [3, 5, 7]


class UpkeepContract:
    """Holds upkeep to all that the engine's own is held to; each failure says what is broken.

    >>> class TestMine(UpkeepContract):
    ...     upkeep = "my_module:Mine"
    ...     nothing = {"strength": 0.0}

    Attributes:
        upkeep: its name, or ``module:Class``.
        options: its options.
        nothing: the options by which it does nothing.
    """

    upkeep: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    nothing: ClassVar[Mapping[str, Any]]

    def made(self, **options: Any) -> Upkeep:
        """Return the upkeep under test."""
        kind: type[Upkeep] = plugins.load("upkeep", self.upkeep)
        return kind.of(**(options or self.options))

    def learned(
        self,
        upkeep: Upkeep | None,
        seeds: list[int] = SEEDS,
        together: bool = True,
        record: FitRecord | None = None,
        epochs: int = -1,
    ) -> Tree:
        """Return the weights that a small fit ends with, or none if it is stopped before, after so many epochs."""
        net = Net(plugins.net_builder("mlp", {"hidden": [16, 12]}, (1, 6, 6), 3), (1, 6, 6))
        x = torch.randn(60, 1, 6, 6, generator=torch.Generator().manual_seed(0))

        def loss(params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(net.one(params, x), y)

        job = FitJob(
            net=net,
            params=net.init(seeds),
            loss=loss,
            rows=(x, x.flatten(1)[:, :3].argmax(dim=1)),
            train=Train(epochs=4, batch=10, lr=0.1, momentum=0.9),
            seeds=seeds,
            step=0,
            task_id=0,
            side_by_side=together,
            upkeep=upkeep,
            record=record,
        )
        progress = fit(job)
        while True:
            try:
                epochs -= isinstance(next(progress), Resumable)
                if not epochs:
                    return {}
            except StopIteration as end:
                found: Tree = end.value
                return found

    @pytest.mark.parametrize("together", [True, False])
    def test_of_no_strength_it_is_plain_training_bit_for_bit(self, together: bool) -> None:
        plain, kept = (self.learned(worn, together=together) for worn in (None, self.made(**self.nothing)))
        odd = [name for name in plain if not torch.equal(plain[name], kept[name])]
        assert not odd, f"with {dict(self.nothing)} it changes {odd[0]}"

    def test_it_changes_what_is_learned_and_weights_stay_finite(self) -> None:
        plain, kept = self.learned(None), self.learned(self.made())
        assert any(not torch.allclose(plain[name], kept[name], atol=1e-6) for name in plain), "it does nothing"
        assert all(weight.isfinite().all() for weight in kept.values()), "a weight is not finite"

    def test_a_seed_is_kept_up_the_same_alone_as_beside_others_and_in_turn(self) -> None:
        upkeep = self.made()
        together, in_turn, alone = (
            self.learned(upkeep, SEEDS, True),
            self.learned(upkeep, SEEDS, False),
            self.learned(upkeep, SEEDS[2:], False),
        )
        for name, weight in together.items():
            torch.testing.assert_close(weight, in_turn[name], rtol=1e-3, atol=1e-4)
            assert torch.equal(in_turn[name][2], alone[name][0]), f"{name} of a seed depends on the seeds beside it"

    @pytest.mark.parametrize("together", [True, False])
    def test_a_fit_that_was_stopped_in_the_middle_goes_on_bit_for_bit(self, together: bool) -> None:
        upkeep, record = self.made(), FitRecord()
        whole = self.learned(upkeep, together=together)
        self.learned(upkeep, together=together, record=record, epochs=2)
        rest = FitRecord.restored(copy.deepcopy(record.state()))
        resumed = self.learned(upkeep, together=together, record=rest)
        odd = [name for name in whole if not torch.equal(whole[name], resumed[name])]
        assert not odd, f"{odd[0]} is another one: what it remembers must be in seen.memory when `settle` was called"

    @pytest.mark.parametrize("together", [True, False])
    def test_no_step_waits_for_the_values_of_tensors(self, together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        for part in ("penalty", "hear", "before_step", "after_step"):
            monkeypatch.setattr(GroupUpkeep, part, NeverWaiting.around(getattr(GroupUpkeep, part)))
        self.learned(self.made(), together=together, epochs=2)

    @pytest.mark.parametrize("strategy", ["finetune", "replay", "packnet"])
    def test_any_strategy_wears_it(self, strategy: str, tmp_path: Path) -> None:
        behind = "&".join(f"{name}={value}" for name, value in self.options.items())
        asked = {"train.upkeep": f"{self.upkeep}?{behind}" if behind else self.upkeep, "stream.n": 2, "train.epochs": 1}
        folder = Experiment.of(small.scenario(), strategy, (0, 1), **asked).run(tmp_path / "run", device="cpu")
        assert (folder / "log.h5").exists()
