"""Task inference by superposing the masks of all tasks (Wortsman et al. 2020, SupSup, §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from cl_engine.nn.net import Params

NUMBERS_AT_ONCE = 2**25  # of gradients held at a time: groups of rows times weights


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax of logits ``[N, C]``, in nats, ``[N]``."""
    log = torch.log_softmax(logits, dim=-1)
    return -(log.exp() * log).sum(dim=-1)


def inferred(
    net: Callable[[Params, Tensor], Tensor],
    weights_of: Callable[[int], Params],
    tasks: Sequence[int],
    x: Tensor,
    rows: int,
    held: Collection[str] = (),
) -> Tensor:
    """Return the task ``[N]`` that each input belongs to: the one whose weight, made larger, lowers the entropy most.

    The answer of the superposition is that of the mean of all tasks' weights. One gradient with respect to the tasks'
    coefficients decides ("one-shot"). ``rows`` successive inputs are taken to be of one task and decide together.

    Args:
        net: from weights ``{name: […]}`` of one seed and inputs to logits ``[N, C]``.
        weights_of: weights of a task.
        tasks: the tasks to choose from.
        x: inputs ``[N, …]``.
        rows: inputs that decide together.
        held: names of what is no weight, as statistics of BatchNorm: the superposition has their mean, and no slope is theirs.
    """
    mean = weights_of(tasks[0])
    for task in tasks[1:]:
        mean = {name: mean[name] + weight for name, weight in weights_of(task).items()}
    mean = {name: weight / len(tasks) for name, weight in mean.items()}
    size = sum(weight.numel() for weight in mean.values())
    groups = max(1, min(-(-len(x) // rows), NUMBERS_AT_ONCE // size))
    beside = {name: mean.pop(name) for name in held if name in mean}
    slope_of = torch.func.vmap(
        torch.func.grad(lambda weights, part: entropy(net({**beside, **weights}, part)).mean()), in_dims=(None, 0)
    )
    found = []
    for part in x.split(groups * rows):
        whole = len(part) // rows * rows
        pieces = [part[:whole].unflatten(0, (-1, rows))] if whole else []
        pieces += [part[whole:].unsqueeze(0)] if whole < len(part) else []
        for piece in pieces:
            gradient = {name: grad.flatten(1) for name, grad in slope_of(mean, piece).items()}
            slopes = [sum(own @ weights_of(task)[name].flatten() for name, own in gradient.items()) for task in tasks]
            found.append(torch.stack(slopes).argmin(dim=0).repeat_interleave(piece.shape[1]))
    return torch.tensor(list(tasks), device=x.device)[torch.cat(found)]
