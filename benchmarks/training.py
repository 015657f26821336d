"""What a training step costs: this engine, a loop written by hand, Avalanche, and the matrix products alone.

    PYTHONPATH=. python benchmarks/training.py | tee benchmarks/output/training.txt

One seed, rows in memory, SGD; three nets learn a class a row, one a class at each place. Passes are short, so what a fit does
once, before its first step and in it (there its operations are counted), shows; a fit of one step tells how much that is, and
the steps are shown without it too. The floor replays the matrix products
and convolutions of one step, forward and backward, recorded from the step itself, and nothing else. On a GPU, where there is one,
the floor is the step by hand as one CUDA graph, replayed. Ratios are taken round by round; the numbers are also saved as JSON.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.interleaved import machine, saved, table, timed
from cl_engine.data.stream import Data, Experience
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.tensor_benchmark import Rows, TensorBenchmark
from cl_engine.nn.memory_format import channels_last
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.targets.class_map import ClassMap
from cl_engine.training import cuda_graphs
from cl_engine.training.optimizers import Train

with quietly():
    from avalanche.training.supervised import Naive

NETS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int, int]] = {
    "MLP 784-256-256-10, batch 128": ("mlp", {"hidden": [256, 256]}, (1, 28, 28), 12_800, 128),
    "LeNet, 28 × 28, batch 64": ("lenet", {}, (1, 28, 28), 3_200, 64),
    "ResNet-18 of width 20, 32 × 32 × 3, batch 32": ("resnet18", {"width": 20}, (3, 32, 32), 320, 32),
    "U-Net of width 8, 32 × 32 × 3, a class at each place, batch 32": ("unet", {"width": 8}, (3, 32, 32), 640, 32),
}
ONE_STEP, STEPS = "this engine, a fit of one step", "this engine, without a fit's start"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")


class Recorded(TorchDispatchMode):
    """Keeps the matrix products and convolutions that happen inside, to be done again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], object]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            kept = [arg.detach().clone() if isinstance(arg, Tensor) else arg for arg in args]
            self.calls.append(lambda: func(*kept, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def contestants(net: Net, rows: int, batch: int) -> tuple[dict[str, Callable[[], object]], int]:
    """Return what is timed, by name, and the steps each takes."""
    draw = torch.Generator().manual_seed(0)
    labels = (rows, *net.input_shape[1:]) if net.places else (rows,)
    x, y = torch.randn(rows, *net.input_shape, generator=draw), torch.randint(10, labels, generator=draw)
    x, y = x.to(DEVICE), y.to(DEVICE)
    images = any(isinstance(part, nn.Conv2d) for part in net.module(0).modules())
    nothing = Data(x[:0], y[:0])
    short, whole = (
        Experience(step=0, task_id=0, train=Data(x[:some], y[:some]), validation=nothing, classes=10)
        for some in (batch, rows)
    )
    train = Train(epochs=1, batch=batch, lr=0.01)
    kind: Any = plugins.load("strategies", "finetune")

    def ours(experience: Experience) -> None:
        strategy = kind(net, seeds=(0,), setting="domain", train=train)
        strategy.state = strategy.start()
        if net.places:
            strategy.targets = lambda task_id: ClassMap.of(classes=10)
        for _ in strategy.learning(experience):
            pass

    def by_hand(module: nn.Module, inputs: Tensor) -> Callable[[], object]:
        def loop() -> None:
            optimizer = torch.optim.SGD(module.parameters(), lr=0.01, fused=True)
            order, total = torch.randperm(rows, device=DEVICE), torch.zeros((), device=DEVICE)
            for start in range(0, rows, batch):
                index = order[start : start + batch]
                loss = F.cross_entropy(module(inputs[index]), y[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach()

        return loop

    def avalanche() -> Callable[[], object]:
        model = net.module(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        common = {"train_mb_size": batch, "train_epochs": 1, "evaluator": None, "device": DEVICE}
        strategy = Naive(model=model, optimizer=optimizer, criterion=nn.CrossEntropyLoss(), **common)
        bench = TensorBenchmark(Rows(lambda index: Data(x, y), [0], [list(range(10))]))
        return lambda: strategy.train(bench.train_stream[0])

    module = net.module(0).train()
    with Recorded() as recorded:
        F.cross_entropy(module(channels_last(x[:batch]) if images else x[:batch]), y[:batch]).backward()
    steps = -(-rows // batch)

    def products() -> None:
        with torch.no_grad():
            for _ in range(steps):
                for call in recorded.calls:
                    call()

    first = net.module(0).train()
    best = net.module(0).train()
    if images:
        best = best.to(memory_format=torch.channels_last)
    found: dict[str, Callable[[], object]] = {
        "matrix products alone": products,
        "by hand": by_hand(best, channels_last(x) if images else x),
        "this engine": partial(ours, whole),
        ONE_STEP: partial(ours, short),
    }
    if not net.places:
        found["Avalanche Naive, tensors in memory"] = avalanche()
    if images:
        found["by hand, channels first"] = by_hand(first, x)
    if DEVICE.type == "cuda":
        found["by hand, one CUDA graph"] = replayed(net.module(0).train(), x, y, batch)
    return {name: finished(contestant) for name, contestant in found.items()}, steps


def replayed(module: nn.Module, x: Tensor, y: Tensor, batch: int) -> Callable[[], object]:
    """Return a pass whose every step is the replay of one recording: what is left once launching kernels costs nothing."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, fused=True)
    index = torch.arange(batch, device=DEVICE)

    def step() -> None:
        F.cross_entropy(module(x[index]), y[index]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(cuda_graphs.WARM_UP):
        with cuda_graphs.aside(DEVICE):
            step()
    replay = cuda_graphs.recorded(step, DEVICE)

    def loop() -> None:
        for rows in torch.randperm(len(x), device=DEVICE).split(batch):
            index.copy_(rows)
            replay()

    return loop


def finished(contestant: Callable[[], object]) -> Callable[[], None]:
    """Return the contestant, over only when the GPU is done too."""

    def run() -> None:
        contestant()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    return run


def main() -> None:
    print(f"torch {torch.__version__}, {machine()['gpu'] or machine()['cpu']}, {torch.get_num_threads()} threads")
    results = {}
    with quietly():
        for title, (name, options, shape, rows, batch) in NETS.items():
            net = Net(plugins.net_builder(name, options, shape, 10), shape, device=DEVICE)
            found, steps = contestants(net, rows, batch)
            times = timed(found)
            one = times.pop(ONE_STEP)
            times[STEPS] = [
                (whole - start) * steps / (steps - 1) for whole, start in zip(times["this engine"], one, strict=True)
            ]
            results[title] = {"steps": steps, "seconds": times, ONE_STEP: one}
            print("\n" + "\n".join(table(title, times, steps, "by hand")), flush=True)
            first = statistics.median(one) - statistics.median(times[STEPS]) / steps
            print(f"a fit's start: {first * 1e3:.1f} ms beside its steps")
    saved("training" if DEVICE.type == "cpu" else "training_gpu", {"results": results})


if __name__ == "__main__":
    main()
