"""Avalanche's benchmarks as our streams, and our streams as its benchmarks."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms

from cl_engine.data.augmentation import Augmentation
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.interop.benchmark_stream import from_avalanche
from cl_engine.interop.offline import offline
from cl_engine.interop.rows import dataset_of
from cl_engine.interop.tensor_benchmark import to_avalanche
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.scenario import Scenario
from cl_engine.testing import small
from tests import avalanche_of_users as users
from tests.conftest import TINY

USERS = "tests.avalanche_of_users"
Tiny = Callable[..., Experiment]


@pytest.fixture(autouse=True)
def _same_global_random_state() -> Iterator[None]:
    before, numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy, np.random.get_state()[1])  # noqa: NPY002


def scenario(**stream: Any) -> Scenario:
    tables = {"stream": {"name": "avalanche", **stream}, "net": {"name": "mlp", "hidden": [8]}, "train": {"batch": 20}}
    return Scenario.of("guest", tables)


def test_a_stream_that_withholds_labels_is_no_benchmark():
    with pytest.raises(UsageError, match=r"stream.unlabelled: rows of an Avalanche benchmark have labels throughout"):
        to_avalanche(Experiment.of(TINY, "compose", **{"stream.unlabelled": [1]}).stream())


def test_experiences_hold_the_benchmarks_rows_in_its_order():
    benchmark = users.split_digits()
    stream = from_avalanche(benchmark)
    for step, theirs in enumerate(benchmark.train_stream):
        rows = [theirs.dataset[k] for k in range(len(theirs.dataset))]
        classes = sorted({y for _, y, _ in rows})
        assert torch.equal(stream[step].train.x, torch.stack([x for x, _, _ in rows]))
        assert [stream.labels[step][int(y)] for _, y, _ in rows] == stream[step].train.y.tolist()
        assert stream[step].classes == len(classes) == 2


@pytest.mark.parametrize(
    ("benchmark", "setting", "outputs"),
    [
        (users.split_digits, "class", 10),
        (lambda: users.split_digits(task_labels=True), "task", 2),
        (users.instances_of_digits, "domain", 10),
    ],
)
def test_the_setting_is_recognised_from_labels(benchmark: Callable[[], Any], setting: str, outputs: int):
    stream = from_avalanche(benchmark())
    assert (stream.setting, stream.outputs) == (setting, outputs)


def test_an_ambiguous_benchmark_is_asked_about_in_one_sentence():
    with pytest.raises(UsageError, match=r"stream.setting is missing: the experiences share some classes"):
        from_avalanche(users.shared_digits())
    assert from_avalanche(users.shared_digits(), setting="class").outputs == 3
    assert from_avalanche(users.shared_digits(), setting="domain").outputs == 2
    with pytest.raises(UsageError, match="mix rows of several task labels"):
        from_avalanche(users.mixed_digits())
    with pytest.raises(UsageError, match="mix rows of several task labels"):
        from_avalanche(users.mixed_digits(), setting="task")


def test_a_task_label_that_comes_back_is_the_same_task():
    stream = from_avalanche(users.repeated_digits())
    assert [stream.task_id(step) for step in range(3)] == [0, 1, 0]
    assert (stream.n_tasks, stream.n_steps, stream.setting) == (2, 3, "task")
    assert stream.classes == [[0, 1, 2], [5, 6]]
    assert stream[2].train.y.unique().tolist() == [1, 2]
    assert stream.test(0).y.unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize("boundaries", [True, False])
@pytest.mark.parametrize("kept", [("train_online", "original_train", "original_test"), ("train_online", "test")])
def test_an_online_stream_comes_in_as_it_is(boundaries: bool, kept: tuple[str, ...]):
    whole = users.split_digits()
    pieces = users.online(whole, 20, access_task_boundaries=boundaries)
    streams = {"train_online": pieces, "original_train": whole.train_stream}
    streams |= {"original_test": whole.test_stream, "test": whole.test_stream}
    stream = from_avalanche(users.scenario({name: streams[name] for name in kept}))
    ids = [stream.task_id(step) for step in range(stream.n_steps)]
    assert (stream.setting, stream.n_tasks, stream.outputs, sorted(set(ids))) == ("class", 5, 10, list(range(5)))
    assert ids == sorted(ids)
    assert len(ids) > 5
    for step, piece in enumerate(pieces):
        assert stream[step].train.y.tolist() == [int(label) for label in piece.dataset.targets]
        assert stream[step].classes == 2
    plain = from_avalanche(whole)
    assert all(torch.equal(stream.test(task).x, plain.test(task).x) for task in range(5))


def test_a_stream_that_mixes_tasks_is_learned_with_global_labels_and_refused_with_others():
    whole = users.split_digits()
    pieces = users.drifting(whole, 20, 4)
    mixed = users.scenario({"train": pieces, "test": whole.test_stream})
    stream = from_avalanche(mixed)
    assert (stream.setting, stream.n_tasks, stream.outputs, stream.n_steps) == ("class", 5, 10, 20)
    assert any(len(stream[step].train.y.unique()) > 2 for step in range(20))
    for setting, sentence in {"task": "mix rows of several task labels", "domain": "have labels of their own"}.items():
        with pytest.raises(UsageError, match=sentence):
            from_avalanche(mixed, setting=setting)
    with pytest.raises(UsageError, match="do not say what they were cut from"):
        from_avalanche(users.scenario({"train": pieces, "test": whole.test_stream[:1]}))


def test_inputs_whose_shape_changes_are_refused_in_a_sentence():
    x, y = users.digits(slice(0, 100)).tensors
    parts = [dataset_of(x[:50], y[:50], 0), dataset_of(x[50:, :, 1:], y[50:], 1)]
    with pytest.raises(UsageError, match=r"have shape \(1, 8, 8\) in one experience and \(1, 7, 8\) in another"):
        from_avalanche(users.benchmark_from_datasets(train=parts, test=parts))


def test_a_benchmark_gets_each_of_its_data_roots_and_a_seed_only_where_it_takes_one(tmp_path: Path):
    users.GIVEN.clear()
    for name in ("two_roots", "no_seed"):
        Experiment.of(scenario(benchmark=f"{USERS}:{name}", seed=3), "finetune").stream(data_root=tmp_path)
    assert [(str(tmp_path), str(tmp_path)), None] == users.GIVEN
    with pytest.raises(UsageError, match=r"cannot be made with seed = 3: no seed, please"):
        Experiment.of(scenario(benchmark=f"{USERS}:always_odd", seed=3), "finetune").stream(data_root=tmp_path)


def test_crops_inside_of_what_is_composed_are_found():
    usual = [transforms.Compose([transforms.Compose([transforms.RandomCrop(8, padding=2)])])]
    stream = from_avalanche(users.pictured_digits(usual, [transforms.ToTensor()]))
    assert stream.augmentation == Augmentation(crop=2)


def test_one_test_set_for_all_is_tested_by_the_classes_of_each_task():
    stream = from_avalanche(users.instances_of_digits())
    assert [len(stream.test(task)) for task in range(3)] == [200, 200, 200]


def test_samples_validation_order_and_return_are_ours_to_choose():
    benchmark = users.split_digits()
    stream = from_avalanche(
        benchmark,
        samples_per_class=10,
        test_samples_per_class=4,
        validation=0.3,
        task_order=[2, 0, 1, 4, 3],
        revisit=[1],
    )
    first = stream[0]
    assert (len(first.train), len(first.validation), len(stream.test(0))) == (14, 6, 8)
    assert first.rng_key == 2
    assert stream.n_steps == 6
    assert stream.task_id(5) == 2
    rows = {tuple(x.flatten().tolist()) for x in first.train.x}
    assert not rows & {tuple(x.flatten().tolist()) for x in first.validation.x}
    plain = from_avalanche(benchmark, samples_per_class=10, validation=0.3)
    assert torch.equal(plain[2].train.x, first.train.x)
    assert torch.equal(stream[0].train.x, stream[0].train.x)
    assert from_avalanche(benchmark, n=2).n_steps == 2


def test_random_transformations_stay_random_are_left_out_or_drawn_once_as_asked():
    benchmark = users.noisy_digits()
    kept = from_avalanche(benchmark)[0].train
    assert kept.resample is not None
    assert torch.equal(kept.resample(3), kept.resample(3))
    assert not torch.equal(kept.resample(3), kept.resample(4))
    assert kept.resample(3).shape == kept.x.shape
    raw = from_avalanche(users.split_digits())[0].train.x
    shown = from_avalanche(benchmark, random_transforms="eval")[0].train
    assert torch.equal(shown.x, 2 * raw)
    assert torch.equal(kept.x, 2 * raw)  # what a memory of past rows would keep
    assert shown.resample is None
    once = from_avalanche(benchmark, random_transforms="once")
    assert torch.equal(once[0].train.x, once[0].train.x)
    assert not torch.equal(once[0].train.x, raw)
    other = from_avalanche(benchmark, random_transforms="once", seed=1)
    assert not torch.equal(once[0].train.x, other[0].train.x)


def test_crops_and_mirror_images_are_done_to_batches_where_that_is_what_the_transformations_do():
    usual = [transforms.RandomCrop(8, padding=2), transforms.RandomHorizontalFlip(0.3)]
    plain = [transforms.ToTensor(), transforms.Normalize((0.5,), (0.25,))]
    stream = from_avalanche(users.pictured_digits(usual, plain))
    assert stream.augmentation == Augmentation(crop=2, flip=0.3)
    assert stream.pad_value == (-2.0,)
    assert stream[0].train.resample is None
    assert "crop 2" in str(stream.describe()["random transformations"])


@pytest.mark.parametrize(
    "odd",
    [
        [transforms.RandomCrop(8, padding=2, fill=255)],
        [transforms.RandomCrop(8, padding=2, padding_mode="reflect")],
        [transforms.RandomHorizontalFlip(), transforms.RandomRotation(20)],
        [transforms.Pad(1), transforms.RandomCrop(8)],
        [transforms.RandomHorizontalFlip(), transforms.RandomGrayscale(0.001)],
        [transforms.RandomApply([transforms.RandomCrop(8, padding=2)], p=0.5)],
    ],
    ids=["white", "reflected", "rotated", "padded before", "hardly ever grey", "now and then"],
)
def test_other_random_transformations_are_drawn_anew_row_by_row(odd: list[Any]):
    stream = from_avalanche(users.pictured_digits(odd, [transforms.ToTensor()]))
    assert not stream.augmentation
    assert stream[0].train.resample is not None


def test_a_benchmark_of_the_users_own_runs_from_a_scenario_with_its_arguments(tmp_path: Path):
    found = scenario(benchmark=f"{USERS}:split_digits", n_experiences=2, seed=3)
    run = open_run(Experiment.of(found, "finetune").run(tmp_path / "run"))
    assert run.status == "finished"
    assert run.results.sizes["task"] == 2
    assert '"benchmark": "tests.avalanche_of_users:split_digits"' in run.environment["data"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"benchmark": "SplitMNST"},
            "no benchmark in avalanche.benchmarks.classic named 'SplitMNST' .did you mean 'SplitMNIST'",
        ),
        ({"benchmark": "SplitMNIST"}, "stream.n_experiences is missing"),
        ({"benchmark": "SplitMNIST", "n_experience": 5}, "did you mean 'n_experiences'"),
        ({"benchmark": "SplitMNIST", "n": 3}, "cannot be made with .*n_experiences = 3|wants to download"),
        ({"benchmark": f"{USERS}:nothing"}, "cannot be imported"),
        ({"benchmark": f"{USERS}:not_a_benchmark"}, "is no benchmark with a train and a test stream"),
        ({"benchmark": f"{USERS}:split_digits", "samples_per_class": 0}, "samples_per_class"),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_said_in_a_sentence(options: dict[str, Any], sentence: str, tmp_path: Path):
    with pytest.raises(UsageError, match=sentence):
        Experiment.of(scenario(**options), "finetune").stream(data_root=tmp_path)


X, Y = torch.zeros(6, 1, 2, 2), torch.tensor([0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        ((X, Y), None, "no benchmark with a train and a test stream; its streams are: train$"),
        ((X[:0], Y[:0]), (X, Y), "experience 1 of the train stream .* has no rows"),
        ((X, Y), (X, Y + 10), "no test rows of task 1, whose classes are 0, 1$"),
        ((X[:, 0, 0, 0], Y), (X, Y), r"in one experience and \(\) in another: bring them to one"),
        ((X[:, :, :1], Y), (X, Y), r"have shape \(1, 2, 2\) in one experience and \(1, 1, 2\) in another"),
        ((X * 1j, Y), (X, Y), "inputs of type torch.complex64; real numbers are needed"),
        ((X + float("nan"), Y), (X, Y), "inputs that are not finite numbers"),
        ((X.double() + 1e300, Y), (X, Y), "inputs that are not finite numbers, or too large for float32"),
        ((X.long() + 2**24 + 1, Y), (X, Y), "whole numbers up to 16777217 as inputs; float32 tells them apart up to"),
        ((X, Y + 0.5), (X, Y), "labels must be whole numbers, found 0.5"),
        ((X, Y * float("nan")), (X, Y), "labels must be whole numbers, found nan"),
    ],
)
def test_a_benchmark_that_own_sources_would_be_refused_for_is_refused_too(train: Any, test: Any, sentence: str):
    benchmark = users.of_tensors([(X, Y), train], None if test is None else [(X, Y), test])
    with pytest.raises(UsageError, match=sentence):
        from_avalanche(benchmark, setting="domain")


def test_inputs_that_are_no_numbers_are_refused_when_their_experience_comes():
    odd = X.clone()
    odd[3] = float("inf")
    with pytest.raises(UsageError, match="not finite numbers"):
        from_avalanche(users.of_tensors([(odd, Y)], [(X, Y)]), setting="domain")[0]


def test_a_single_number_a_row_is_refused():
    with pytest.raises(UsageError, match="must be numbers along at least one axis"):
        from_avalanche(users.of_tensors([(X[:, 0, 0, 0], Y)], [(X[:, 0, 0, 0], Y)]))


def test_data_that_are_not_there_are_not_downloaded(tmp_path: Path):
    experiment = Experiment.of(scenario(benchmark="SplitFMNIST", n_experiences=5), "finetune")
    with pytest.raises(UsageError, match="'SplitFMNIST' wants to download its data: they are not under"):
        experiment.stream(data_root=tmp_path)


def test_connections_are_refused_inside_and_possible_again_afterwards():
    before = socket.create_connection, socket.socket.connect
    with pytest.raises(UsageError, match="wants to download"), offline("x", "y"):
        socket.create_connection(("127.0.0.1", 9))
    assert (socket.create_connection, socket.socket.connect) == before


def test_the_number_of_tasks_is_the_number_of_experiences_where_that_is_left_out(data_root: Path):
    experiment = Experiment.of(scenario(benchmark="SplitMNIST", n=5, samples_per_class=3), "finetune")
    stream = experiment.stream(data_root=data_root)
    assert (stream.n_tasks, stream.input_shape, len(stream[4].train)) == (5, (1, 28, 28), 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "setting", "outputs"),
    [
        ("SplitMNIST", "class", 10),
        ("PermutedMNIST", "domain", 10),
        ("RotatedMNIST", "domain", 10),
        ("SplitFMNIST", "class", 10),
        ("SplitCIFAR10", "class", 10),
    ],
)
def test_avalanches_own_benchmarks_run(name: str, setting: str, outputs: int, data_root: Path, tmp_path: Path):
    found = scenario(
        benchmark=name, n_experiences=2, samples_per_class=5, test_samples_per_class=3, random_transforms="eval"
    )
    experiment = Experiment.of(found, "replay", samples=20)
    stream = experiment.stream(data_root=data_root)
    assert (stream.setting, stream.outputs) == (setting, outputs)
    run = open_run(experiment.run(tmp_path / "run", data_root=data_root))
    assert np.isfinite(run.final.acc.values).all()


@pytest.mark.parametrize("setting", ["task", "domain", "class"])
def test_a_stream_goes_to_avalanche_and_comes_back_the_same(tiny: Tiny, setting: str):
    ours = tiny("finetune", **{"stream.setting": setting}).stream()
    benchmark = to_avalanche(ours)
    back = from_avalanche(benchmark, setting=setting)
    assert (back.n_tasks, back.outputs) == (ours.n_tasks, ours.outputs)
    for step in range(3):
        scaled = (ours[step].train.x.to(torch.float32) - ours.mean[0]) / ours.std[0]
        assert torch.equal(back[step].train.x, scaled)
        assert torch.equal(back[step].train.y, ours[step].train.y)
        assert torch.equal(back.test(step).y, ours.test(step).shuffled(ours.seed).y)  # class by class no longer
        theirs = benchmark.train_stream[step]
        assert theirs.task_labels == [step if setting == "task" else 0]
        assert theirs.classes_in_this_experience == sorted(ours.test(step).y.unique().tolist())


def test_experiences_for_avalanche_can_be_sliced_and_know_where_they_are(tiny: Tiny):
    benchmark = to_avalanche(tiny("finetune", **{"stream.setting": "class", "stream.revisit": [0]}).stream())
    rest = benchmark.train_stream[1:]
    assert [experience.current_experience for experience in rest] == [1, 2, 3]
    assert rest[2].classes_in_this_experience == benchmark.train_stream[0].classes_in_this_experience
    assert rest[0].previous_classes == list(range(10))
    assert len(benchmark.test_stream) == 3
    assert rest[0].origin_stream.name == "train"


def test_a_stream_without_end_cannot_go(tiny: Tiny):
    with pytest.raises(UsageError, match="an Avalanche benchmark has a last experience"):
        to_avalanche(tiny("finetune", **{"stream.n": None}).stream())


def test_the_names_are_listed_without_importing_avalanche():
    code = (
        "import sys; from cl_engine.cli.terminal import listing; "
        "print(*listing('streams', True), *listing('strategies', True), sep='\\n'); print('avalanche' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "any benchmark of Avalanche" in done.stdout
    assert "avalanche:EWC" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_unknown_names_are_answered_with_avalanche_among_the_known():
    with pytest.raises(UsageError, match="there are: avalanche, bell, compositional, ctrl"):
        plugins.load("streams", "splitt_mnist")
    with pytest.raises(UsageError, match=r"write name = 'avalanche' and benchmark = 'SplitMNIST'"):
        plugins.load("streams", "avalanche:SplitMNIST")


def test_a_stream_of_other_tasks_than_classes_is_no_benchmark():
    with pytest.raises(
        UsageError, match="an Avalanche benchmark is of classes alone, and a task of the stream asks for 'numbers'"
    ):
        to_avalanche(Experiment.of(small.views(), "finetune", **{"stream.views": ["shape", "vanishing"]}).stream())


def test_what_may_be_said_is_listed_for_a_misspelt_benchmark_or_option(tmp_path: Path):
    with pytest.raises(UsageError, match="there are: CLEAR, ") as refused:
        Experiment.of(scenario(benchmark="SplitMNISTT"), "finetune").stream(data_root=tmp_path)
    assert "check_experts_accuracy" not in str(refused.value) and "SplitMNIST" in str(refused.value)
    with pytest.raises(UsageError, match=r"did you mean 'n_experiences'") as refused:
        Experiment.of(scenario(benchmark="SplitMNIST", n_experience=5), "finetune").stream(data_root=tmp_path)
    listed = str(refused.value).partition("there are: ")[2].split(", ")
    assert {"n", "samples_per_class", "n_experiences", "return_task_id"} <= {*listed}
