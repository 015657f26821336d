"""Determinism: what a GPU needs for it, and what a log says of how far it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cl_engine.core.gpu import is_gpu
from cl_engine.errors import RunFailed

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic(asked: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms alone, if ``asked``, and `float32_products`; put its switches back afterwards.

    Raises:
        RunFailed: naming an operation that has none, when it is met.
    """
    if not asked:
        with float32_products():
            yield
        return
    os.environ.setdefault(WORKSPACE, ":4096:8")  # read by cuBLAS when it is first used
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fastest = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        with float32_products():
            yield
    except RuntimeError as error:
        if "deterministic" in str(error):
            raise RunFailed(
                f"--deterministic: an operation has no deterministic form on this device; leave it out, or use another "
                f"device or net ({str(error).strip().splitlines()[0][:300]})"
            ) from error
        raise
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = fastest


@contextmanager
def float32_products() -> Iterator[None]:
    """Let a GPU compute products and convolutions of float32 in float32, not with the ten bits of TF32; put it back.

    Torch leaves convolutions to TF32 unless told otherwise; whoever wants less than float32 says so (``train.precision``).
    """
    cudnn: Any = torch.backends.cudnn
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def guarantees(device: str, asked: bool, rounded: bool) -> str:
    """Return what can be said of how far the numbers of a run will be the same again.

    ``rounded``: a seed may be computed in another way beside others than alone, with others in one product or with fewer
    threads.
    """
    on_gpu = is_gpu(torch.device(device))
    if on_gpu and not asked:
        said = "another run may differ by rounding: a GPU adds in any order, unless --deterministic is given"
    else:
        threads = "" if on_gpu else f", {torch.get_num_threads()} threads"
        said = f"another run gives the same bits, with the same device{threads} and versions of libraries"
    said += "; products of float32 are computed in float32, without TF32" if on_gpu else ""
    alone = "them within rounding" if rounded else "the same bits"
    return f"{said}; a seed without the others gives {alone}"
