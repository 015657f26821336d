"""Answers of the net before are kept while it learns: outputs of all heads at once, and the distance of answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.tree import Tree
from cl_engine.nn.net import Net
from cl_engine.nn.task_heads import row_of

ABSENT = -1e9  # logit of an output that is not among those compared


def outputs_of_heads(net: Net, params: Tree, x: Tensor, training: bool | None = None) -> Tensor:
    """Return the outputs of every head ``[N, T, O]`` of one seed, from what `SharedNet.of_tasks` returned; T is 1 without heads.

    Of a net whose head is read at places they are the means over them.
    """
    features = net.features(params["net"], x, training)
    features = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
    heads = params["heads"] if "heads" in params else row_of(params["net"]).unsqueeze(0)
    flat = heads.flatten(0, 1)
    return torch.addmm(flat[:, -1], features, flat[:, :-1].t()).reshape(len(x), *heads.shape[:2])


def distillation(outputs: Tensor, before: Tensor, known: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of softened answers (Hinton et al. 2015): the sum over heads of the mean over rows.

    Args:
        outputs, before: of one seed now and before ``[N, T, O]``.
        known: which outputs of which head are compared ``[T, O]``, more than 0; a head without any counts nothing.
        temperature: what outputs are divided by before the softmax.
    """
    absent = known <= 0
    now, then = ((own.detach() / temperature).masked_fill(absent, ABSENT) for own in (outputs, before))
    wanted = then.softmax(dim=-1)
    value = -(wanted * now.log_softmax(dim=-1)).masked_fill(absent, 0.0).sum(dim=(1, 2)).mean()
    slope = ((now.softmax(dim=-1) - wanted) / temperature).masked_fill(absent, 0.0) / len(outputs)
    return with_slope(value, outputs, slope)


def binary_distances(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of outputs, each by itself, of one seed; ``wanted`` has the chance of each."""
    own = outputs.detach()
    slope = (own.sigmoid() - wanted) / own.numel()
    return with_slope(F.binary_cross_entropy_with_logits(own, wanted), outputs, slope)


def with_slope(value: Tensor, outputs: Tensor, slope: Tensor) -> Tensor:
    """Return a loss of this value whose gradient by the outputs is exactly this one.

    A net that answers as before has a gradient of 0. As autograd finds it, it would be one of rounding alone, of which optimisers
    with steps of one size (Adam) make a step like any other.

    >>> outputs = torch.ones(2, requires_grad=True)
    >>> with_slope(torch.tensor(3.0), outputs, torch.tensor([0.0, 2.0])).backward()
    >>> outputs.grad.tolist()
    [0.0, 2.0]
    """
    return value.detach() + ((outputs - outputs.detach()) * slope.detach()).sum()
