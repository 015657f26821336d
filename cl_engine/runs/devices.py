"""The device that a run is on, as its user names it."""

from __future__ import annotations

import torch

from cl_engine.core import gpu
from cl_engine.errors import UsageError


def resolved_device(name: str) -> str:
    """Return ``cpu`` or ``cuda[:n]`` for a device as the user names it; a `UsageError` if it is not there."""
    if name == "auto":
        return gpu.KIND if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device: no device '{name}'; there are: auto, cpu, cuda, cuda:0, cuda:1, …") from None
    if device.type not in ("cpu", gpu.KIND):
        raise UsageError(f"--device: '{name}' is not supported; there are: auto, cpu, cuda, cuda:n")
    if gpu.is_gpu(device) and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device: there is no '{name}' here: torch sees {torch.cuda.device_count()} GPUs")
    return name
