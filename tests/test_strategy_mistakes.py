"""Mistakes that a first strategy is written with: each is answered by a sentence that says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Strategy
from tests import nets_zoo as zoo
from tests.conftest import TINY


class Right(Strategy):
    """Learns as it should."""

    shared = SharedNet()

    def start(self) -> Any:
        return self.shared.start()

    def learn(self, experience: Experience) -> Any:
        params = yield from self.fit(self.shared.params(experience.task_id), self.loss, experience)
        self.shared.keep(experience.task_id, params)

    def predict(self, x: torch.Tensor, task_id: int | None) -> torch.Tensor:
        return self.net.all(self.shared.params(task_id), x)


class Dropped(Right):
    """Asks for a fit and takes no notice of it."""

    def learn(self, experience: Experience) -> Any:
        self.fit(self.shared.params(experience.task_id), self.loss, experience)
        yield from ()


class Taken(Right):
    """Takes a fit for what it returns."""

    def learn(self, experience: Experience) -> Any:
        self.shared.keep(experience.task_id, self.fit(self.shared.params(experience.task_id), self.loss, experience))
        yield from ()


class Yielded(Right):
    """Yields a fit, not from it."""

    def learn(self, experience: Experience) -> Any:
        yield self.fit(self.shared.params(experience.task_id), self.loss, experience)


class NoYield(Right):
    """Has no `yield` at all."""

    def learn(self, experience: Experience) -> Any:
        self.fit(self.shared.params(experience.task_id), self.loss, experience)


class TakenAtOnce(Right):
    """Takes a fit for what it returns, and has no `yield` at all."""

    def learn(self, experience: Experience) -> Any:
        self.shared.keep(experience.task_id, self.fit(self.shared.params(experience.task_id), self.loss, experience))


class Number(Right):
    """Reads a number out of a tensor in its loss."""

    def loss(self, params: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = super().loss(params, frozen, x, y)
        return loss * loss.item()


class Asking(Right):
    """Asks whether a tensor is true in its loss."""

    def loss(self, params: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = super().loss(params, frozen, x, y)
        return loss if loss > 1 else loss * 2


class Rows(Right):
    """Answers without the axis of seeds."""

    def predict(self, x: torch.Tensor, task_id: int | None) -> torch.Tensor:
        return super().predict(x, task_id)[0]


class Chosen(Right):
    """Answers classes, not outputs."""

    def predict(self, x: torch.Tensor, task_id: int | None) -> torch.Tensor:
        return super().predict(x, task_id).argmax(dim=-1)


class Silent(Right):
    """Answers nothing."""

    def predict(self, x: torch.Tensor, task_id: int | None) -> Any:
        super().predict(x, task_id)


class NoStart(Strategy):
    """Has one verb of three."""

    def learn(self, experience: Experience) -> Any:
        yield from ()


class NoPredict(Strategy):
    """Has two verbs of three."""

    def start(self) -> Any:
        return {}

    def learn(self, experience: Experience) -> Any:
        yield from ()


class Closed(Right):
    """Takes nothing when it is made."""

    def __init__(self) -> None:
        pass


class NotToldTheTask(Right):
    """Answers without being told the task."""

    def predict(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().predict(x, None)


class WithoutFrozen(Right):
    """Has a loss that forgets what is frozen."""

    def loss(self, params: Tree, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().loss(params, None, x, y)


FORGOTTEN = r"`learn` calls self\.fit\(…\) and never runs it: write `params = yield from self\.fit\(…\)`"
SHAPE = r"for 50 rows and 3 seeds; outputs \[S, N, O\] are allowed, here \[3, 50, 10\]"


@pytest.mark.parametrize(
    ("mistaken", "said"),
    [
        (Dropped, FORGOTTEN),
        (Taken, FORGOTTEN),
        (Yielded, FORGOTTEN),
        (TakenAtOnce, FORGOTTEN),
        (NoYield, r"`learn` returned None and has no `yield` in it"),
        (
            Number,
            r"Number\.loss: several seeds run as one .*reads a number out of a tensor, as \.item\(\).*side_by_side=False",
        ),
        (Asking, r"Asking\.loss: several seeds run as one .*asks whether a tensor is true, as `if` does"),
        (Rows, r"`predict` returned a tensor of shape \(50, 10\) " + SHAPE),
        (Chosen, r"`predict` returned a tensor of shape \(3, 50\) " + SHAPE),
        (
            NoStart,
            r"strategy '.*': NoStart lacks the methods predict\(self, x, task_id\), start\(self\), which must be",
        ),
        (NoPredict, r"strategy '.*': NoPredict lacks the method predict\(self, x, task_id\), which must be written"),
        (
            Closed,
            r"__init__\(self\); the engine calls it as __init__\(self, net, seeds=…, setting=…, train=…, \*\*options\)",
        ),
        (
            NotToldTheTask,
            r"predict is written as predict\(self, x\); the engine calls it as predict\(self, x, task_id\)",
        ),
        (
            WithoutFrozen,
            r"WithoutFrozen\.loss is written as loss\(self, params, x, y\); a loss is called as "
            r"loss\(self, params, frozen, x, y\) here",
        ),
        (Silent, r"`predict` returned a NoneType " + SHAPE),
    ],
)
def test_a_mistake_is_answered_by_what_to_write_instead(mistaken: type[Strategy], said: str, tmp_path: Path):
    name = f"{__name__}:{mistaken.__name__}"
    with pytest.raises(UsageError, match=said):
        Experiment.of(TINY, name, (0, 1, 2), **{"stream.n": 1, "train.epochs": 1}).run(tmp_path / "run")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_mistake_in_the_code_of_a_loss_is_not_taken_for_one_in_how_it_is_called(
    seeds: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def wrong(*given: Any) -> Any:
        raise TypeError("of its own")

    monkeypatch.setattr(Right, "loss", wrong)
    with pytest.raises(TypeError, match="of its own"):
        Experiment.of(TINY, f"{__name__}:Right", seeds, **{"stream.n": 1}).run(tmp_path / "run")


def test_a_fit_is_run_by_yield_from_or_step_by_step(tiny: Callable[..., Experiment]):
    experiment = tiny(f"{__name__}:Right", seeds=(0,), **{"train.epochs": 2})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    fitting = strategy.fit(strategy.shared.params(0), strategy.loss, stream[0])  # type: ignore[attr-defined]
    assert strategy.fits_asked.waiting == [fitting]
    list(fitting)
    assert not strategy.fits_asked.waiting


def test_a_class_in_the_place_of_a_name_is_answered_by_its_name():
    with pytest.raises(
        UsageError, match=r"the strategy: found the class Right; a name belongs there, as 'tests.*:Right'"
    ):
        Experiment.of(TINY, Right)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"net\.name: found the class Flatten; a name belongs there"):
        Experiment.of(TINY, "finetune", **{"net.name": nn.Flatten})


class Base(nn.Module):
    """Hidden units, and something else than a linear layer at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.prototypes = nn.Linear(4, 6), nn.Parameter(torch.randn(3, 6))
        self.wide = nn.Linear(6, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.hidden(x.flatten(1)).relu())


class Prototypes(Base):
    def last(self, h: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(h + self.wide(h)[:, :6], self.prototypes)


class CosineClassifier(Base):
    def last(self, h: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.wide(h)[:, :6]) @ F.normalize(self.prototypes).T


class Sliced(Base):
    def last(self, h: torch.Tensor) -> torch.Tensor:
        return self.wide(h)[:, :3]


class Scaled(Base):
    def last(self, h: torch.Tensor) -> torch.Tensor:
        return self.wide(h) / 0.5


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Prototypes, r"does not give its output \('wide'\): behind it the net computes with 'prototypes'"),
        (CosineClassifier, r"does not give its output \('wide'\): behind it the net computes with 'prototypes'"),
        (Sliced, r"does not give its output \('wide'\): the net returns 3 of the 9 numbers it gives"),
        (Scaled, r"does not give its output \('wide'\): the net changes what it gives afterwards"),
        (zoo.CosineHead, r"does not give its output \('head'\): it is a Cosine, which gives something else than"),
    ],
)
def test_a_net_without_a_linear_end_is_told_what_stands_in_its_way(net: type[nn.Module], said: str):
    shape = zoo.SHAPE if issubclass(net, zoo.Plain) else (1, 2, 2)
    with pytest.raises(UsageError, match=said):
        Net(net, shape)
