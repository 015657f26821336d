"""Weights of side tasks: rules from the Gramian of gradients to weights, and look-aheads from one task's step to another's loss.

Task 0 is the main task, tasks 1 to k are side tasks. All of it runs under `torch.vmap`, but for rules of torchjd.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.errors import UsageError, unknown
from cl_engine.events import StrategyEvent
from cl_engine.nn.net import Params
from cl_engine.options import named_with_options

Rule = Callable[[Tensor], Tensor]
Loss = Callable[[Params], Tensor]
SMALL = 1e-30  # a length below which a gradient has no direction


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliaryWeighed(StrategyEvent):
    """An epoch's mean weight of a side task (``part``), and the mean cosine of its gradient with the main task's, by seed.

    The cosine is that of each batch, before it is smoothed; NaN where the rule looks at no gradients.

    >>> event = AuxiliaryWeighed(step=3, part="rotation", task_id=2, epoch=1, weight=(0.9, 0.8), cosine=(0.1, -0.2))
    >>> event.weight
    (0.9, 0.8)
    """

    part: str
    task_id: int
    epoch: int
    weight: tuple[float, ...]
    cosine: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAhead(StrategyEvent):
    """An epoch's mean share of one task's loss that a step for another takes away (``part``: "from>to"), by seed.

    >>> event = LookedAhead(step=3, part="rotation>main", task_id=2, epoch=1, gain=(0.01, -0.02))
    >>> event.gain
    (0.01, -0.02)
    """

    part: str
    task_id: int
    epoch: int
    gain: tuple[float, ...]


def gradients(losses: Sequence[Loss], shared: Params) -> tuple[Tensor, list[Params]]:
    """Return the losses ``[k + 1]`` and the gradient of each with regard to the ``shared`` weights, all without a graph."""
    with torch.no_grad():
        found = [torch.func.grad_and_value(loss)(shared) for loss in losses]
    return torch.stack([value for _, value in found]), [gradient for gradient, _ in found]


def gramian(gradients: Sequence[Params]) -> Tensor:
    """Return the inner products of gradients ``[k + 1, k + 1]``."""
    flat = torch.stack([torch.cat([part.flatten() for part in one.values()]) for one in gradients])
    return torch.stack([(flat * own).sum(dim=1) for own in flat])  # no product that autocast would round


def unit_gramian(gramian: Tensor) -> Tensor:
    """Return the cosines of gradients with each other ``[k + 1, k + 1]``: the Gramian of their directions."""
    lengths = gramian.diagonal().sqrt().clamp_min(SMALL)
    return gramian / lengths / lengths.unsqueeze(1)


def cosines(gramian: Tensor) -> Tensor:
    """Return the cosine of each side task's gradient with the main task's ``[k]``; 0 for a gradient of 0."""
    return unit_gramian(gramian)[0, 1:]


def fixed(gramian: Tensor) -> Tensor:
    """Return a weight of 1 for every task."""
    return torch.ones_like(gramian[0])


def cosine(gramian: Tensor) -> Tensor:
    """Return max(0, cos) for every side task: the weighted rule of Du et al. (2018, arXiv 1812.02224)."""
    return torch.cat([torch.ones_like(gramian[0, :1]), cosines(gramian).clamp_min(0)])


def gate(gramian: Tensor) -> Tensor:
    """Return 1 for every side task with cos ≥ 0, else 0: the unweighted rule of Du et al. (2018)."""
    return torch.cat([torch.ones_like(gramian[0, :1]), (gramian[0, 1:] >= 0).to(gramian.dtype)])


RULES: dict[str, Rule] = {"fixed": fixed, "cosine": cosine, "gate": gate}


def rule_named(text: str) -> Rule:
    """Return a rule: a function of the Gramian of all tasks' gradients ``[k + 1, k + 1]`` to a weight of each ``[k + 1]``.

    It is one of `RULES`, or the weighting of an aggregator of torchjd, with its options behind it: ``UPGrad``, ``MGDA``,
    ``FairGrad?alpha=1.0`` (Quinton & Rey 2024, arXiv 2406.16232). Those weigh the main task too.

    >>> rule_named("gate")(torch.tensor([[1.0, -0.5, 0.0], [-0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    tensor([1., 0., 1.])

    Raises:
        UsageError: for what is neither, or needs a library that is not installed.
    """
    return RULES[text] if text in RULES else _of_torchjd(text)


def _of_torchjd(text: str) -> Rule:
    name, options = named_with_options(text, "strategy.rule")
    own = ["none", *RULES]
    try:
        from torchjd import aggregation
    except ImportError:
        raise UsageError(
            f"strategy.rule: '{text}' is none of {', '.join(own)}; others are those of torchjd, which is not installed: "
            "pip install 'cl-engine[mtl]'"
        ) from None
    kinds = {kind: getattr(aggregation, kind) for kind in aggregation.__all__}
    # what is remembered from batch to batch inside of an aggregator would not be resumed
    usable = {
        kind: cls
        for kind, cls in kinds.items()
        if issubclass(cls, aggregation.GramianWeightedAggregator) and not hasattr(cls, "reset")
    }
    usable.pop("GramianWeightedAggregator")
    if name not in usable:
        raise UsageError(f"strategy.rule: {unknown('rule', name, [*own, *usable])}")
    try:
        weighting = usable[name](**options).gramian_weighting
    except (TypeError, ValueError, ImportError) as error:
        raise UsageError(f"strategy.rule: '{text}' cannot be made: {error}") from None

    def weights(gramian: Tensor) -> Tensor:
        if not bool(gramian.isfinite().all()):  # the engine says which seed, and where
            return torch.full_like(gramian[0], torch.nan)
        bits = zlib.crc32(gramian.cpu().numpy().tobytes())
        with rng.ambient(bits, "weights"):  # some draw, and what they draw is to follow from what they are given
            found: Tensor = weighting(gramian)
        return found

    return weights


def scaled(features: Tensor, weight: Tensor) -> Tensor:
    """Return features as they are, whose gradient is multiplied by ``weight`` before it reaches what they come from."""
    kept = features.detach()
    return kept + weight * (features - kept)  # in value not one bit else: the difference is 0


def look_ahead(
    losses: Sequence[Loss], values: Tensor, gradients: Sequence[Params], shared: Params, rate: float
) -> Tensor:
    """Return Z[i, j] = 1 − L_j(θ − η ∇L_i) / L_j(θ), the share of loss j that a step for task i takes away ``[k + 1, k + 1]``.

    The affinity of Fifty et al. (2021, arXiv 2109.04617), eq. 1; 0 where there is no loss to be taken away.

    Args:
        losses: functions of the shared weights θ.
        values: what they are at ``shared`` ``[k + 1]``.
        gradients: of each with regard to ``shared``.
        shared: θ.
        rate: η.
    """
    with torch.no_grad():
        rows = []
        for own in gradients:
            moved = {name: weight - rate * own[name] for name, weight in shared.items()}
            rows.append(torch.stack([loss(moved) for loss in losses]))
        after = torch.stack(rows)
        return torch.where(values == 0, torch.zeros_like(after), 1 - after / values)
