"""Training options, and the optimisers they ask for."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import cache, partial
from typing import Any, Literal

import torch
from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor
from torch._compile import _disable_dynamo

from cl_engine.core.gpu import is_gpu
from cl_engine.core.tree import Path, Tree, leaves_with_path, unflatten
from cl_engine.data.augmentation import Augmentation
from cl_engine.errors import UsageError
from cl_engine.options import STRICT, option, unsaid

OF_DEVICE = ("capturable", "fused", "foreach")  # how an optimiser computes: as suits the device at hand


class Train(BaseModel):
    """The table ``[train]`` of a scenario: the options of training.

    >>> Train(epochs=5, lr=0.05).optimizer
    'sgd'
    """

    model_config = STRICT
    epochs: int = option(1, "passes over the training rows of an experience", ge=1)
    batch: int = option(128, "rows a step", ge=1)
    optimizer: str = option("sgd", "the name of an optimiser of torch.optim, in lower case")
    lr: float = option(0.05, "learning rate", gt=0)
    momentum: float = option(0.0, "momentum, for the optimisers that have it", ge=0, lt=1)
    weight_decay: float = option(0.0, "weight decay", ge=0)
    schedule: Literal["constant", "cosine"] = option(
        "constant",
        "learning rate, but for milestones: constant, or along a cosine from lr to 0 over the epochs",
        before="constant",
    )
    milestones: list[int] = option([], "epochs after which the learning rate is multiplied by gamma")
    gamma: float = option(0.1, "factor of the learning rate at each milestone", gt=0, le=1)
    crop: int = option(
        0, "images: pixels of black around, before a part of the old size is cut out at random", ge=0, le=256
    )
    flip: float = option(
        0.0, "images: probability that left and right change places, drawn anew every time", ge=0, le=1
    )
    vertical_flip: float = option(
        0.0, "images: probability that top and bottom change places, drawn anew every time", ge=0, le=1, before=0.0
    )
    zoom: float = option(
        0.0, "images: share by which they are shown larger or smaller at the most, drawn anew", ge=0, le=3, before=0.0
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "what products of training steps are computed in; weights, updates and tests stay float32"
    )
    leftover: Literal["keep", "drop", "merge"] = option(
        "keep",
        "rows of an experience that batches leave over: a smaller last batch (keep), left out, others in every epoch "
        "(drop), or part of the batch before (merge); where there is one batch alone, it is kept",
        before="keep",
    )
    upkeep: str = option(
        "",
        "what keeps the net able to learn: a name of `list upkeep`, with options behind it, as l2_init?strength=0.01",
        before="",
    )
    keep_optimizer: bool = option(
        False,
        "go on with what the optimiser remembers of the weights that an experience finds as the one before left them",
        before=False,
    )
    reset_head: Literal["never", "zero", "draw"] = option(
        "never",
        "what a head that all tasks share begins every experience with: with what it has (never), zeros, or new weights",
        before="never",
    )
    task_heads: Literal["alike", "drawn"] = option(
        "alike",
        "what the head of a new task begins with, where the task is told: the same weights for every task, or new ones for each",
        before="alike",
    )
    not_finite: Literal["stop_run", "stop_seed"] = option(
        "stop_run", "what a loss that is NaN or infinite stops: the run, or its seed, while the others go on"
    )

    @model_serializer(mode="wrap")
    def _without_news(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is newer than experiments that are on disk, where it is as it was before: they stay the same."""
        found: dict[str, Any] = dump(self)
        known = unsaid(type(self), found)
        return {name: value for name, value in found.items() if name not in known}

    def rate_share(self, epoch: int) -> float:
        """Return the share of the learning rate that an epoch, from 0, is trained with."""
        lowered = self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        return lowered * ((1 + math.cos(math.pi * epoch / self.epochs)) / 2 if self.schedule == "cosine" else 1.0)

    def batches(self, rows: int) -> int:
        """Return how many batches an epoch of this many rows has."""
        whole, over = divmod(rows, self.batch)
        return whole + (over > 0 and (self.leftover == "keep" or not whole))

    def learned(self, rows: int) -> int:
        """Return how many of this many rows an epoch learns from."""
        return min(rows, self.batches(rows) * self.batch) if self.leftover == "drop" else rows

    def places(self, batch: int, rows: int) -> slice:
        """Return where, in the order of an epoch of this many rows, those of a batch are."""
        begin, last = batch * self.batch, batch + 1 == self.batches(rows)
        return slice(begin, rows if last and self.leftover != "drop" else min(begin + self.batch, rows))

    def shown(self, augmentation: Augmentation) -> Train:
        """Return the same options with a stream's own augmentation where they have none."""
        return self if self.augmentation else self.model_copy(update=asdict(augmentation))

    @property
    def augmentation(self) -> Augmentation:
        """What happens to images before every step."""
        return Augmentation(self.crop, self.flip, self.vertical_flip, self.zoom)


NOT_ELEMENTWISE = ("adafactor",)  # a step of one number of a tensor depends on the others
UNUSABLE = {
    "lbfgs": "asks for the loss several times a step",
    "muon": "trains matrices alone, and nets have biases",
    "sparseadam": "takes sparse gradients alone",
}


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Return the class of ``torch.optim`` whose name in lower case is ``name``; a `UsageError` if there is none."""
    found = {
        kind.lower(): cls
        for kind, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
    }
    usable = {kind: cls for kind, cls in found.items() if kind not in UNUSABLE}
    if name not in usable:
        why = f"'{name}' {UNUSABLE[name]}" if name in UNUSABLE else f"no optimiser '{name}' in torch.optim"
        raise UsageError(f"train.optimizer: {why}; there are: {', '.join(sorted(usable))}")
    return usable[name]


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
) -> tuple[list[Any], list[Any]]:
    """Return the optimisers, one for each set of training options, and their learning-rate schedules.

    Raises:
        UsageError: for an option that the optimiser does not have.
    """
    _leave_the_compiler_out()
    groups: dict[str, list[Tensor]] = {}
    for path, leaf in weights.items():
        groups.setdefault(path[0] if path[0] in overrides else "", []).append(leaf)
    optimizers: list[Any] = []
    schedules: list[Any] = []
    for key, tensors in groups.items():
        how = overrides.get(key, train)
        cls = optimizer_class(how.optimizer)
        known = inspect.signature(cls).parameters
        options: dict[str, Any] = {"lr": how.lr}
        for name, value in {"momentum": how.momentum, "weight_decay": how.weight_decay}.items():
            if value and name not in known:
                raise UsageError(f"train.{name}: the optimiser '{how.optimizer}' has none; leave it out")
            if value or (name == "weight_decay" and name in known):  # 0 is not the default of all
                options[name] = value
        options |= {"fused": True} if "fused" in known else {}
        if "capturable" in known and all(is_gpu(tensor.device) for tensor in tensors):
            options["capturable"] = True  # what it remembers is on the GPU, so that a step can be recorded
        optimizers.append(cls(tensors, **options))
        if how.optimizer == "sgd" and how.momentum:
            # fused steps take all weights to have a momentum or none: those whose first gradient comes late begin with zeros
            for tensor in tensors:
                optimizers[-1].state[tensor]["momentum_buffer"] = torch.zeros_like(tensor, requires_grad=False)
        if how.schedule == "cosine":  # Loshchilov & Hutter 2017, eq. 5, without restarts
            schedules.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimizers[-1], how.epochs))
        if how.milestones:
            schedules.append(torch.optim.lr_scheduler.MultiStepLR(optimizers[-1], how.milestones, how.gamma))
    for schedule in schedules:
        schedule.optimizer._opt_called = True  # `step_of` passes by what would note it
    return optimizers, schedules


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


def optimizer_state(optimizer: torch.optim.Optimizer, weights: Mapping[Path, Tensor]) -> Tree:
    """Return what an optimiser remembers, as a checkpoint keeps it: lists of numbers, and tensors by the weight's name."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    remembered = {
        (*path, name): value
        for path, weight in weights.items()
        for name, value in optimizer.state.get(weight, {}).items()
    }
    return {"groups": groups, "state": unflatten(remembered)}


def restore_optimizer(optimizer: torch.optim.Optimizer, weights: Mapping[Path, Tensor], state: Tree) -> None:
    """Let an optimiser of weights of the same names remember what `optimizer_state` returned."""
    for group, saved in zip(optimizer.param_groups, state["groups"], strict=True):
        group.update({name: value for name, value in saved.items() if name not in OF_DEVICE})
    own = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    remembered: dict[Path, dict[str, Any]] = {}
    for path, value in leaves_with_path(state.get("state", {})):
        remembered.setdefault(path[:-1], {})[path[-1]] = value
    for path, weight in weights.items():
        if id(weight) in own and path in remembered:
            optimizer.state[weight] = {name: beside(weight, value) for name, value in remembered[path].items()}


def beside(weight: Tensor, value: Any) -> Any:
    """Return what belongs to a weight as fused steps take it for granted: in memory it lies as the weight does."""
    if isinstance(value, Tensor) and value.ndim and value.shape == weight.shape:
        return torch.empty_like(weight, dtype=value.dtype, requires_grad=False).copy_(value)
    return value
