"""Training steps recorded once on a GPU and replayed from then on, as launching their kernels takes longer than they do.

A step of a small net is some hundred kernels of a few microseconds each, which Python launches one by one. A CUDA graph
launches them all at once. What is recorded reads and writes the same memory at every replay: rows are therefore told by
indices that are copied to where the recording looks for them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

LOG = logging.getLogger("cl_engine")
WARM_UP = 3  # steps taken before one is recorded, in which libraries and optimisers set themselves up
LEAST = 100  # steps of a fit: shorter ones are not worth it
DIFFERS, ROUNDING = (
    0.05,
    1e-6,
)  # of a step's length and of the weights: a recording that is further off is not of that step
SWITCH = "CL_GRAPHS"


def possible(device: torch.device) -> bool:
    """Return whether steps can be recorded on this device and the user asks for it (``CL_GRAPHS=1``)."""
    return device.type == "cuda" and os.environ.get(SWITCH, "0") == "1"


def lasting(optimizers: Sequence[torch.optim.Optimizer]) -> bool:
    """Return whether the optimisers keep all that changes from step to step in the GPU's memory."""
    return all(
        isinstance(optimizer, torch.optim.SGD) or all(group.get("capturable") for group in optimizer.param_groups)
        for optimizer in optimizers
    )


def worthwhile(optimizers: Sequence[torch.optim.Optimizer], device: torch.device, steps: int) -> bool:
    """Return whether as many steps of these optimisers can be recorded and are worth it."""
    return possible(device) and steps >= LEAST and lasting(optimizers)


def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return what does on the GPU all that ``step`` would do; the step itself is not taken.

    Raises:
        RuntimeError: if something in it cannot be recorded, such as waiting for the GPU.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """Do the work inside in a stream of its own, as that before a recording has to be done on a GPU."""
    if device.type != "cuda":
        yield
        return
    main, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(main)
    try:
        with torch.cuda.stream(side):
            yield
    finally:
        main.wait_stream(side)


@dataclass(frozen=True)
class _Recording:
    given: tuple[Tensor, ...]
    replay: Callable[[], None]


class Replay:
    """The steps of one fit: the first few as they are, then one recording for every shape of their inputs.

    The first replay of a recording is checked against the step itself, from the same weights. Where a step cannot be
    recorded, or a replay comes to something else, a warning says so and all steps are taken as they are.

    >>> possible(torch.device("cpu"))  # there is nothing to replay on a CPU
    False
    """

    def __init__(
        self,
        step: Callable[..., None],
        touched: Callable[[], list[Tensor]],
        constants: Callable[[], Hashable],
        device: torch.device,
    ) -> None:
        """Make steps replayable.

        Args:
            step: takes a step, given indices of rows.
            touched: returns all tensors that a step changes: weights, what optimisers remember, sums.
            constants: returns what a recording takes for granted, such as learning rates.
            device: the GPU.
        """
        self._step, self._touched, self._constants, self._device = step, touched, constants, device
        self._taken = 0
        self._off = False
        self.forget()

    def forget(self) -> None:
        """Record anew: tensors that a step changes are elsewhere."""
        self._recordings: dict[tuple[torch.Size, ...], _Recording] = {}
        self._made_for: Hashable = None

    def __call__(self, *given: Tensor) -> None:
        """Take a step on rows with these indices."""
        if self._off:
            self._step(*given)
            return
        if self._taken < WARM_UP:
            self._taken += 1
            with aside(self._device):
                self._step(*given)
            return
        constants = self._constants()
        if constants != self._made_for:
            self.forget()
            self._made_for = constants
        shapes = tuple(tensor.shape for tensor in given)
        recording = self._recordings.get(shapes)
        if recording is None:
            self._record(shapes, given)
            return
        for held, new in zip(recording.given, given, strict=True):
            held.copy_(new)
        recording.replay()

    def _record(self, shapes: tuple[torch.Size, ...], given: tuple[Tensor, ...]) -> None:
        """Record a step, and take it."""
        held = tuple(tensor.clone() for tensor in given)
        try:
            replay = recorded(lambda: self._step(*held), self._device)
        except RuntimeError as error:
            for tensor in self._touched():
                tensor.grad = None  # recorded, and never computed
            self._give_up(f"cannot be recorded ({str(error).strip().splitlines()[0][:200]})")
            self._step(*given)
            return
        tensors = [tensor.detach() for tensor in self._touched()]
        before = [tensor.clone() for tensor in tensors]
        replay()
        replayed = [tensor.clone() for tensor in tensors]
        for tensor, old in zip(tensors, before, strict=True):
            tensor.copy_(old)
        self._step(*held)
        if _alike(replayed, tensors, before):
            self._recordings[shapes] = _Recording(held, replay)
        else:
            self._give_up("does something else when it is replayed")

    def _give_up(self, why: str) -> None:
        self._off = True
        self.forget()
        LOG.warning("a training step %s: steps are launched one by one", why)


def _alike(found: Sequence[Tensor], wanted: Sequence[Tensor], before: Sequence[Tensor]) -> bool:
    """Return whether two steps from the same place end at the same place but for rounding, tensor by tensor."""
    for a, b, start in zip(found, wanted, before, strict=True):
        gap, length, size = (float(t.double().norm()) for t in (a - b, b - start, start))
        if gap > DIFFERS * length + ROUNDING * size:  # of what is not finite nothing is said: that is told elsewhere
            return False
    return True
