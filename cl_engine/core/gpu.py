"""What a GPU is called: asked at one place, so that another kind of device can stand in for it in tests."""

from __future__ import annotations

from typing import TypeGuard

import torch

KIND = "cuda"  # torch's name for GPUs, of whichever maker


def is_gpu(device: torch.device | None) -> TypeGuard[torch.device]:
    """Return whether a device is a GPU.

    >>> is_gpu(torch.device("cuda:1")), is_gpu(torch.device("cpu")), is_gpu(None)
    (True, False, False)
    """
    return device is not None and device.type == KIND


def finish(device: torch.device) -> None:
    """Wait until all that was launched on a device is done, so that what it took can be told; a CPU is done already."""
    if is_gpu(device):
        torch.cuda.synchronize(device)
