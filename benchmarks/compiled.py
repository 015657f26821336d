"""Whether compiling a training step pays on this machine: eager, functional, and compiled by `torch.compile`.

    PYTHONPATH=. python benchmarks/compiled.py | tee benchmarks/output/compiled.txt

One seed, rows in memory, SGD. The first pass of each, in which it compiles, is told apart from the later ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from benchmarks.interleaved import machine, saved, table, timed
from benchmarks.training import NETS
from cl_engine.nn.memory_format import channels_last
from cl_engine.nn.net import Net
from cl_engine.runs import plugins


def contestants(net: Net, x: Tensor, y: Tensor, batch: int) -> dict[str, Callable[[], object]]:
    """Return a pass over the rows for each way of taking a step, by name."""

    def passing(loss: Callable[[Tensor, Tensor], Tensor], weights: Any) -> Callable[[], object]:
        optimizer = torch.optim.SGD(weights, lr=0.01, fused=True)

        def once() -> None:
            for index in torch.randperm(len(x)).split(batch):
                loss(x.index_select(0, index), y.index_select(0, index)).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        return once

    def functional(compiled: bool) -> Callable[[], object]:
        module = net.module(0).train()
        params = {name: tensor.detach().clone().requires_grad_() for name, tensor in module.named_parameters()}

        def loss(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(module, params, (x,)), y)

        run: Any = torch.compile(loss, dynamic=False) if compiled else loss
        return passing(lambda x, y: run(params, x, y), params.values())

    eager, whole = net.module(0).train(), net.module(0).train()
    compiled = torch.compile(whole, dynamic=False)
    return {
        "eager": passing(lambda x, y: F.cross_entropy(eager(x), y), eager.parameters()),
        "functional": functional(False),
        "compiled module": passing(lambda x, y: F.cross_entropy(compiled(x), y), whole.parameters()),
        "compiled functional loss": functional(True),
    }


def main() -> None:
    print(f"torch {torch.__version__}, {machine()['cpu']}, {torch.get_num_threads()} threads")
    results = {}
    for title, (name, options, shape, rows, batch) in list(NETS.items())[:2]:
        net = Net(plugins.net_builder(name, options, shape, 10), shape)
        x, y = torch.randn(rows, *shape), torch.randint(10, (rows,))
        found = contestants(net, channels_last(x) if name == "lenet" else x, y, batch)
        first = {}
        for way, once in found.items():
            began = time.perf_counter()
            once()
            first[way] = time.perf_counter() - began
        times = timed(found, rounds=7, warm_up=False)
        results[title] = {"steps": rows // batch, "first": first, "seconds": times}
        print("\n" + "\n".join(table(title, times, rows // batch, "eager")))
        print("first pass: " + ", ".join(f"{way} {seconds:.1f} s" for way, seconds in first.items()), flush=True)
    saved("compiled", {"results": results})


if __name__ == "__main__":
    main()
