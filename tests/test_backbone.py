"""Where nets start from: pre-trained once and found again, a user's file, torchvision's weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cl_engine.analysis.report.terminal import print_run
from cl_engine.core.state import Memory
from cl_engine.errors import UsageError
from cl_engine.events import Event, Scored, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.nn.head import HEAD_WEIGHT
from cl_engine.recall.events import SkillBytes
from cl_engine.results.run import open_run
from cl_engine.runs.signals import Stopped
from cl_engine.testing.small import with_dropout
from cl_engine.testing.walking import walk
from tests.conftest import STRATEGIES

Tiny = Callable[..., Experiment]
ON_DIGITS: dict[str, Any] = {
    "backbone.source": "digits",
    "backbone.classes": [1, 3, 5],
    "backbone.samples_per_class": 40,
    "backbone.train.epochs": 5,
}
BODY = (64 * 12 + 12) + 2 * (12 * 12 + 12)  # weights of the tiny net before its head


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CL_CACHE", str(tmp_path / "cache"))


def test_a_backbone_is_trained_once_and_found_by_whoever_asks_for_the_same(
    tiny: Tiny, caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    caplog.set_level(logging.INFO, "cl_engine")
    stream = tiny("piggyback").stream()
    first = tiny("piggyback", **ON_DIGITS).backbone(stream)
    assert len([r for r in caplog.records if "pre-training the backbone on digits: epoch" in r.message]) == 5
    caplog.clear()
    again = tiny("patch", (4,), **ON_DIGITS).backbone(stream)
    assert not caplog.records
    assert first.about == again.about
    assert all(torch.equal(first.params[name], again.params[name]) for name in first.params)
    other = tiny("patch", **{**ON_DIGITS, "backbone.seed": 1}).backbone(stream)
    assert other.about["digest"] != first.about["digest"]
    assert len(list((tmp_path / "cache" / "backbones").glob("*.safetensors"))) == 2


def test_every_seed_starts_from_the_backbone_with_a_head_of_its_own(tiny: Tiny):
    experiment = tiny("finetune", **ON_DIGITS)
    stream = experiment.stream()
    backbone, net = experiment.backbone(stream), experiment.build_strategy(stream).net
    start = net.init([0, 1])
    for name, tensor in start.items():
        if name in backbone.params:
            assert all(torch.equal(one, backbone.params[name]) for one in tensor)
    assert not torch.equal(start[HEAD_WEIGHT][0], start[HEAD_WEIGHT][1])
    assert backbone.about["accuracy"] > 0.8  # three digits


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_runs_on_a_backbone_and_the_log_says_which(tiny: Tiny, strategy: str, tmp_path: Path):
    folder = tiny(strategy, (0,), **ON_DIGITS, **{"stream.n": 2}).run(tmp_path / "run")
    with h5py.File(folder / "log.h5") as log:
        about = json.loads(log["environment/backbone"][()])
    assert about["origin"] == "pre-trained on digits, classes 1, 3, 5"
    assert about["rows"] == 120


def test_a_backbone_counts_as_memory_and_the_random_head_on_it_does_not(tiny: Tiny):
    parts = {}
    for on in ({}, ON_DIGITS):
        *_, event = (e for e in walk(tiny("piggyback", (0, 1), **on))[2] if isinstance(e, TaskLearned))
        parts[bool(on)] = event.memory.get("backbone", 0), event.apart["backbone"]
    body, head = 4 * BODY, 4 * (12 * 10 + 10)
    assert parts == {False: (0, body + head), True: (body, head)}


def test_skill_recall_counts_the_backbone_it_takes_away_before_encoding(tiny: Tiny):
    sizes = {}
    for centred in (True, False):
        _, strategy, events = walk(tiny("skill_recall", (0, 1), buffer=1, centred=centred, **ON_DIGITS))
        *_, told = (event for event in events if isinstance(event, SkillBytes))
        memory, apart = Memory(strategy.drawn().state).by_part(strategy.state)
        assert told.in_all == sum(memory.values())
        assert apart.keys() == {"diagnostics"}
        sizes[centred] = memory.get("backbone", 0)
    assert sizes == {True: 4 * BODY, False: 0}


def test_what_a_run_started_from_is_shown_with_it(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tiny("patch", (0,), **ON_DIGITS, **{"stream.n": 1}).run(tmp_path / "run")
    print_run(open_run(folder))
    assert "start   origin pre-trained on digits, classes 1, 3, 5" in capsys.readouterr().out


def test_a_users_weights_are_taken_from_a_file_by_their_names_in_the_module(tiny: Tiny, tmp_path: Path):
    module = with_dropout(num_classes=7, hidden=8)
    save_file(module.state_dict(), tmp_path / "mine.safetensors")
    net = {"net.name": "cl_engine.testing.small:with_dropout", "net.hidden": 8}
    experiment = tiny("piggyback", **net, **{"backbone.file": str(tmp_path / "mine.safetensors")})
    start = experiment.build_strategy(experiment.stream()).net.init([5])
    assert torch.equal(start["1.weight"][0], module.state_dict()["1.weight"])
    smaller = tiny("piggyback", **{**net, "net.hidden": 9, "backbone.file": str(tmp_path / "mine.safetensors")})
    with pytest.raises(UsageError, match=r"'1.weight' is of shape \(8, 64\), in the net of shape \(9, 64\)"):
        smaller.build_strategy(smaller.stream())


def test_a_stopped_run_does_not_go_on_from_other_weights(tiny: Tiny, tmp_path: Path):
    net, file = tiny("finetune").build_strategy(tiny("finetune").stream()).net, tmp_path / "weights.safetensors"

    def stop(event: Event) -> None:
        if isinstance(event, Scored) and event.step == 1:
            raise Stopped(2)

    def keep(seed: int) -> None:
        save_file(dict(net.module(seed).state_dict()), file)

    keep(1)
    experiment = tiny("independent", **{"backbone.file": str(file)})
    with pytest.raises(Stopped):
        experiment.run(tmp_path / "run", listeners=lambda stream: [stop])
    keep(2)
    with pytest.raises(
        UsageError, match=rf"backbone \(file {file}\): checksum \w+ then, \w+ now: these are not what the run"
    ):
        experiment.run(tmp_path / "run")
    keep(1)
    assert open_run(experiment.run(tmp_path / "run")).status == "finished"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"backbone.seed": 1}, "name one of source, file, torchvision and library; found none"),
        ({"backbone.source": "digits", "backbone.file": "x"}, "found source, file"),
        ({"backbone.file": "x", "backbone.classes": [1]}, "go with backbone.source only"),
        ({"backbone.torchvision": "IMAGENET1K_V1"}, "needs net.name = 'torchvision.models:…', found 'mlp'"),
        ({"backbone.nonsense": 1}, "no option named 'backbone.nonsense'"),
        ({"backbone.source": "digits", "backbone.train.epochs": 0}, "backbone.train.epochs"),
    ],
)
def test_a_backbone_that_cannot_be_is_refused_at_once(tiny: Tiny, overrides: dict[str, Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        tiny("piggyback", **overrides)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {"backbone.source": "digits", "backbone.classes": [3, 10]},
            r"different classes of 'digits', 0 to 9, found \[3, 10\]",
        ),
        ({"backbone.source": "mnist1d"}, "only images can be brought to another shape"),
        ({"backbone.file": "/nowhere/mine.safetensors"}, "is not a safetensors file that can be read"),
        (
            {"backbone.torchvision": "V9", "net.name": "torchvision.models:resnet18"},
            "has no weights 'V9'; there are: IMAGE",
        ),
        ({"backbone.torchvision": "V9", "net.name": "torchvision.models:nonsense"}, "no pre-trained 'nonsense'"),
    ],
)
def test_a_backbone_that_is_not_there_is_said_before_the_first_step(
    tiny: Tiny, overrides: dict[str, Any], sentence: str
):
    experiment = tiny("piggyback", **overrides)
    with pytest.raises(UsageError, match=sentence):
        experiment.backbone(experiment.stream())


SETS = {"cubs_cropped": 3, "stanford_cars_cropped": 2, "flowers": 4, "wikiart": 2, "sketches": 3}


def test_piggybacks_protocol_runs_on_folders_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.models import ResNet50_Weights, resnet50

    draw = np.random.default_rng(0)
    for name, classes in SETS.items():
        for half in ("train", "test"):
            for label in range(classes):
                folder = tmp_path / name / half / f"class {label}"
                folder.mkdir(parents=True)
                for k in range(2):
                    pixels = draw.integers(0, 256, (40 + 3 * k, 50, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{k}.png")
    asked: list[dict[str, Any]] = []

    def state_dict(self: Any, **options: Any) -> dict[str, torch.Tensor]:
        asked.append(options)
        with torch.random.fork_rng():
            return resnet50().state_dict()

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", state_dict)
    quick = {"train.epochs": 1, "mask_lr": 0.01, "stream.shape": [3, 32, 32], "overlaps": 1}
    experiment = Experiment.of("piggyback_imagenet", "piggyback", **quick)
    folder = experiment.run(tmp_path / "run", device="cpu", data_root=tmp_path)
    assert experiment.build_strategy(experiment.stream(data_root=tmp_path)).net.outputs == max(SETS.values())
    assert asked[0]["weights_only"]
    with h5py.File(folder / "log.h5") as log:
        assert log["results/task_name"].asstr()[:].tolist() == [f"folder/{name}" for name in SETS]
        assert json.loads(log["environment/backbone"][()])["accuracy"] == 0.76130
        masks = log["results/memory"][-1, list(log["results/part"].asstr()[:]).index("masks")]
    weights = 23_454_912  # of ResNet-50's convolutions
    assert masks == 5 * weights / 8
