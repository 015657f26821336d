"""The optimisers that training options ask for, their steps, and gradients kept small."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from cl_engine.core.gpu import is_gpu
from cl_engine.core.tree import Path
from cl_engine.errors import UsageError
from cl_engine.training.optimizers import Train, optimizer_class
from cl_engine.training.rates import Rates, cycles_momentum
from cl_engine.training.transforms import transforms_of


def check_training(train: Train) -> Train:
    """Return the options of training, or refuse those that do not fit each other, before anything is built.

    Raises:
        UsageError: for an optimiser, a schedule, a transform or an option of theirs that there is not, or that does not fit.
    """
    weight = torch.zeros(1, requires_grad=True)
    known = parameters_of(train.optimizer)
    # an optimiser without these is refused where it trains: strategies that do not train never ask
    spared = {name: 0.0 for name in ("momentum", "weight_decay") if name not in known}
    optimizers, trains = optimizers_for({("weight",): weight}, train.model_copy(update=spared), {})
    Rates(optimizers, trains, train.epochs, None)
    transforms_of(train)
    return train


@cache
def parameters_of(optimizer: str) -> Mapping[str, inspect.Parameter]:
    """Return what an optimiser of this name is made with; to read it takes as long as a small step."""
    return inspect.signature(optimizer_class(optimizer)).parameters


@cache
def _leave_the_compiler_out() -> None:
    """Let optimisers be made without importing `torch._dynamo`, which nothing here needs; half of the time a run takes to start.

    Optimisers import it to tell it to keep out of some of their methods; with nothing compiled there is nobody to tell.
    """
    wrapper = _disable_dynamo(id).__code__
    for method in vars(torch.optim.Optimizer).values():
        if getattr(method, "__code__", None) is wrapper and "torch._dynamo" not in sys.modules:
            method.__wrapped__.__dynamo_disable = method.__wrapped__


def optimizers_for(
    weights: Mapping[Path, Tensor], train: Train, overrides: Mapping[str, Train]
) -> tuple[list[Any], list[Train]]:
    """Return the optimisers, one for each set of training options, and these sets.

    Raises:
        UsageError: for an option that the optimiser does not have, or does not take.
    """
    _leave_the_compiler_out()
    groups: dict[str, list[Tensor]] = {}
    for path, leaf in weights.items():
        groups.setdefault(path[0] if path[0] in overrides else "", []).append(leaf)
    optimizers: list[Any] = []
    for key, tensors in groups.items():
        how = overrides.get(key, train)
        cls = optimizer_class(how.optimizer)
        options = optimizer_options(how)
        known = parameters_of(how.optimizer)
        options |= {"fused": True} if "fused" in known else {}
        if "capturable" in known and all(is_gpu(tensor.device) for tensor in tensors):
            options["capturable"] = True  # what it remembers is on the GPU, so that a step can be recorded
        try:
            optimizers.append(cls(tensors, **options))
        except (TypeError, ValueError) as error:
            raise UsageError(f"train: the optimiser '{how.optimizer}' does not take its options: {error}") from None
        if how.optimizer == "sgd" and (how.momentum or cycles_momentum(how)):
            # fused steps take all weights to have a momentum or none: those whose first gradient comes late begin with zeros
            for tensor in tensors:
                optimizers[-1].state[tensor]["momentum_buffer"] = torch.zeros_like(tensor, requires_grad=False)
    return optimizers, [overrides.get(key, train) for key in groups]


def optimizer_options(train: Train) -> dict[str, Any]:
    """Return what the optimiser asked for is made with, but for how it computes.

    Raises:
        UsageError: for an option that it does not have.
    """
    known = parameters_of(train.optimizer)
    options: dict[str, Any] = {"lr": train.lr}
    for name in ("momentum", "weight_decay", "nesterov", "betas", "eps"):
        value = getattr(train, name)
        if value and name not in known:
            raise UsageError(f"train.{name}: the optimiser '{train.optimizer}' has none; leave it out")
        if value or (name == "weight_decay" and name in known):  # 0 is not the default of all
            options[name] = tuple(value) if name == "betas" else value
    return options


def step_of(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return what takes a step of an optimiser, to be called without gradients.

    It is the step that the optimiser's class defines, without the profiler's marks and the breaks for the compiler around it,
    which take longer than a small step; and without hooks, unless it has some of its own.

    >>> weight = torch.ones(1, requires_grad=True)
    >>> weight.grad = torch.ones(1)
    >>> with torch.no_grad():
    ...     step_of(torch.optim.SGD([weight], lr=0.5))()
    >>> weight.item()
    0.5
    """
    bare = partial(inspect.unwrap(type(optimizer).step), optimizer)

    def step() -> None:
        hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        (optimizer.step if hooked else bare)()

    return step


def clip_gradients(weights: Iterable[Tensor], most: float, each_row: bool) -> None:
    """Scale the gradients of all ``weights`` so that their norm, together, is ``most`` at most.

    ``each_row``: weights are ``[S, …]``, and each of the S rows is scaled by itself.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    rows = [gradient if each_row else gradient.unsqueeze(0) for gradient in gradients]
    norms = torch.stack([row.flatten(1).norm(dim=1) for row in rows]).norm(dim=0)
    scale = (most / (norms + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_, which knows no rows
    for row in rows:
        row.mul_(scale.reshape(-1, *[1] * (row.ndim - 1)))


def clipped(weights: Iterable[Tensor], train: Train, each_row: bool) -> None:
    """Clip the gradients of ``weights`` as options say: the norm of a seed's together, then each number.

    Pascanu, Mikolov & Bengio 2013, algorithm 1. ``each_row`` as for `clip_gradients`.
    """
    every = list(weights)
    if train.clip_norm is not None:
        clip_gradients(every, train.clip_norm, each_row)
    if train.clip_value is not None:
        for weight in every:
            if weight.grad is not None:
                weight.grad.clamp_(-train.clip_value, train.clip_value)
