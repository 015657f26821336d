"""What a run on a GPU does around its steps, and steps recorded there: run as `tests/gpu_cases.py` is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_engine.core import gpu
from cl_engine.core.state import Memory
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.estimate import need
from cl_engine.events import TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.modules.similarity import groups_of
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.streams.radio import Radio
from cl_engine.sweep import run_job
from cl_engine.sweep.backend import Job
from cl_engine.sweep.combinations import told
from cl_engine.targets.numbers import Numbers
from cl_engine.testing.devices import SHORT, answers_of
from cl_engine.testing.pretend_tensor import SEEN
from cl_engine.training import cuda_graphs
from tests import recording
from tests.conftest import TINY
from tests.gpu_cases import assert_same


def learned(experiment: Experiment) -> list[torch.Tensor]:
    """Return the answers after a run on the GPU."""
    stream = experiment.stream(gpu.KIND)
    strategy = experiment.build_strategy(stream)
    for _ in simulate(stream, strategy, plan(stream, experiment.agenda)):
        pass
    return [answer.cpu() for answer in answers_of(stream, strategy)]


def test_on_a_gpu_what_learning_took_is_told_when_all_that_was_launched_is_done(monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *device: order.append("waited"))
    experiment = Experiment.of(TINY, "finetune", (0,), **SHORT)
    stream = experiment.stream(gpu.KIND)
    for event in simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda)):
        if isinstance(event, TaskLearned):
            assert order.pop() == "waited"


def test_on_a_gpu_a_job_counts_its_own_memory_what_is_held_between_tensors_too_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []
    for name in ("empty_cache", "reset_peak_memory_stats", "max_memory_reserved"):
        own: Callable[..., Any] = getattr(torch.cuda, name)
        noted = lambda *device, own=own, name=name: (calls.append(name), own(*device))[1]  # noqa: E731
        monkeypatch.setattr(torch.cuda, name, noted)
    experiment = Experiment.of(TINY, "finetune", (0,), **SHORT)
    assert need(experiment, gpu.KIND, None).gpu == 2 * torch.cuda.max_memory_allocated()
    assert calls == ["empty_cache", "reset_peak_memory_stats", "max_memory_reserved"]
    (tmp_path / "one").mkdir()
    monkeypatch.setattr(run_job, "_seen", lambda job: True)
    outcome = run_job.run_job(Job("one", str(tmp_path), "", told(experiment), device=gpu.KIND))
    assert outcome.said == "finished"
    assert calls[-1] == "empty_cache"


def test_on_a_gpu_what_a_first_state_has_on_the_cpu_is_known_again_where_a_run_goes_on():
    first = {"counts": torch.zeros(1, 0), "drawn": torch.ones(1, 3)}
    later = {"counts": torch.ones(1, 2, device=gpu.KIND), "drawn": torch.ones(1, 3, device=gpu.KIND)}
    assert Memory(first).by_part(later) == ({"counts": 8}, {"drawn": 12})


def test_on_a_gpu_skills_that_never_leave_it_are_encoded_and_compared_there():
    answers = learned(Experiment.of(TINY, "skill_recall", (0,), **{**SHORT, "stream.n": 3}))
    assert all(bool(answer.isfinite().all()) for answer in answers)


def test_on_a_gpu_tokens_that_fill_up_a_sentence_are_not_looked_at():
    tokens, said = torch.tensor([[1, 2, 0, 0], [3, 4, 5, 6]]), []
    for device in (gpu.KIND, "cpu"):
        build = plugins.net_builder("transformer", {"width": 8, "layers": 1}, (4,), 3, vocabulary=9)
        net = Net(build, (4,), vocabulary=9, device=device)
        said.append(net.all(net.init([0]), tokens.to(device)).cpu())
    torch.testing.assert_close(*said, rtol=1e-4, atol=1e-5)


def test_on_a_gpu_groups_of_numbers_are_those_of_the_cpu():
    target, y = Numbers.of(numbers=2), torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    assert groups_of(target, y.to(gpu.KIND)).tolist() == groups_of(target, y).tolist()


def test_on_a_gpu_a_net_that_draws_seeds_no_other_gpu_and_leaves_generators_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
):
    def refused(*given: Any) -> None:
        raise AssertionError("the generators of all GPUs are seeded")

    monkeypatch.setattr(torch, "manual_seed", refused)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", refused)
    torch.cuda.manual_seed(5)
    before = torch.cuda.get_rng_state().clone(), torch.get_rng_state()
    net = {"net.name": "cl_engine.testing.small:with_dropout", "net.hidden": 8}
    learned(Experiment.of(TINY, "finetune", (0, 1), **SHORT, **net))
    assert torch.equal(torch.cuda.get_rng_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_on_a_gpu_and_on_the_cpu_weights_whose_first_gradient_comes_late_have_a_momentum(tmp_path: Path):
    options = {"train.optimizer": "sgd", "train.momentum": 0.9, "train.lr": 0.05, "stream.validation": 0.25}
    assert_same("mntdp_s", options, tmp_path)


def test_on_a_gpu_the_path_that_a_search_chose_is_learned_by_replays_and_the_search_says_why_it_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    if gpu.KIND == "cuda":
        pytest.skip("waits are counted by a GPU that is pretended")
    experiment = Experiment.of(TINY, "mntdp_s", (0, 1), **{**SHORT, "train.epochs": 4, "train.batch": 10})
    plain, found = learned(experiment), []

    def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
        waits = SEEN.waits.total()
        replay = recording.recorded(step)
        if SEEN.waits.total() > waits:  # which a stream that is captured does not stand
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda: (found.append(device), replay())[1]

    monkeypatch.setenv(cuda_graphs.SWITCH, "1")
    monkeypatch.setattr(cuda_graphs, "LEAST", 1)
    monkeypatch.setattr(cuda_graphs, "_SAID", set())
    monkeypatch.setattr(cuda_graphs, "recorded", recorded)
    monkeypatch.setattr(cuda_graphs, "aside", lambda device: nullcontext())  # there are no streams here
    monkeypatch.setattr(recording, "refuse_to_wait", lambda func, args: None)  # numbers of the host may be read
    torch.testing.assert_close(learned(experiment), plain)
    assert caplog.text.count("cannot be recorded (operation not permitted when stream is capturing)") == 1
    assert len(found) > 20


def test_on_a_gpu_labels_that_are_drawn_anew_are_those_of_the_cpu():
    streams = [Radio(frames=16, test_frames=16, noise=[0.5] * 4, device=device) for device in (gpu.KIND, "cpu")]
    there, here = (stream[1].train.y for stream in streams)
    assert there.device.type == gpu.KIND
    assert torch.equal(there.cpu(), here)
