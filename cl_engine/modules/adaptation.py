"""Choice among a frozen net, a tuned copy and a net from scratch: its events, and what each way came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from cl_engine.core.tree import Tree
from cl_engine.events import Seconds, StrategyEvent
from cl_engine.training.early_stopping import where_seeds
from cl_engine.training.fit_job import TrainingProbe


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationTried(StrategyEvent):
    """A task was learned in one way (``part``): what it reached on validation rows, by seed, and what it cost.

    ``flops`` are the operations of training, one seed's, over all rates and decays.

    >>> event = AdaptationTried(step=3, part="tune", task_id=2, validation=(0.9, 0.8), flops=1e9, seconds=0.1)
    >>> event.part
    'tune'
    """

    part: str
    task_id: int
    validation: tuple[float, ...]
    flops: float
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationChosen(StrategyEvent):
    """The way a task is learned, by seed: 0 extract, 1 tune, 2 scratch.

    >>> event = AdaptationChosen(step=3, task_id=2, how=(0, 1))
    >>> event.how
    (0, 1)
    """

    task_id: int
    how: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationPromised(StrategyEvent):
    """What the backbone promises for a task, and what an untrained net does, by seed, before anything is trained.

    >>> event = AdaptationPromised(step=3, task_id=2, promise=(0.9, 0.8), promise_random=(0.4, 0.5))
    >>> event.promise
    (0.9, 0.8)
    """

    task_id: int
    promise: tuple[float, ...]
    promise_random: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationRegretted(StrategyEvent):
    """The best of all ways on validation rows, less the one chosen, by seed; told where all were tried.

    >>> event = AdaptationRegretted(step=3, task_id=2, regret=(0.0, 0.1))
    >>> event.regret
    (0.0, 0.1)
    """

    task_id: int
    regret: tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """The outcome of one way: weights ``{name: [S, …]}``, score on validation rows ``[S]``, and its learning curve.

    >>> import torch
    >>> Arm({}, torch.tensor([0.9]), []).validation
    tensor([0.9000])
    """

    params: Tree
    validation: Tensor
    curve: list[TrainingProbe]


def of_chosen(said: Mapping[int, Callable[[Tensor], Tensor]], chosen: Tensor, x: Tensor) -> Tensor:
    """Return each seed's outputs of the way it has chosen."""
    outputs = {how: of(x) for how, of in said.items()}
    found = next(iter(outputs.values()))
    for how, one in outputs.items():
        found = one if one is found else where_seeds(chosen == how, one, found)
    return found
