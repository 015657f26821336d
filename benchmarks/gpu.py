"""What only a GPU can say, in six minutes: is it right, how fast is it, what does it hold. `make gpu` runs it.

    PYTHONPATH=. python benchmarks/gpu.py             # on a GPU
    PYTHONPATH=. python benchmarks/gpu.py --pretend   # the same parts at the smallest sizes, on a GPU that is none; needs pytest

``--seconds 200`` gives it less time in all than 335 s. Nothing is fetched: rows are drawn, in the shapes of the sets they stand
for, and what needs a package that is not there is skipped, but for those that the engine itself needs. Each part has its time,
and what those before it have left over, and tells what it came to; what goes wrong in one is told in its row and keeps none of
the others from being run. The table comes last; the numbers are also in ``gpu.json`` under $OUT, or ``benchmarks/output/``,
written after every part.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu_graphs import recorded
from benchmarks.gpu_needs import PRETEND  # which says what is missing before the engine is imported
from benchmarks.gpu_steps import device, steps
from benchmarks.interleaved import machine
from benchmarks.shaped import SHAPED, answers, reason, scenario, short, timed_run
from cl_engine.core import gpu
from cl_engine.errors import RunFailed
from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.runs.determinism import deterministic, float32_products
from cl_engine.runs.scenario import Scenario
from cl_engine.training.seed_group import SeedGroup

Row = tuple[str, str]


def right(until: float) -> Iterator[Row]:
    """Every strategy: the CPU's answers within rounding; resumed, and by deterministic algorithms again, the same bits."""
    gaps, wrong, left_out = [], [], []
    for name in plugins.names("strategies"):
        if time.perf_counter() > until:
            left_out.append(name)
            continue
        try:
            experiment = short(name)
            with float32_products():
                here, there = answers(experiment, "cpu"), answers(experiment, gpu.KIND)
            gap = max(float((a - b).abs().max() / (1 + a.abs().max())) for a, b in zip(here, there, strict=True))
            with TemporaryDirectory() as folder, deterministic(asked=True):
                whole, again = answers(experiment, gpu.KIND), answers(experiment, gpu.KIND)
                resumed = answers(experiment, gpu.KIND, Path(folder) / "state")
            faults = [f"{gap:.1e} from the CPU"] * (gap > 1e-2)
            faults += ["differs again"] * any(not torch.equal(a, b) for a, b in zip(whole, again, strict=True))
            faults += ["differs resumed"] * any(not torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
            gaps.append(gap)
        except Exception as error:  # told, and the others are looked at
            faults = [reason(error)]
        wrong += [f"{name}: {'; '.join(faults)}"] * bool(faults)
    yield "strategies as on the CPU, resumed, again", f"{len(gaps)}; greatest gap {max(gaps, default=0):.1e}"
    yield "strategies that were not", "; ".join(wrong) or "none"
    yield "strategies without their turn", ", ".join(left_out) or "none"


def launched(until: float) -> Iterator[Row]:
    """Operations that a step launches, in the middle of a run, and how often it waits for the GPU; told by one that is none."""
    from cl_engine.testing.pretend_tensor import SEEN

    own, counted = SeedGroup._step, list[tuple[int, int]]()

    def step(group: SeedGroup, *given: Any) -> None:
        before, waits = SEEN.launched, sum(SEEN.waits.values())
        own(group, *given)
        counted.append((SEEN.launched - before, sum(SEEN.waits.values()) - waits))

    SeedGroup._step = step  # type: ignore[method-assign]
    try:
        for name in plugins.names("strategies"):
            counted.clear()
            try:
                if time.perf_counter() > until:
                    raise TimeoutError("no time left")
                answers(short(name), gpu.KIND)
                of_steps = [statistics.median(of_step) for of_step in zip(*counted, strict=True)]
                said = (
                    "{:.0f} operations, {:.0f} waits".format(*of_steps)
                    if of_steps
                    else "none: it computes what it learns"
                )
            except Exception as error:  # told, and the others are counted
                said = reason(error)
            yield f"{name}, a step", said
    finally:
        SeedGroup._step = own  # type: ignore[method-assign]


def whole(until: float) -> Iterator[Row]:
    """A whole run: permuted images, 100 tasks, 10 seeds; what it holds of the GPU."""
    tasks, seeds, rows = (3, 3, 500) if PRETEND else (100, 10, 60_000)
    source = f"{SHAPED}?rows={rows}&test_rows={rows // 6}"
    torch.cuda.reset_peak_memory_stats(device())
    experiment = Experiment.of(scenario(n=tasks, source=source), "finetune", tuple(range(seeds)))
    run = timed_run(experiment, until)
    yield f"permuted, {tasks} tasks, {seeds} seeds, {rows:,} rows each", f"{run.tasks} tasks in {run.seconds:.1f} s"
    held = ", ".join(f"{name} {size:,}" for name, size in run.memory.items())
    yield "bytes of the state of a seed, of the GPU in all", f"{held}; {torch.cuda.max_memory_reserved(device()):,}"


def many(until: float) -> Iterator[Row]:
    """A test of all of a thousand tasks."""
    tasks = 20 if PRETEND else 1000
    small = scenario(n=tasks, source=f"{SHAPED}?rows=100&test_rows=100", setting="task")
    run = timed_run(Experiment.of(small, "independent", (0,), **{"net.hidden": [64]}), until)
    yield f"{tasks} tasks learned, all tested", f"{run.tasks} in {run.seconds:.1f} s; test {run.tested:.2f} s"


def full(until: float) -> Iterator[Row]:
    """Memory that is used up is told in a sentence."""
    if PRETEND:
        from cl_engine.testing.pretend_tensor import SEEN

        SEEN.full_after = SEEN.launched + 500
    else:
        torch.cuda.empty_cache()
        # less than the weights of ten seeds, whatever the card has
        torch.cuda.set_per_process_memory_fraction(2**24 / torch.cuda.get_device_properties(device()).total_memory)
    with TemporaryDirectory() as folder:
        try:
            wide = Experiment.of(
                scenario(n=2, source=f"{SHAPED}?rows=2000&test_rows=100"), "finetune", tuple(range(10))
            )
            wide.run(Path(folder) / "run", device=gpu.KIND)
            yield "memory used up", "it was not"
        except RunFailed as error:
            yield "memory used up", str(error)[:120]
        finally:
            if PRETEND:
                SEEN.full_after = None
            else:
                torch.cuda.set_per_process_memory_fraction(1.0)


def modular(until: float) -> Iterator[Row]:
    """Paths tried for every task: MNTDP-D with the modular ResNet, tasks of the sizes of CTrL, as many as there is time for."""
    rows, epochs = (40, 1) if PRETEND else (4000, 30)
    source = f"{SHAPED}?rows={5 * rows}&test_rows=1000&side=32&channels=3"
    tables = {
        "stream": {"name": "split", "source": source, "n": 5, "validation": 0.2},
        "net": {"name": "modular_resnet"},
        "train": {"epochs": epochs, "batch": 32, "optimizer": "adam", "lr": 0.001},
        "agenda": {"evaluate_every": 0, "evaluate_ahead": 0},
    }
    own = {"lrs": [0.001], "weight_decays": [0.0], **({"net.width": 4} if PRETEND else {})}
    run = timed_run(Experiment.of(Scenario.of("paths", tables), "mntdp", (0,), **own), until)
    yield (
        f"mntdp, {rows} rows a task, {epochs} epochs a path",
        f"{run.tasks} of 5 tasks, {run.epochs} epochs, {run.seconds:.1f} s",
    )


def beside(until: float) -> Iterator[Row]:
    """Avalanche's `Naive` on the same tasks, one seed, tensors in memory."""
    what = "Avalanche Naive, permuted, 1 seed"
    if importlib.util.find_spec("avalanche") is None:
        yield what, "skipped: avalanche-lib is not installed"
        return
    from benchmarks.gpu_avalanche import naive

    tasks, rows = (1, 200) if PRETEND else (3, 60_000)
    source = f"{SHAPED}?rows={rows}&test_rows={rows // 6}"
    learned, seconds = naive(
        Experiment.of(scenario(n=tasks, source=source), "finetune", (0,)).stream(), device(), until
    )
    yield what, f"{learned} tasks learned in {seconds:.1f} s, {rows:,} rows each"


PARTS: dict[Callable[[float], Iterator[Row]], float] = {
    **({launched: 40} if PRETEND else {}),
    **{right: 95, recorded: 30, steps: 80, whole: 60, beside: 10, many: 25, modular: 25, full: 10},
}


def main() -> None:
    began, results, ends = time.perf_counter(), dict[str, str](), 0.0
    place = Path(os.environ.get("OUT") or Path(__file__).parent / "output")
    shares = sum(PARTS.values())
    given = shares * (10 if PRETEND else 1)
    if "--seconds" in sys.argv:
        given = float(sys.argv[sys.argv.index("--seconds") + 1])
    for part, seconds in PARTS.items():
        print(f"== {part.__doc__}", flush=True)
        started, ends = time.perf_counter(), ends + seconds * given / shares
        try:
            for what, found in part(began + ends):
                results[what] = found
                print(f"{what:<60} {found}", flush=True)
        except Exception as error:  # told, and the other parts are run
            results[part.__name__] = f"{type(error).__name__}: {str(error)[:200]}"
            print(results[part.__name__], flush=True)
        print(f"   {time.perf_counter() - started:.0f} s", flush=True)
        name = "gpu_pretended.json" if PRETEND else "gpu.json"
        (place / name).write_text(
            json.dumps({"machine": machine(), "results": results}, indent=1, ensure_ascii=False) + "\n"
        )
    print(f"\ntorch {torch.__version__}, {machine()['gpu']}: {time.perf_counter() - began:.0f} s")
    for what, found in results.items():
        print(f"| {what} | {found} |")


if __name__ == "__main__":
    if PRETEND:
        from cl_engine.testing import pretend_gpu

        pretend_gpu.install()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here: --pretend tries the script on one that is none")
    main()
