"""Capacity: how many runs fit this machine at a time, by what it has and what one run takes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import joblib
import psutil
import torch

from cl_engine.errors import UsageError
from cl_engine.sweep.config import ResourceOptions

SPARE = 0.9  # share of the free memory that is given out
MARGIN = 1.25  # a run may take so much more memory than its first experience did
CONTEXT = 600e6  # bytes that a process holds of a GPU beside its tensors
MOST_ON_A_GPU = 8


@dataclass(frozen=True)
class Slots:
    """The number of runs at a time, the GPUs of each (as for ``CUDA_VISIBLE_DEVICES``), and what limits them.

    >>> Slots(2, ("", ""), "2 cores").count
    2
    """

    count: int
    devices: tuple[str, ...]
    why: str


def slots(resources: ResourceOptions, device: str, needs: Mapping[str, Mapping[str, Any]]) -> Slots:
    """Return how many runs this machine takes at a time.

    Cores are those the process may use, by affinity and control group. Memory is what is free now.

    Args:
        resources: what was asked for.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:n``.
        needs: what was measured of each kind of run: ``memory`` and ``gpu``, in bytes.

    Raises:
        UsageError: if a run would take more than there is.
    """
    cores: int = joblib.cpu_count()
    if resources.threads > cores:
        raise UsageError(f"resources.threads: a run would take {resources.threads} cores, and there are {cores}")
    limits = {f"{cores} core(s), {resources.threads} for each": cores // resources.threads}
    memory = needed_memory(resources, needs)
    if memory:
        free = SPARE * psutil.virtual_memory().available
        limits[f"{free / 1e9:.1f} GB of free memory, {memory / 1e9:.1f} GB for each"] = max(1, int(free // memory))
    devices = _devices(resources, device, needs)
    if any(devices):
        limits[f"{len(set(devices))} GPU(s), {len(devices)} place(s) on them"] = len(devices)
    if resources.jobs is not None:
        limits[f"resources.jobs = {resources.jobs}"] = resources.jobs
    why = min(limits, key=lambda name: limits[name])
    return Slots(limits[why], devices, why)


def needed_memory(resources: ResourceOptions, needs: Mapping[str, Mapping[str, Any]]) -> float:
    """Return the bytes of memory that a run takes: as asked for, or of the largest that was measured; 0: not known."""
    if resources.memory is not None:
        return resources.memory * 1e9
    return MARGIN * max((float(each.get("memory", 0)) for each in needs.values()), default=0.0)


def share_of_gpu(resources: ResourceOptions, needs: Mapping[str, Mapping[str, Any]], total: float) -> float:
    """Return what of a GPU with ``total`` bytes a run takes: as asked for, or by the memory that was measured."""
    if resources.gpus is not None:
        return resources.gpus
    held = max((float(each.get("gpu", 0)) for each in needs.values()), default=0.0)
    if not held:
        return 1.0
    return 1 / max(1, min(MOST_ON_A_GPU, math.floor(SPARE * total / (MARGIN * held + CONTEXT))))


def _devices(resources: ResourceOptions, device: str, needs: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    if resources.gpus == 0:
        return ("",)  # there may be some, and none is to be seen
    if device == "cpu" or not torch.cuda.is_available():
        if resources.gpus:
            raise UsageError(f"resources.gpus: a run would take {resources.gpus} GPU(s), and there is none here")
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = (
        [name.strip() for name in visible.split(",")] if visible else [str(n) for n in range(torch.cuda.device_count())]
    )
    if device.startswith("cuda:"):
        number = int(device.removeprefix("cuda:"))
        if number >= len(every):
            raise UsageError(f"--device: there is no '{device}' here: torch sees {len(every)} GPUs")
        every = [every[number]]
    share = share_of_gpu(resources, needs, torch.cuda.get_device_properties(0).total_memory)
    if share < 1:
        return tuple(every) * math.floor(1 / share + 1e-9)
    whole = math.ceil(share)
    if whole > len(every):
        raise UsageError(f"resources.gpus: a run would take {whole} GPUs, and there are {len(every)}")
    return tuple(",".join(every[k : k + whole]) for k in range(0, len(every) - whole + 1, whole))
