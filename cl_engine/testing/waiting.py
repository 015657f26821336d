"""Operations for which the host waits for a device, refused wherever they are done."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {"_local_scalar_dense", "equal", "masked_select", "nonzero", "unique_consecutive", "unique_dim", "_unique2"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class NeverWaiting(TorchDispatchMode):
    """Refuses what waits for the values of tensors, as a CUDA graph does, on a CPU too: ``.item()``, indexing by a mask, ….

    >>> with NeverWaiting():
    ...     found = torch.where(torch.ones(2) > 0, 1.0, 0.0)
    >>> found
    tensor([1., 1.])
    """

    @classmethod
    def around(cls, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function in which nothing waits."""

        @functools.wraps(function)
        def refusing(*arguments: Any, **named: Any) -> Any:
            with cls():
                return function(*arguments, **named)

        return refusing

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, unless it waits.

        Raises:
            RuntimeError: if it does, in the words of CUDA.
        """
        refuse_to_wait(func, args)
        return func(*args, **(kwargs or {}))


def refuse_to_wait(func: Any, args: Any) -> None:
    """Raise a `RuntimeError` if an operation waits for the values of a tensor."""
    name = func._schema.name.removeprefix("aten::")
    masks = (torch.bool, torch.uint8)
    by_mask = name in INDEXING and any(isinstance(of, Tensor) and of.dtype in masks for of in tree_leaves(args[1]))
    if name in WAITS or by_mask:
        raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
