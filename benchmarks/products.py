"""What the products of linear layers take by torch's own choice of library and by oneDNN, forward and backward.

    PYTHONPATH=. python benchmarks/products.py | tee benchmarks/output/products.txt

The sizes are those of the nets that other benchmarks train, at 1 thread and at all of them. `cl_engine.nn.fast_linear` follows
from it: which processors, and from how many multiplications on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.interleaved import Times, machine, saved, table, timed
from cl_engine.nn import fast_linear

SIZES = [(128, 784, 256), (128, 256, 256), (128, 256, 10), (32, 784, 100), (32, 64, 64), (2000, 784, 256)]
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
    saved("products", {"results": results})


if __name__ == "__main__":
    main()
