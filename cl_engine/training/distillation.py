"""Answers of the net before are kept while it learns: outputs of all heads at once, and the distance of answers."""

from __future__ import annotations

import torch
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
    now, then = ((own / temperature).masked_fill(absent, ABSENT) for own in (outputs, before))
    terms = (then.softmax(dim=-1) * now.log_softmax(dim=-1)).masked_fill(absent, 0.0)
    return -terms.sum(dim=(1, 2)).mean()
