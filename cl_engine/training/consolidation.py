"""Weights held back by what earlier tasks need of them: quadratic penalties, and the importances in them.

What is held back is among the weights of one net that all tasks share. Importances and anchors are tensors beside the weights, by
their names, so that penalties run for one seed as for several under `torch.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.nn.learner import Learner
from cl_engine.nn.net import Net, Params

BEGUN = (
    "begun"  # the part of a state that holds weights as they were when a task began, while more of its rows are to come
)


def consolidated(learner: Learner, names: Iterable[str]) -> list[str]:
    """Return the weights that are held back: all that are trained, but for heads of one task: its own, or begun anew for it."""
    own = "heads" in learner.state or learner.train.reset_head != "never"
    return [name for name in names if not learner.net.is_held(name) and not (own and name.startswith("head."))]


def drawn_back(params: Mapping[str, Tensor], anchor: Mapping[str, Tensor], importance: Mapping[str, Tensor]) -> Tensor:
    """Return Σ Ω (θ − θ*)² of one seed: weights θ, what they are drawn back to θ*, and how important each of them is Ω.

    >>> one = {"w": torch.ones(2)}
    >>> drawn_back({"w": torch.tensor([1.0, 3.0])}, one, one).item()
    4.0
    """
    return torch.stack([(own * (params[name] - anchor[name]).square()).sum() for name, own in importance.items()]).sum()


def when_begun(state: State, params: Mapping[str, Tensor], names: Iterable[str]) -> Params:
    """Return the weights of these names as they were when the task began: those now, unless a state holds them from then."""
    held: Params | None = state.get(BEGUN)
    return {name: params[name] for name in names} if held is None else held


def keep_begun(state: State, begun: Params, continues: bool) -> None:
    """Let a state hold the weights a task began with while more of its rows are to come, and no longer."""
    if continues:
        state[BEGUN] = begun
    else:
        state.pop(BEGUN, None)


def importance_of_rows(
    net: Net,
    params: Params,
    names: Sequence[str],
    x: Tensor,
    batches: Sequence[Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    size: Callable[[Tensor], Tensor],
) -> Params:
    """Return the mean, over batches of rows, of the ``size`` of the gradients of a loss by each weight of one seed.

    Args:
        net: what answers, as when tested.
        params: its weights ``{name: […]}``.
        names: those that gradients are taken by.
        x: inputs ``[N, …]``.
        batches: which of them are answered together, by index; one each for gradients of single rows.
        loss: ``loss(outputs, rows)``, given outputs and which rows they are of.
        size: what is averaged, such as `torch.square` or `torch.abs`.
    """
    own = {name: leaf.detach().clone().requires_grad_(name in names) for name, leaf in params.items()}
    found = {name: torch.zeros_like(own[name]) for name in names}
    for rows in batches:
        outputs = net.one(own, x[rows].to(net.device), training=False)
        slopes = torch.autograd.grad(
            loss(outputs, rows), [own[name] for name in names], allow_unused=True, materialize_grads=True
        )
        for name, slope in zip(names, slopes, strict=True):
            found[name] += size(slope) / len(batches)
    return {name: leaf.detach() for name, leaf in found.items()}


def of_all_seeds(of_seeds: Sequence[Mapping[str, Tensor]]) -> Params:
    """Return what each seed has by name ``{name: […]}`` as tensors ``{name: [S, …]}``."""
    return {name: torch.stack([one[name] for one in of_seeds]) for name in of_seeds[0]}


def penalty_of(state: State, begun: Params) -> Tree | None:
    """Return ``importance``, of a state, and ``anchor`` as a fit is handed them; None: there is none."""
    importance = state.get("importance")
    return None if importance is None else {"importance": importance, "anchor": begun}
