"""What waits for a device is found on a CPU, and what upkeep does within a step could be replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_engine.runs import plugins
from cl_engine.testing import UpkeepContract
from cl_engine.testing.waiting import NeverWaiting
from cl_engine.training.group_upkeep import GroupUpkeep
from cl_engine.training.step_upkeep import StepUpkeep
from tests.recording import recorded

BEFORE = [  # upkeep that does something between the gradients and the step of the optimiser
    name
    for name in plugins.names("upkeep")
    if getattr(plugins.load("upkeep", name), "before_step", StepUpkeep.before_step) is not StepUpkeep.before_step
]
X = torch.arange(4.0)
WAITING: dict[str, Callable[[], object]] = {
    "reading a number": lambda: X.sum().item(),
    "asking whether": lambda: bool((X > 1).any()),
    "indexing by a mask": lambda: X[X > 1],
    "writing by a mask": lambda: X.clone().__setitem__(X > 1, torch.zeros(2)),
    "places of a mask": (X > 1).nonzero,
    "selecting by a mask": lambda: X.masked_select(X > 1),
    "comparing whole tensors": lambda: torch.equal(X, X),
    "counting values": X.unique,
}


@pytest.mark.parametrize("what", WAITING)
def test_what_waits_for_the_values_of_tensors_is_refused(what: str):
    with NeverWaiting(), pytest.raises(RuntimeError, match="operation not permitted"):
        WAITING[what]()


def test_masks_as_numbers_and_indexing_by_numbers_are_not():
    with NeverWaiting():
        found = torch.where(X > 1, X, 0.0).masked_fill(X > 2, 5.0)[torch.tensor([3, 2])]
    assert found.tolist() == [5.0, 2.0]


def replayed(own: Callable[[GroupUpkeep], None]) -> Callable[[GroupUpkeep], None]:
    """Return what records a method's first call and replays it at all later ones, as a CUDA graph would."""
    made: dict[GroupUpkeep, tuple[list[Tensor], Callable[[], None]]] = {}

    def method(self: GroupUpkeep) -> None:
        leaves = list(self._group.weights.values())
        if self not in made:
            held = [leaf.grad.clone() for leaf in leaves]
            give(leaves, held)
            made[self] = (held, recorded(lambda: own(self)))
        held, replay = made[self]
        give(leaves, held)
        replay()

    return method


def give(leaves: list[Any], held: list[Tensor]) -> None:
    """Let gradients stand where a recording looks for them."""
    for leaf, gradient in zip(leaves, held, strict=True):
        gradient.copy_(leaf.grad)
        leaf.grad = gradient


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("kind", BEFORE)
def test_what_upkeep_does_before_a_step_of_the_optimiser_comes_to_the_same_when_it_is_replayed(
    kind: str, together: bool, monkeypatch: pytest.MonkeyPatch
):
    upkeep = plugins.load("upkeep", kind).of()
    plain = UpkeepContract().learned(upkeep, together=together)
    monkeypatch.setattr(GroupUpkeep, "before_step", replayed(GroupUpkeep.before_step))
    again = UpkeepContract().learned(upkeep, together=together)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
