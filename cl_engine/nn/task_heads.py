"""Heads as rows: one final layer for each task, side by side in one tensor, weights and bias together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.tree import Tree
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT, apply_head
from cl_engine.nn.net import Net, Params
from cl_engine.nn.target import Target


def empty_heads(net: Net, seeds: int) -> Bank:
    """Return a bank for heads ``[S, C, width + 1]`` that holds none yet."""
    return Bank.empty(seeds, (net.outputs, net.width + 1), device=net.device)


def row_of(params: Mapping[str, Tensor]) -> Tensor:
    """Return the head among ``params`` as one row ``[S, C, width + 1]``, the bias last."""
    return torch.cat([params[HEAD_WEIGHT], params[HEAD_BIAS].unsqueeze(-1)], dim=-1)


def head_of(row: Tensor) -> Params:
    """Return the head that `row_of` made a row of."""
    return {HEAD_WEIGHT: row[..., :-1], HEAD_BIAS: row[..., -1]}


def head_for(heads: Bank, task_id: int, base: Mapping[str, Tensor]) -> Params:
    """Return the head of a task, that of ``base`` for one not yet met."""
    if task_id < len(heads):
        return head_of(heads[task_id])
    return {name: base[name] for name in (HEAD_WEIGHT, HEAD_BIAS)}


def weighted_loss(target: Target, logits: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the loss of rows of several tasks, given ``logits(params, frozen, x, t)`` for rows of the tasks ``t [N]``.

    A row counts as often as ``params["sampling"]["weight"] [T]`` says of its task, once where there is no such part.
    """

    def loss(params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        sampling = params.get("sampling")
        weights = None if sampling is None else sampling["weight"].detach().index_select(0, t)
        return target.loss(logits(params, frozen, x, t), y, weights)

    return loss


def mixed_logits(net: Net, params: Params, heads: Tensor, x: Tensor, task_ids: Tensor) -> Tensor:
    """Return logits ``[N, C]``, or ``[N, C, h, w]``, of one seed for rows of several tasks, each under its own head.

    ``heads`` is ``[T, C, width + 1]``, ``task_ids [N]`` says which head a row belongs to.
    """
    features = net.features(params, x)
    # not heads[task_ids]: its gradient is summed by several threads in no fixed order
    chosen = heads.index_select(0, task_ids)
    return apply_head(features, chosen[..., :-1], chosen[..., -1])
