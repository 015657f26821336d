"""How much is computed at once: seeds as one `torch.vmap`, where that runs a net as each alone, and rows in pieces."""

from __future__ import annotations

import functools
import logging
import math
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from cl_engine.core.gpu import is_gpu
from cl_engine.core.text import size
from cl_engine.core.torch_defaults import torch_defaults
from cl_engine.errors import is_out_of_memory

LOG = logging.getLogger("cl_engine")

VMAP_BELOW = 20_000  # weights, for each seed that runs beside the others …
VMAP_IN_ALL = 2_000_000  # … and of all seeds together: more do not stay in the cache

ROWS_AT_ONCE = 2048
IMAGES_AT_ONCE = 128  # of a convolutional net on a CPU, whose intermediate maps then stay in the cache
# of a GPU, that the largest map of all rows and seeds answered at once may take, and all maps of a training step of the seeds
# that take it at once: more of them gain little by sharing launches
MAP_BYTES, STEP_BYTES = 1 << 29, 1 << 31

Call = Callable[[dict[str, Tensor], Tensor, bool], Tensor]


def batching_pays(parameters: int, seeds: int, convolves: bool, device: torch.device) -> bool:
    """Return whether so many seeds of a net with so many weights run faster as one `torch.vmap` than in turn.

    Measured on two CPU cores: small fully connected nets gain, convolutions and large nets lose; on a GPU all gain.
    """
    small = parameters < VMAP_BELOW * seeds and parameters * seeds < VMAP_IN_ALL
    return is_gpu(device) or (seeds >= 3 and small and not convolves)


def rows_at_once(few: bool, device: torch.device, seeds: int, largest: Callable[[], int]) -> int:
    """Return how many rows are answered at once by so many seeds side by side.

    ``largest`` returns how many numbers the largest map of one row has: on a GPU it decides, with the seeds.
    """
    rows = IMAGES_AT_ONCE if few else ROWS_AT_ONCE
    return max(1, min(rows, MAP_BYTES // (4 * seeds * largest()))) if is_gpu(device) else rows


def trained_at_once(seeds: int, device: torch.device, step: Callable[[], int]) -> list[range]:
    """Return which of the seeds train as one: on a GPU as many as its memory is meant for, in groups as even as can be.

    ``step`` returns how many numbers there are in the maps of a training step of one seed.

    >>> trained_at_once(10, torch.device("cpu"), lambda: 2**40)
    [range(0, 10)]
    """
    taken = 4 * step() if is_gpu(device) else 0
    groups = math.ceil(seeds / max(1, STEP_BYTES // max(1, taken)))
    if groups > 1:
        _say(f"{seeds} seeds train in {groups} groups: the maps of a step take {size(taken)} of the GPU for each seed")
    return [range(seeds * k // groups, seeds * (k + 1) // groups) for k in range(groups)]


@functools.cache
def _say(what: str) -> None:
    """Say something once."""
    LOG.info(what)


@dataclass
class Maps:
    """How many numbers the largest of all maps of one row has, and all of them together.

    >>> Maps().every
    1
    """

    largest: int = 1
    every: int = 1


class _Noting(TorchDispatchMode):
    """Notes how many numbers the tensors have which are made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = Maps()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not func.is_view:
            self.maps.largest, self.maps.every = max(self.maps.largest, made.numel()), self.maps.every + made.numel()
        return made


def maps_of(answer: Callable[[], Tensor]) -> Maps:
    """Return how many numbers the tensors have that are made on the way to an answer."""
    seen = _Noting()
    with _disable_current_modes(), torch_defaults(), torch.no_grad(), seen:
        answer()
    return seen.maps


def runs_batched(call: Call, params: Mapping[str, Tensor], learned: Collection[str], x: Tensor) -> bool:
    """Return whether `torch.vmap` trains and answers two seeds of a net as each alone; says so once where it does not.

    Args:
        call: returns logits ``[N, C, …]`` for one seed's weights and inputs ``[N, …]``, in training or not.
        params: weights ``{name: [2, …]}``.
        learned: names of those that gradients reach.
        x: inputs ``[2, N, …]``.
    """
    try:
        # operations that vmap has no rule for are looped over, of which torch warns: seeds in turn are faster
        with warnings.catch_warnings(), _disable_current_modes(), torch_defaults():
            warnings.simplefilter("error")
            same = _as_alone(call, params, learned, x)
        why = "answers are others"
    except Exception as error:  # a module of somebody else's may fail in any way
        if is_out_of_memory(error):
            raise
        same, why = False, (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    if not same:
        LOG.info("seeds of this net run in turn, because torch.vmap cannot run them as one: %s", why)
    return same


def _as_alone(call: Call, params: Mapping[str, Tensor], learned: Collection[str], x: Tensor) -> bool:
    found: list[list[Tensor]] = []
    for together in (True, False):
        own = {name: tensor.clone().requires_grad_(name in learned) for name, tensor in params.items()}
        if together:
            logits = torch.vmap(lambda one, rows: call(one, rows, True))(own, x)
        else:
            logits = torch.stack([call({name: t[s] for name, t in own.items()}, x[s], True) for s in range(2)])
        places = logits.shape[3:].numel()  # each adds to the gradient, and to its rounding
        gradients = torch.autograd.grad(
            logits.square().sum() / places, [own[name] for name in learned], allow_unused=True, materialize_grads=True
        )
        found.append([logits.detach(), *gradients])
    with torch.inference_mode():
        answers = torch.vmap(lambda one: call(one, x[0], False))(dict(params))
        alone = torch.stack([call({name: t[s] for name, t in params.items()}, x[0], False) for s in range(2)])
    pairs = [*zip(*found, strict=True), (answers, alone)]
    return all(torch.allclose(one, other, rtol=1e-3, atol=1e-5) for one, other in pairs)
