"""Training steps recorded once on a GPU and replayed from then on, as launching their kernels takes longer than they do.

A step of a small net is some hundred kernels of a few microseconds each, which Python launches one by one. A CUDA graph
launches them all at once. What is recorded reads and writes the same memory at every replay: rows are therefore told by
indices that are copied to where the recording looks for them, and so are numbers told and changes of images. What a net draws
in training it draws by the GPU's generator, whose seed a recording looks up at each replay.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.gpu import is_gpu
from cl_engine.errors import is_out_of_memory

LOG = logging.getLogger("cl_engine")
WARM_UP = 3  # steps taken before one is recorded, in which libraries and optimisers set themselves up
LEAST = 100  # steps of a fit: shorter ones are not worth it
# of a step's length and of the weights: a recording that is further off is not of that step
DIFFERS, ROUNDING = 0.05, 1e-6
SWITCH = "CL_GRAPHS"
_FAILED: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # of a net, the losses whose steps cannot be recorded
_SAID: set[str] = set()


def possible(device: torch.device) -> bool:
    """Return whether steps can be recorded on this device and the user asks for it (``CL_GRAPHS=1``)."""
    return is_gpu(device) and os.environ.get(SWITCH, "0") == "1"


def lasting(optimizers: Sequence[torch.optim.Optimizer]) -> bool:
    """Return whether the optimisers keep all that changes from step to step in the GPU's memory."""
    return all(
        isinstance(optimizer, torch.optim.SGD) or all(group.get("capturable") for group in optimizer.param_groups)
        for optimizer in optimizers
    )


def worthwhile(device: torch.device, steps: int) -> bool:
    """Return whether as many steps on this device are worth a recording."""
    return possible(device) and steps >= LEAST


def say(what: str) -> None:
    """Say once what keeps training steps from being replayed."""
    if what not in _SAID:
        _SAID.add(what)
        LOG.warning("a training step %s: steps are launched one by one", what)


@functools.cache
def _stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)


@functools.cache
def _pool(device: torch.device) -> Any:
    """Return the memory that all recordings on a device share: one is replayed at a time, and none reads what another left."""
    return torch.cuda.graph_pool_handle()


def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return what does on the GPU all that ``step`` would do; the step itself is not taken.

    Raises:
        RuntimeError: if something in it cannot be recorded, such as waiting for the GPU.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        try:
            with torch.cuda.graph(graph, pool=_pool(device), stream=_stream(device)):
                step()
        except RuntimeError:
            # where a recording fails torch does not tell its allocator that it is over
            with suppress(RuntimeError, AttributeError):
                torch._C._cuda_endAllocateToPool(device.index or torch.cuda.current_device(), _pool(device))
            raise
    replay: Callable[[], None] = graph.replay
    return replay


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """Do the work inside in a stream of its own, as that before a recording has to be done on a GPU."""
    if not is_gpu(device):
        yield
        return
    main, side = torch.cuda.current_stream(device), _stream(device)
    side.wait_stream(main)
    try:
        with torch.cuda.stream(side):
            yield
    finally:
        main.wait_stream(side)


@dataclass(frozen=True)
class _Recording:
    given: Mapping[str, Tensor]
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
        net: Any,
        loss: Callable[..., Any],
    ) -> None:
        """Make steps replayable.

        Args:
            step: takes a step, given all that changes from one to the next, tensors by name.
            touched: returns all tensors that a step changes: weights, what optimisers remember, sums.
            constants: returns what a recording takes for granted, such as learning rates.
            net, loss: what is trained, on ``net.device``, and by what: where that once failed it is not tried again.
        """
        self._step, self._touched, self._constants = step, touched, constants
        self._device: torch.device = net.device
        self._failed, self._loss = _FAILED.setdefault(net, set()), named(loss)
        self._taken = 0
        self.forget()

    def forget(self) -> None:
        """Record anew: tensors that a step changes are elsewhere."""
        self._recordings: dict[Hashable, _Recording] = {}
        self._made_for: Hashable = None

    def __call__(self, given: Mapping[str, Tensor]) -> None:
        """Take a step on what it is given."""
        if self._loss in self._failed:
            self._step(given)
            return
        if self._taken < WARM_UP:
            self._taken += 1
            with aside(self._device):
                self._step(given)
            return
        constants = self._constants()
        if constants != self._made_for:
            self.forget()
            self._made_for = constants
        shapes = tuple((name, tensor.shape) for name, tensor in given.items())
        recording = self._recordings.get(shapes)
        if recording is None:
            self._record(shapes, given)
            return
        for name, held in recording.given.items():
            held.copy_(given[name])
        recording.replay()

    def _record(self, shapes: Hashable, given: Mapping[str, Tensor]) -> None:
        """Record a step, and take it."""
        held = {name: tensor.clone() for name, tensor in given.items()}
        try:
            replay = recorded(lambda: self._step(held), self._device)
        except RuntimeError as error:
            for tensor in self._touched():
                tensor.grad = None  # recorded, and never computed
            if is_out_of_memory(error):
                raise
            self._give_up(f"cannot be recorded ({str(error).strip().splitlines()[0][:200]})")
            self._step(given)
            return
        tensors = [tensor.detach() for tensor in self._touched()]
        before = [tensor.clone() for tensor in tensors]
        with rng.kept(self._device):  # the step itself draws the same again
            replay()
        replayed = [tensor.clone() for tensor in tensors]
        for tensor, old in zip(tensors, before, strict=True):
            tensor.copy_(old)
        self._step(held)
        if _alike(replayed, tensors, before):
            self._recordings[shapes] = _Recording(held, replay)
        else:
            self._give_up("does something else when it is replayed")

    def _give_up(self, why: str) -> None:
        self._failed.add(self._loss)
        self.forget()
        say(why)


def named(loss: Callable[..., Any]) -> str:
    """Return the name of a loss, without what it is given beforehand."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return f"{getattr(loss, '__module__', '')}.{getattr(loss, '__qualname__', type(loss).__qualname__)}"


def _alike(found: Sequence[Tensor], wanted: Sequence[Tensor], before: Sequence[Tensor]) -> bool:
    """Return whether two steps from the same place end at the same place but for rounding, tensor by tensor."""
    for a, b, start in zip(found, wanted, before, strict=True):
        gap, length, size = (float(t.double().norm()) for t in (a - b, b - start, start))
        if gap > DIFFERS * length + ROUNDING * size:  # of what is not finite nothing is said: that is told elsewhere
            return False
    return True
