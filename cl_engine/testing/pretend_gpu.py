"""A GPU that is none: tensors that say they are on one, compute on the CPU, and refuse what tensors on a GPU refuse.

``pytest -p cl_engine.testing.pretend_gpu`` runs tests as if there were two GPUs: what `cl_engine.testing` holds a plug-in to on
a GPU is then tested on any machine. It tells whether tensors are where they have to be, where the host waits for the device,
and how many operations are launched; not how long anything takes, nor how a GPU rounds.

It is made of hooks that torch keeps for private devices and its own tests. Where a version of torch lacks them, `WANTING`
says so and nothing is pretended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch

from cl_engine.core import gpu
from cl_engine.testing.pretend_tensor import GPUS, KIND, SEEN, Pretend, changed, launched

try:
    from torch._C import DispatchKey, DispatchKeySet, _ExcludeDispatchKeyGuard
    from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

    WANTING = ""
except ImportError as error:
    WANTING = f"this version of torch has no hooks for a pretend GPU ({error})"

__all__ = ["SEEN", "WANTING", "install", "pytest_configure"]
FACTORIES = (
    "empty.memory_format empty_strided zeros ones full eye eye.m arange arange.start arange.start_step linspace logspace "
    "rand rand.generator randn randn.generator randint randint.low randint.generator randint.low_generator randperm "
    "randperm.generator scalar_tensor _copy_from tril_indices triu_indices"
)
HALF = "linear conv1d conv2d conv3d convolution _convolution mm bmm addmm baddbmm matmul einsum"  # what autocast makes bfloat16
WHOLE = (
    "log_softmax.int softmax.int nll_loss layer_norm group_norm cdist norm.Scalar exp log pow.Tensor_Scalar cross_entropy_loss "
    "mse_loss l1_loss cumsum prod sum"
)  # and float32


def _operations() -> list[Any]:
    """Return what keeps torch's operations on the device registered: those that make tensors, and autocast's."""
    made, rest = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    for name in FACTORIES.split():
        made.impl(name, _making(_operation(name)), "PrivateUse1")
    for name in f"{HALF} {WHOLE}".split():
        dtype = torch.bfloat16 if name in HALF.split() else torch.float32
        made.impl(name, _cast(_operation(name), dtype), "AutocastPrivateUse1")
    rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    return [made, rest]


def _operation(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _making(operation: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: launched(operation, args, kwargs)


def _cast(operation: Any, dtype: torch.dtype) -> Callable[..., Any]:
    keys: Any = DispatchKeySet(DispatchKey.AutocastPrivateUse1)  # type: ignore[attr-defined]

    def floats(leaf: Any) -> Any:
        return leaf.to(dtype) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

    def cast(*args: Any, **kwargs: Any) -> Any:
        with _ExcludeDispatchKeyGuard(keys):
            return operation(*changed(args, floats), **changed(kwargs, floats))

    return cast


def _put(parameter: Any, value: torch.Tensor) -> None:
    """Set ``parameter.data``, which a GPU takes from another device as well."""
    if isinstance(parameter, Pretend) != isinstance(value, Pretend):
        torch.utils.swap_tensors(parameter, torch.nn.Parameter(value.detach(), parameter.requires_grad))
        return
    torch._C.TensorBase.data.__set__(parameter, value)  # type: ignore[attr-defined]
    if isinstance(value, Pretend):
        parameter.held, parameter.number = value.held, value.number


def install(patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Make ``gpu`` a device of torch's and the kind that the engine takes for GPUs; it stays so for this process."""
    backend: Any = _DummyBackendModule()
    backend.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    _setup_privateuseone_for_python_backend(KIND, backend_module=backend)
    install.kept = _operations()  # type: ignore[attr-defined]
    for kind in (torch.nn.Parameter, Pretend):
        kind.data = property(torch._C.TensorBase.data.__get__, _put)  # type: ignore[attr-defined,assignment]
    sys.modules["torch.optim.optimizer"]._foreach_supported_types.append(Pretend)
    torch.__future__.set_swap_module_params_on_conversion(True)
    for name, value in _of_cuda().items():
        patch(torch.cuda, name, value)
        setattr(backend, name, value)
    patch(gpu, "KIND", KIND)
    from cl_engine.checkpoints import file
    from cl_engine.training import pretraining

    readers: tuple[Any, ...] = (file, pretraining)
    for module in readers:
        patch(module, "safe_open", _opened(module.safe_open))


def _of_cuda() -> dict[str, Callable[..., Any]]:
    """Return what functions of `torch.cuda` are replaced by."""
    seed = [0]
    always: dict[str, Any] = {"is_available": True, "device_count": GPUS, "current_device": 0, "get_device_name": KIND}
    always |= {
        "get_device_properties": SimpleNamespace(total_memory=24e9),
        "_is_in_bad_fork": False,
        "device": nullcontext(),
    }
    always |= {"max_memory_allocated": 10**6, "max_memory_reserved": 2 * 10**6, "is_current_stream_capturing": False}
    always |= dict.fromkeys(["synchronize", "empty_cache", "reset_peak_memory_stats"])
    found: dict[str, Callable[..., Any]] = {n: lambda *device, value=v: value for n, v in always.items()}
    found |= dict.fromkeys(["manual_seed", "manual_seed_all"], lambda number: seed.__setitem__(0, number))
    found["get_rng_state"] = lambda *device: torch.tensor(seed)
    found["set_rng_state"] = lambda state, *device: seed.__setitem__(0, int(state))
    return found


def _opened(own: Callable[..., Any]) -> Callable[..., Any]:
    """Return what opens a file of tensors as safetensors does, which knows no device but torch's own."""

    @contextmanager
    def opened(path: Any, framework: str, device: str = "cpu") -> Iterator[Any]:
        with own(path, framework) as file:
            there = lambda name: file.get_tensor(name).to(device)  # noqa: E731
            yield SimpleNamespace(metadata=file.metadata, keys=file.keys, get_tensor=there)

    return opened


def pytest_configure(config: Any) -> None:
    """Install it for all tests of this process."""
    if not WANTING:
        install()
