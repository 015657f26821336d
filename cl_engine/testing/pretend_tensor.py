"""Tensors that say they are on a GPU, compute on the CPU, and refuse what tensors on a GPU refuse."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

KIND, GPUS = "gpu", 2
ACROSS = {"copy_", "_to_copy", "_copy_from", "_copy_from_and_resize", "set_", "_foreach_copy_"}  # between devices
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_unsafe_index_put"}
SCALARS = {"where", "fill_", "fill", "masked_fill", "masked_fill_", "lerp", "lerp_", "_local_scalar_dense"}
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive"}
NO_DETERMINISTIC = {"histc", "put_", "median", "grid_sampler_2d_backward", "nll_loss2d_forward", "max_unpool2d"} | {
    f"{name}_backward" for name in ("_adaptive_avg_pool2d", "upsample_bilinear2d", "reflection_pad2d", "avg_pool3d")
}
FULL = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 24.00 GiB"


class Seen:
    """What the pretend GPU has seen.

    >>> Seen().launched
    0

    Attributes:
        launched: operations launched.
        waits: how often the host waited for the device, by the place in this package, what for, and whether in a step.
        full_after: operations after which its memory is full; None: never.
    """

    def __init__(self) -> None:
        self.launched = 0
        self.waits: Counter[tuple[str, str, bool]] = Counter()
        self.full_after: int | None = None

    def waited(self, kind: str) -> None:
        """Count that the host waits for the device, by the engine's line that makes it wait."""
        frame: Any = sys._getframe(1)
        place, stepping = "", False
        while frame is not None:
            name = frame.f_code.co_filename
            if "/cl_engine/" in name and not name.endswith("/pretend_tensor.py"):
                place = place or f"{name.rsplit('/cl_engine/', 1)[-1]}:{frame.f_lineno}"
                stepping |= frame.f_code.co_name == "_step" and name.endswith("/seed_group.py")
            frame = frame.f_back
        self.waits[place, kind, stepping] += 1

    def launch(self) -> None:
        """Count an operation; raise what a GPU raises whose memory is full."""
        self.launched += 1
        full = self.full_after is not None and self.launched > self.full_after
        if full and threading.current_thread() is threading.main_thread():  # torch's own threads do not survive it
            raise torch.OutOfMemoryError(FULL)


SEEN = Seen()


class Pretend(torch.Tensor):
    """A tensor on pretend GPU ``number``; ``held`` is the CPU tensor that holds its numbers.

    >>> issubclass(Pretend, torch.Tensor)
    True
    """

    held: torch.Tensor
    number: int

    @staticmethod
    def __new__(cls, held: torch.Tensor, number: int) -> Pretend:
        how: Any = {"dtype": held.dtype, "device": f"{KIND}:{number}", "strides": held.stride()}
        offset: Any = {"storage_offset": held.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, **how, **offset)
        made.held, made.number = held, number
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    is_cuda = property(lambda self: True)

    def tolist(self) -> Any:
        """Return the numbers."""
        return self.detach().cpu().tolist()

    def new_tensor(
        self, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
    ) -> Any:
        """Return a tensor beside this one."""
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)

    def data_ptr(self) -> int:
        """Return where its numbers begin."""
        return self.held.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        made: Any = Pretend(self.held.detach().clone(), self.number)
        if getattr(self, "_is_param", False):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made.requires_grad_(self.requires_grad)

    def __repr__(self, **more: Any) -> str:  # type: ignore[override]
        return f"Pretend({self.detach().held!r}, device='{self.device}')"  # type: ignore[attr-defined]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return launched(func, args, kwargs or {})


def launched(func: Any, args: Any, kwargs: Any) -> Any:
    """Do an operation on the CPU tensors inside; its results are where a GPU would leave them."""
    name = func.overloadpacket.__name__
    if name == "_copy_from":  # (from, to), of `torch.tensor(…, device=…)`
        func, name, args, kwargs = torch.ops.aten.copy_.default, "copy_", (args[1], args[0]), {}
    flat: list[Any] = []

    def held(leaf: Any) -> Any:
        flat.append(leaf)
        return leaf.held if isinstance(leaf, Pretend) else leaf

    inside = changed([args, kwargs], held)
    tensors = [leaf for leaf in flat if isinstance(leaf, torch.Tensor)]
    on = {tensor.number for tensor in tensors if isinstance(tensor, Pretend)}
    _refuse(name, func, args, tensors, on)
    asked = kwargs.get("device")
    where = next(iter(on), None) if asked is None else _number(asked)
    if where is not None and any(isinstance(leaf, torch.Generator) for leaf in flat):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if on:
        _count_waits(name, args, tensors, asked, where)
    if (
        name in NO_DETERMINISTIC
        and on
        and torch.are_deterministic_algorithms_enabled()
        and tensors[0].is_floating_point()
    ):
        raise RuntimeError(f"{name}_cuda does not have a deterministic implementation, but you set …")
    SEEN.launch()
    inside[1].update({"device": "cpu"} if asked is not None else {})
    with torch._C._DisableTorchDispatch():
        out = func(*inside[0], **inside[1])
    if func._schema.is_mutable and func._schema.returns:
        if "out" in kwargs:
            return kwargs["out"]
        if name.endswith("_") and isinstance(args[0], torch.Tensor):
            return args[0]
    if where is None:
        return out
    viewed = func.is_view and not args[0].is_inference()  # a view of one that counts its versions counts them too
    with torch.inference_mode(False) if viewed and torch.is_inference_mode_enabled() else nullcontext():
        return changed(out, lambda leaf: Pretend(leaf, where) if isinstance(leaf, torch.Tensor) else leaf)


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value with every leaf changed: torch's own trees take most of the time of small operations."""
    if isinstance(value, list | tuple):
        return type(value)([changed(each, change) for each in value])
    if isinstance(value, dict):
        return {name: changed(each, change) for name, each in value.items()}
    return change(value)


def _refuse(name: str, func: Any, args: Any, tensors: list[torch.Tensor], on: set[int]) -> None:
    """Raise what a GPU raises for operands in different places."""
    if name in ACROSS:
        return
    if len(on) > 1:
        raise RuntimeError(f"Expected all tensors to be on the same device, found {sorted(on)} ({name})")
    cpu = [tensor for tensor in tensors if not isinstance(tensor, Pretend)]
    if not cpu or not on:
        return
    if name in INDEXING:
        if not isinstance(args[0], Pretend):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        indices = [id(tensor) for tensor in args[1] if tensor is not None and not isinstance(tensor, Pretend)]
        for _ in indices:
            SEEN.waited("index from the CPU")
        cpu = [tensor for tensor in cpu if id(tensor) not in indices]
    # a number may be on the CPU where operations go through tensors element by element
    elementwise = torch.Tag.pointwise in func.tags or name in SCALARS | INDEXING or "foreach" in name
    bad = [tuple(tensor.shape) for tensor in cpu if tensor.ndim or not elementwise or "fused" in name]
    if bad:
        raise RuntimeError(f"Expected all tensors to be on the same device, found {KIND} and cpu {bad} ({name})")


def _count_waits(name: str, args: Any, tensors: list[torch.Tensor], asked: Any, where: int | None) -> None:
    """Count what makes the host wait for the device: numbers it wants to know, and copies from one to the other."""
    if name in WAITS or (name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1])):
        SEEN.waited(name)
    if name == "_to_copy" and asked is not None and where is None:
        SEEN.waited("to the host")
    if name == "copy_" and len({isinstance(tensor, Pretend) for tensor in tensors[:2]}) == 2:
        SEEN.waited("from the host" if isinstance(args[0], Pretend) else "to the host")


def _number(what: Any) -> int | None:
    """Return the number of the GPU that a ``device=`` means; None for a CPU."""
    found = torch.device(what)
    if found.type != KIND:
        return None
    if (found.index or 0) >= GPUS:
        raise RuntimeError(f"CUDA error: invalid device ordinal {found}")
    return found.index or 0
