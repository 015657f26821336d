"""What the products of linear layers take by torch's own choice of library and by oneDNN, and of several nets under vmap.

    PYTHONPATH=. python benchmarks/products.py | tee benchmarks/output/products.txt

The sizes are those of the nets that other benchmarks train, at 1 thread and at all of them. `cl_engine.nn.fast_linear` follows
from it: which processors, and from how many multiplications on; and in which form few rows of several nets are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.interleaved import Times, machine, saved, table, timed
from cl_engine.nn import fast_linear

SIZES = [(128, 784, 256), (128, 256, 256), (128, 256, 10), (32, 784, 100), (32, 64, 64), (2000, 784, 256)]
SIDE_BY_SIDE = [(10, 16, 784, 100), (10, 16, 100, 100), (10, 16, 100, 10), (3, 64, 64, 64), (10, 128, 400, 400)]
OPERATIONS = 2_000_000_000  # for every time that is taken


def repeated(function: Callable[[], object], times: int) -> Callable[[], None]:
    def all_of_them() -> None:
        for _ in range(times):
            function()

    return all_of_them


def measured(rows: int, inside: int, outside: int, backward: bool) -> tuple[Times, int]:
    """Return the seconds of so many products by either library."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(inside, outside)
    x = torch.randn(rows, inside, requires_grad=backward)
    count = max(1, OPERATIONS // (6 if backward else 2) // (rows * inside * outside))

    def step(product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], None]:
        def forward() -> None:
            logits = product(x, layer.weight, layer.bias)
            if backward:
                torch.autograd.grad(logits, (x, layer.weight, layer.bias), logits)

        return repeated(forward, count)

    with torch.set_grad_enabled(backward):
        return timed({"torch's own": step(F.linear), "oneDNN": step(fast_linear._product)}), count


def side_by_side(seeds: int, rows: int, inside: int, outside: int) -> tuple[Times, int]:
    """Return the seconds of so many products of several nets under `torch.vmap`, forward and backward, as a fit leaves them.

    The gradients of weights are accumulated into the weights' own layout, those of a first layer's inputs are not asked for.
    """
    torch.manual_seed(0)
    x, weight = torch.randn(seeds, rows, inside), torch.randn(seeds, outside, inside, requires_grad=True)
    bias = torch.randn(seeds, outside, requires_grad=True)
    count = max(1, OPERATIONS // 4 // (seeds * rows * inside * outside))

    def step(product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], None]:
        every = torch.vmap(product)

        def both() -> None:
            logits = every(x, weight, bias)
            logits.backward(logits.detach())
            weight.grad = bias.grad = None

        return repeated(both, count)

    return timed({"torch's own": step(F.linear), "in the engine": step(fast_linear.linear)}), count


def main() -> None:
    print(f"torch {torch.__version__}, {machine()['cpu']}; oneDNN is chosen here: {fast_linear.by_onednn()}")
    results = {}
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        for size in SIZES:
            for backward in (False, True):
                times, count = measured(*size, backward)
                way = "forward and backward" if backward else "forward"
                title = f"{' × '.join(map(str, size))}, {way}, {threads} threads"
                results[title] = {"count": count, "seconds": times}
                print("\n" + "\n".join(table(title, times, count, "torch's own")), flush=True)
        for nets in SIDE_BY_SIDE:
            times, count = side_by_side(*nets)
            title = f"{' × '.join(map(str, nets))}, side by side, forward and backward, {threads} threads"
            results[title] = {"count": count, "seconds": times}
            print("\n" + "\n".join(table(title, times, count, "torch's own")), flush=True)
    saved("products", {"results": results})


if __name__ == "__main__":
    main()
