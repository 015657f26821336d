"""Milliseconds a training step takes on a GPU: by hand, as a graph, and by this engine for several numbers of seeds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.gpu_needs import PRETEND
from benchmarks.shaped import reason
from cl_engine.core import gpu
from cl_engine.data.stream import Data, Experience
from cl_engine.events import Progress
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.training import cuda_graphs
from cl_engine.training.optimizers import Train

NETS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int]] = {
    "MLP 784-256-256-10": ("mlp", {"hidden": [256, 256]}, (1, 28, 28), 128),
    "LeNet, 28 × 28": ("lenet", {}, (1, 28, 28), 64),
    "ResNet-18 of width 20, 32 × 32 × 3": ("resnet18", {"width": 20}, (3, 32, 32), 32),
}
SEEDS = (1, 3) if PRETEND else (1, 10, 32)
ROUNDS = 1 if PRETEND else 3
Epoch = Callable[[float], float]  # given when to stop, learns an epoch as far as that; returns how many steps it took


def device() -> torch.device:
    return torch.device(gpu.KIND)


def experience_of(shape: tuple[int, ...], rows: int) -> Experience:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(rows, *shape, generator=draw), torch.randint(10, (rows,), generator=draw)
    x, y = x.to(device()), y.to(device())
    return Experience(step=0, task_id=0, train=Data(x, y), validation=Data(x[:0], y[:0]), classes=10)


def a_step(epoch: Epoch, until: float) -> str:
    """Return milliseconds a step: the median of some rounds, after one that is not counted unless time is over with it."""
    times: list[float] = []
    while len(times) <= ROUNDS and (not times or time.perf_counter() < until):
        gpu.finish(device())
        began = time.perf_counter()
        steps = epoch(until)
        gpu.finish(device())
        times.append((time.perf_counter() - began) / steps * 1e3)
    return f"{statistics.median(times[1:] or times):.3f} ms a step" + ", the first round alone" * (len(times) == 1)


def by_hand(net: Net, experience: Experience, batch: int, graph: bool) -> Epoch:
    """Return an epoch written by hand, step by step or as the replay of one recording."""
    module, (x, y) = net.module(0).train(), (experience.train.x, experience.train.y)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, fused=True)
    index = torch.arange(batch, device=device())

    def step() -> None:
        F.cross_entropy(module(x[index]), y[index]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(cuda_graphs.WARM_UP if graph else 0):
        with cuda_graphs.aside(device()):
            step()
    take = cuda_graphs.recorded(step, device()) if graph else step

    def epoch(until: float) -> float:
        for number, rows in enumerate(torch.randperm(len(x), device=device()).split(batch)):
            if time.perf_counter() > until and number:
                return number
            index.copy_(rows)
            take()
        return len(x) / batch

    return epoch


def by_engine(net: Net, experience: Experience, batch: int, seeds: int) -> Epoch:
    """Return an epoch of this engine's `finetune`."""
    kind: Any = plugins.load("strategies", "finetune")

    def epoch(until: float) -> float:
        strategy = kind(net, seeds=tuple(range(seeds)), setting="domain", train=Train(epochs=1, batch=batch, lr=0.01))
        strategy.state = strategy.start()
        learning = strategy.learning(experience)
        for event in learning:  # until its end, unless some steps are taken when time is over
            if isinstance(event, Progress) and event.done and time.perf_counter() > until:
                learning.close()
                return event.done * len(experience.train) / batch
        return len(experience.train) / batch

    return epoch


def steps(until: float) -> Iterator[tuple[str, str]]:
    """Milliseconds a step: by hand, one launch at a time and as a graph; this engine, for several numbers of seeds, likewise."""
    count = 2 if PRETEND else 200
    ways = [(0, False), (0, True), *((seeds, graph) for seeds in SEEDS for graph in (False, True))]
    nets = list(NETS.items())[: 1 if PRETEND else None]
    left = len(nets) * len(ways)
    for title, (name, options, shape, batch) in nets:
        net = Net(plugins.net_builder(name, options, shape, 10), shape, device=device())
        experience = experience_of(shape, count * batch)
        for seeds, graph in ways:
            what = f"{title}: {f'engine, {seeds} seed(s)' if seeds else 'by hand'}{', graph' * graph}"
            now = time.perf_counter()
            ends, left = now + (until - now) / left, left - 1  # what one leaves over is for those after it
            if now > until:
                yield what, "no time left"
                continue
            if graph and PRETEND:
                yield what, "skipped: one that is none records no graphs"
                continue
            os.environ[cuda_graphs.SWITCH] = str(int(graph))
            try:
                epoch = by_engine(net, experience, batch, seeds) if seeds else by_hand(net, experience, batch, graph)
                yield what, a_step(epoch, ends)
            except Exception as error:  # told, and the others are timed
                yield what, reason(error)
    os.environ.pop(cuda_graphs.SWITCH, None)
