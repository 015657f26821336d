"""Avalanche's `Naive` on a GPU, to stand beside this engine; imported only where Avalanche is installed."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from cl_engine.core import gpu
from cl_engine.data.stream import Stream
from cl_engine.interop.avalanche import to_avalanche
from cl_engine.interop.lazy_import import quietly

with quietly():
    from avalanche.training.supervised import Naive


def naive(stream: Stream, device: torch.device, until: float) -> tuple[int, float]:
    """Learn the tasks of a stream, one pass each; return how many were learned before time was over, and seconds."""
    sizes = [math.prod(stream.input_shape), 256, 256, 10]
    layers = [part for k in range(3) for part in (nn.Linear(sizes[k], sizes[k + 1]), nn.ReLU())]
    module = nn.Sequential(nn.Flatten(), *layers[:-1])
    learner = Naive(
        model=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=0.05),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=128,
        train_epochs=1,
        device=device,
        evaluator=None,
    )
    learned, began = 0, time.perf_counter()
    for experience in to_avalanche(stream).train_stream:
        learner.train(experience)
        learned += 1
        if time.perf_counter() > until:
            break
    gpu.finish(device)
    return learned, time.perf_counter() - began
