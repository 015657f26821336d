"""CTrL's six streams: what their tasks are made of, and what the last one has to do with the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.runs.scenario import Scenario
from cl_engine.streams.ctrl import LONG_SOURCES, Ctrl
from cl_engine.testing.streams import same
from tests.conftest import Given

SHORT = ("s_minus", "s_plus", "s_in", "s_out", "s_pl")
SMALL: dict[str, Any] = {"large": [8, 4], "small": [4, 2], "tiny": [2, 1], "long": [6, 3], "shape": [3, 6, 6]}
COUNTS = {"cifar100": 100, "dtd": 47}


def load(name: str) -> Arrays:
    """Return random images, other ones for each source, 24 and 5 of each class."""
    classes = COUNTS.get(name, 10)
    draw = np.random.default_rng(sum(map(ord, name)))
    train_y, test_y = (np.tile(np.arange(classes), count) for count in (24, 5))
    channels = 1 if name in ("mnist", "fashion_mnist") else 3
    shape = (channels, 6, 6)
    train_x, test_x = (draw.integers(0, 256, (len(y), *shape), dtype=np.uint8) for y in (train_y, test_y))
    return Arrays(train_x, train_y, test_x, test_y, classes)


def stream(kind: str, **options: Any) -> Ctrl:
    return Ctrl(Given(load), kind=kind, **{**SMALL, **options})


def rows(found: Ctrl) -> list[tuple[int, int]]:
    experiences = [found[step] for step in range(found.n_tasks or 0)]
    return [(len(e.train) // e.classes, len(e.validation) // e.classes) for e in experiences]


def test_the_short_streams_have_the_published_sources_and_sizes():
    sources = {kind: [task.source for task in stream(kind).tasks] for kind in SHORT}
    middle = ["dtd", "fashion_mnist", "svhn"]
    assert sources["s_minus"] == sources["s_plus"] == sources["s_out"] == ["cifar10", "mnist", *middle, "cifar10"]
    assert sources["s_in"] == ["mnist", "cifar10", *middle, "mnist"]
    assert sources["s_pl"] == ["mnist", *middle, "cifar10"]
    small = [(4, 2)] * 4
    assert rows(stream("s_minus")) == [(8, 4), *small, (4, 2)]
    assert rows(stream("s_plus")) == [(4, 2), *small, (8, 4)]
    assert rows(stream("s_in")) == [(8, 4), *small, (2, 1)]
    assert rows(stream("s_out")) == [(8, 4), *small, (4, 2)]
    assert rows(stream("s_pl")) == [(4, 2)] * 4 + [(8, 4)]
    assert {found.outputs for found in map(stream, SHORT)} == {10}


def test_the_published_numbers_are_the_default():
    options = plugins.load("streams", "ctrl").Options()
    assert [options.large, options.small, options.tiny, options.long] == [(400, 200), (40, 20), (5, 3), (1000, 500)]
    assert options.shape == [3, 32, 32]


@pytest.mark.parametrize("kind", [*SHORT, "s_long"])
def test_a_step_gives_the_same_whenever_it_is_asked_for(kind: str):
    one, other = stream(kind), stream(kind)
    steps = range(min(6, one.n_tasks or 0))
    forwards = [one[step] for step in steps]
    for step in reversed(steps):
        assert same(other[step].train, forwards[step].train)
        assert same(other[step].validation, forwards[step].validation)
        assert same(other.test(step), one.test(step))


def test_another_seed_draws_other_rows_and_other_textures():
    one, other = stream("s_minus"), stream("s_minus", seed=1)
    assert not same(one[0].train, other[0].train)
    assert one.tasks[2].classes != other.tasks[2].classes
    assert len(set(one.tasks[2].classes)) == 10


def test_the_labels_of_s_out_are_shifted_by_one():
    found = stream("s_out")
    assert found.tasks[-1].classes == (9, *range(9))
    first, last = found.test(0), found.test(5)
    # the same images, scaled by other training rows
    torch.testing.assert_close(first.x[first.y == 9], last.x[last.y == 0], atol=0.1, rtol=0)
    torch.testing.assert_close(first.x[first.y == 0], last.x[last.y == 1], atol=0.1, rtol=0)


def test_the_light_of_s_in_changes_between_first_and_last():
    found = stream("s_in")
    first, last = found.tasks[0].colour, found.tasks[-1].colour
    assert first is not None
    assert last is not None
    assert first != last
    assert [task.colour for task in found.tasks[1:-1]] == [None] * 4
    grey = np.array([0, 100, 255], dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 3, 6, 6), dtype=np.uint8)
    shown = found._lit(found.tasks[0], grey)[:, :, 0, 0]
    lit = int(np.argmax(first))
    assert shown[:, lit].tolist() == [255, 255, 255]
    assert shown[:, (lit + 1) % 3].tolist() == [0, 100, 255]
    with pytest.raises(UsageError, match="takes three channels"):
        stream("s_in", shape=[1, 6, 6])[0]


def test_training_and_validation_rows_never_meet_not_even_across_tasks():
    found = stream("s_minus", large=[16, 8], small=[16, 8])
    trained = [set(np.concatenate(found._train_rows(step)[0])) for step in (0, 5)]
    aside = [set(np.concatenate(found._train_rows(step)[1])) for step in (0, 5)]
    assert not (trained[0] | trained[1]) & (aside[0] | aside[1])


def test_channels_are_scaled_by_the_tasks_own_training_rows():
    train = stream("s_minus")[0].train.x
    assert train.dtype == torch.float32
    parts = train.transpose(0, 1).flatten(1)
    torch.testing.assert_close(parts.mean(dim=1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(parts.std(dim=1), torch.ones(3), atol=1e-4, rtol=0)


def test_the_long_stream_has_a_hundred_tasks_of_five_classes_and_few_data_at_its_end():
    found = stream("s_long")
    assert len(found.tasks) == 100
    assert {len(set(task.classes)) for task in found.tasks} == {5}
    assert {task.source for task in found.tasks} == set(LONG_SOURCES)
    plenty = [task.size == "long" for task in found.tasks]
    assert 10 <= sum(plenty[:33]) <= 23  # half
    assert 3 <= sum(plenty[33:66]) <= 14  # a quarter
    assert not any(plenty[66:])
    assert found.outputs == 5


def test_stand_ins_take_the_place_of_sources_and_are_named():
    found = stream("s_minus", stand_ins={"svhn": "mnist", "dtd": "cifar10"})
    assert found.name_of(4) == "mnist"
    assert found.name_of(2) == "cifar10"
    assert found.describe()["stand-ins"] == "mnist for svhn, cifar10 for dtd"
    torch.testing.assert_close(found.test(4).x, found.test(1).x, atol=0.15, rtol=0)


def test_the_class_setting_is_refused():
    with pytest.raises(UsageError, match="tasks of CTrL share classes"):
        stream("s_minus", setting="class")


def test_it_runs_from_a_scenario_and_a_stand_in_that_is_no_source_is_refused():
    tables = {"stream": {"name": "ctrl", "stand_ins": {"svhn": "nonsense"}}, "net": {"name": "mlp"}}
    with pytest.raises(UsageError, match="no source named 'nonsense'"):
        Experiment.of(Scenario.of("mine", tables), "finetune")


def test_svhn_is_read_from_torchvisions_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.datasets import SVHN

    draw = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 11)):
        labels = np.arange(count) % 10 + 1  # 10 stands for 0 in the files
        pixels = draw.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": labels.reshape(-1, 1)})
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    found = plugins.source("svhn").load(tmp_path)
    assert found.train_x.shape == (12, 3, 32, 32)
    assert found.test_y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_dtd_is_read_from_torchvisions_files_and_brought_to_one_size(tmp_path: Path):
    folder = tmp_path / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for split in ("train", "val", "test"):
        names = [f"{label}/{label}_{split}.jpg" for label in ("banded", "woven")]
        (folder / "labels" / f"{split}1.txt").write_text("\n".join(names))
        for name in names:
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (300, 200 + len(name)), 90).save(folder / "images" / name)
    found = plugins.source("dtd").load(tmp_path)
    assert found.train_x.shape == (4, 3, 32, 32)
    assert found.train_y.tolist() == [0, 1, 0, 1]
    assert found.classes == 47


@pytest.mark.parametrize("name", ["svhn", "dtd"])
def test_missing_files_are_said_with_the_command_that_gets_them(name: str, tmp_path: Path):
    with pytest.raises(UsageError, match=f"run.py fetch {name} --data-root"):
        plugins.source(name).load(tmp_path)
