"""What is done on a GPU is done as on the CPU: run by `tests/test_gpu.py` in a process with a pretend GPU, and on a real one.

Each case is the smallest that takes a path of its own; strategies are held to the rest by their contract.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.checkpoints.store import Store, saved
from cl_engine.core import gpu
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import RunFailed, UsageError
from cl_engine.estimate import check_experiment, need
from cl_engine.events import Event, Saved
from cl_engine.experiment import Experiment
from cl_engine.modules.side_tasks import computed
from cl_engine.nn import batching
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.data_root import DataRoot
from cl_engine.runs.signals import Stopped
from cl_engine.sweep.capacity import slots
from cl_engine.sweep.config import ResourceOptions
from cl_engine.testing import small
from cl_engine.testing.devices import SHORT, moved, whole
from cl_engine.testing.pretend_tensor import SEEN
from cl_engine.training.seed_group import SeedGroup
from tests.conftest import TINY

PICTURES = {"net.name": f"{small.__name__}:with_batchnorm", "net.hidden": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "products in bfloat16": ("finetune", {"train.precision": "bfloat16"}),
    "images moved and mirrored": ("finetune", {"train.crop": 1, "train.flip": 0.5}),
    "rehearsed images moved and mirrored": ("replay", {"train.crop": 1}),
    "convolutions with statistics": ("finetune", PICTURES),
    "a net that draws": ("finetune", {"net.name": f"{small.__name__}:with_dropout", "net.hidden": 8}),
    "momentum, and rates that change": (
        "finetune",
        {"train.optimizer": "sgd", "train.momentum": 0.9, "train.schedule": "cosine", "train.milestones": [1]},
    ),
    "rates by step, clipped, averaged": (
        "finetune",
        {"train.schedule": "one_cycle", "train.warmup": 0.5, "train.clip_norm": 1.0, "train.ema": 0.9},
    ),
    "images transformed": ("finetune", {"train.transforms": ["random_horizontal_flip", "random_erasing"]}),
    "an optimiser that is not fused": ("finetune", {"train.optimizer": "rmsprop"}),
    "an optimiser that goes on": ("finetune", {"train.keep_optimizer": True}),
    "validation rows": ("independent", {"stream.validation": 0.25}),
    "seeds with tasks of their own": ("finetune", {"stream.per_seed": True}),
    "online scores": ("finetune", {"agenda.online": True}),
    "batches that are merged": ("finetune", {"train.batch": 7, "train.leftover": "merge"}),
}


def test_on_a_gpu_every_upkeep_does_what_it_does_on_the_cpu(tmp_path: Path):
    for name in plugins.names("upkeep"):
        assert_same("finetune", {"train.upkeep": name}, tmp_path / name)


@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu_the_options_of_a_scenario_do_what_they_do_on_the_cpu(case: str, tmp_path: Path):
    assert_same(*CASES[case], tmp_path)


def assert_same(strategy: str, options: dict[str, Any], folder: Path, seeds: tuple[int, ...] = (0, 1)) -> None:
    # seeds side by side round otherwise than in turn
    most = 0.2 if options.get("train.precision") == "bfloat16" else 0.02
    folder.mkdir(exist_ok=True)
    experiment = Experiment.of(TINY, strategy, seeds, **{**SHORT, **options})
    for there, here in zip(moved(experiment, gpu.KIND, folder), whole(experiment), strict=True):
        torch.testing.assert_close(there, here, rtol=most, atol=most)


def test_on_a_gpu_every_label_function_asks_what_it_asks_on_the_cpu():
    stream = Experiment.of(TINY, "finetune", (0,)).stream()
    x, asked = stream[0].train.x[:8], 0
    for name in plugins.names("labels"):
        with suppress(UsageError):  # of inputs that it has no answer for
            here = computed(name, DataRoot(Path("nowhere")), x, 0)
            there = computed(name, DataRoot(Path("nowhere")), x.to(gpu.KIND), 0)
            assert {there.x.device.type, there.y.device.type} == {gpu.KIND}
            torch.testing.assert_close((there.x.cpu(), there.y.cpu()), (here.x, here.y))
            asked += 1
    assert asked > 5


def test_on_a_gpu_every_target_is_learned_and_measured_as_on_the_cpu(tmp_path: Path):
    experiment = Experiment.of(TINY.with_name("views.toml"), "joint", (0,), **{"agenda.evaluate_ahead": 0})
    there = open_run(experiment.run(tmp_path / "there", device=gpu.KIND)).results["score"]
    here = open_run(experiment.run(tmp_path / "here", device="cpu")).results["score"]
    np.testing.assert_allclose(there, here, atol=0.05)


@pytest.mark.parametrize("mix", ["kernels", "outputs"])
def test_on_a_gpu_mixed_blocks_are_of_one_type_where_products_are_in_bfloat16(mix: str, tmp_path: Path):
    net = {"net.name": "isometric", "net.width": 4, "net.steps": 2, "net.patch": 8, "net.kernel": 1}
    options = {**net, "train.precision": "bfloat16", "train.epochs": 1, "mix": mix, "joint": 1, "rows": 10}
    assert_same("compose", options, tmp_path)


@pytest.mark.parametrize("name", ["DER", "GDumb", "ICaRL", "JointTraining", "SynapticIntelligence"])
def test_on_a_gpu_guests_keep_on_the_cpu_what_they_keep_there(name: str, tmp_path: Path):
    guests = pytest.importorskip("tests.test_avalanche_guests").GUESTS
    setting = {"stream.name": "split", "stream.setting": "class", "agenda.curve_epochs": 0}
    assert_same(f"avalanche:{name}", {**setting, **guests[name], "train.optimizer": "sgd"}, tmp_path)


def test_on_a_gpu_a_checkpoint_that_does_not_fit_its_memory_is_not_said_to_be_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    experiment = Experiment.of(TINY, "finetune", (0,), **SHORT)
    store = Store(tmp_path / "state")
    stream = experiment.stream(gpu.KIND)
    how: dict[str, Any] = {"save_to": store, "save_every_epochs": 1, "save_share": 1.0}
    for event in simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda), **how):
        if isinstance(event, Saved) and event.midway:
            break
    for allowed in (0, 10, 20):  # of the state, and of what was saved in the middle of an experience
        monkeypatch.setattr(SEEN, "full_after", SEEN.launched + allowed)
        with pytest.raises(torch.OutOfMemoryError):
            saved(store, stream.device)
    monkeypatch.setattr(SEEN, "full_after", None)
    found = saved(store, stream.device)
    assert found is not None
    assert found["midway"] is not None


def test_on_a_gpu_seeds_whose_steps_would_take_too_much_of_it_train_in_groups(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level("INFO", "cl_engine")
    monkeypatch.setattr(batching, "STEP_BYTES", 1 << 15)
    assert_same("replay", {"train.batch": 16}, tmp_path)
    assert "2 seeds train in 2 groups" in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_on_a_gpu_whose_memory_is_full_a_run_and_its_check_end_in_a_sentence(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    experiment = Experiment.of(TINY, "finetune", (0, 1), **SHORT)
    before = SEEN.launched
    need(experiment, gpu.KIND, None)
    whole = SEEN.launched - before
    monkeypatch.setattr(SEEN, "full_after", SEEN.launched + int(share * whole))
    for attempt in (
        lambda: check_experiment(experiment, gpu.KIND, None),
        lambda: experiment.run(tmp_path, device=gpu.KIND),
    ):
        with pytest.raises(RunFailed, match=r"the GPU is out of memory: lower train\.batch, now 20"):
            attempt()


def test_on_a_gpu_a_run_stopped_there_goes_on_on_the_cpu_and_back(tmp_path: Path):
    experiment = Experiment.of(TINY, "replay", (0, 1), **SHORT)

    def until(step: int) -> Callable[[Any], list[Callable[[Event], None]]]:
        def listener(event: Event) -> None:
            if event.step >= step and isinstance(event, Saved):
                raise Stopped(signal.SIGTERM)

        return lambda stream: [listener]

    for device, step in ((gpu.KIND, 0), ("cpu", 1), (gpu.KIND, 9)):
        try:
            experiment.run(tmp_path, device=device, listeners=until(step))
        except Stopped:
            assert step < 9
    log = open_run(tmp_path)
    assert log.status == "finished"
    assert "TF32" in log.environment["determinism"]


def test_on_a_gpu_a_benchmark_of_avalanche_is_learned_by_a_strategy_of_this_engine():
    pytest.importorskip("avalanche")
    from cl_engine.interop.avalanche import as_avalanche, to_avalanche
    from cl_engine.interop.lazy_import import quietly

    def right(device: str) -> list[float]:
        options = {"stream.setting": "class", "stream.name": "split", "stream.n": 2}
        benchmark = to_avalanche(Experiment.of(TINY, "finetune", (0,), **options).stream())
        how: dict[str, Any] = {"net": {"name": "mlp", "hidden": [12]}, "train": {"epochs": 1, "batch": 20, "lr": 0.05}}
        with quietly():
            learner = as_avalanche("replay", benchmark=benchmark, device=device, evaluator=None, **how)
            for experience in benchmark.train_stream:
                learner.train(experience)
            learner.eval(benchmark.test_stream)
            x = torch.stack([row[0] for row in benchmark.test_stream[0].dataset])
            return learner.model(x.to(device)).cpu().tolist()

    torch.testing.assert_close(right(gpu.KIND), right("cpu"), rtol=1e-3, atol=1e-4)


def test_on_a_gpu_a_sweep_gives_each_process_its_own_and_counts_the_memory_of_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    resources = ResourceOptions(memory=0.001)
    assert slots(resources, "auto", {"a": {"gpu": 10e9}}).devices == ("0", "1")
    assert slots(resources, "cuda:1", {}).devices == ("1",)
    with pytest.raises(UsageError, match="there is no 'cuda:7' here: torch sees 2 GPUs"):
        slots(resources, "cuda:7", {})


@pytest.mark.parametrize("rounding", [True, False])
def test_on_a_gpu_a_spot_check_is_repeated_before_it_ends_a_run(
    rounding: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    experiment = Experiment.of(TINY, "finetune", (0,), **{"train.lr": 0.1, "train.epochs": 5})
    stream = experiment.stream(gpu.KIND)
    strategy, calls = experiment.build_strategy(stream), itertools.count()
    predict = strategy.predict
    monkeypatch.setattr(strategy, "fingerprint", lambda task_id: 0)
    if rounding:  # as coarse as no GPU's: other rows are right every time
        monkeypatch.setattr(strategy, "predict", lambda x, task: predict(x, task).roll(next(calls), dims=-1))
    with nullcontext() if rounding else pytest.raises(RunFailed, match="the fingerprint of before"):
        for _ in simulate(stream, strategy, plan(stream, experiment.agenda), spot_checks=1.0):
            pass
    assert ("is answered otherwise each time it is asked" in caplog.text) == rounding


@pytest.mark.parametrize(
    ("strategy", "options", "names"),
    [("hat", {}, {"index", "number 0"}), ("replay", {"train.crop": 1}, {"index", "rehearsed", "changes"})],
)
def test_on_a_gpu_all_that_changes_from_step_to_step_is_there(
    strategy: str, options: dict[str, Any], names: set[str], monkeypatch: pytest.MonkeyPatch
):
    own, seen = SeedGroup._step, set()

    def step(group: SeedGroup, given: Mapping[str, torch.Tensor], *more: Any) -> None:
        seen.update((name, tensor.device.type) for name, tensor in given.items())
        own(group, given, *more)

    monkeypatch.setattr(SeedGroup, "_step", step)
    experiment = Experiment.of(TINY, strategy, (0, 1), **{**SHORT, **options})
    stream = experiment.stream(gpu.KIND)
    for _ in simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda)):
        pass
    assert seen >= {(name, gpu.KIND) for name in names}
    assert {kind for _, kind in seen} == {gpu.KIND}
