"""Nets of timm and of Hugging Face's transformers, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.interop import library_nets, timm_nets, transformers_nets
from cl_engine.nn.net import Net
from cl_engine.results.run import open_run
from cl_engine.runs import plugins

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

TINY_TIMM = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2, "size": 16}
TINY_VIT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "patch_size": 4,
}
TINY_BERT = {key: TINY_VIT[key] for key in TINY_VIT if key != "patch_size"}
IMAGES = {"stream.n": 2, "stream.samples_per_class": 4, "stream.test_samples_per_class": 2, "train.epochs": 1}


def net(name: str, shape: tuple[int, ...], vocabulary: int | None = None, **options: Any) -> Net:
    build = plugins.net_builder(name, options, shape, 5, vocabulary=vocabulary)
    return Net(build, shape, vocabulary=vocabulary)


@pytest.mark.parametrize(
    ("name", "shape", "vocabulary", "options", "width"),
    [
        ("timm:vit_tiny_patch16_224", (1, 8, 8), None, TINY_TIMM, 12),
        ("timm:test_resnet", (3, 32, 32), None, {}, 96),
        ("transformers:vit", (1, 8, 8), None, TINY_VIT, 8),
        ("transformers:bert", (6,), 30, TINY_BERT, 8),
    ],
)
def test_a_net_of_another_library_has_its_last_layer_as_head_and_seeds_learn_as_alone(
    name: str, shape: tuple[int, ...], vocabulary: int | None, options: dict[str, Any], width: int
):
    made = net(name, shape, vocabulary, **options)
    assert made.width == width
    params = made.init([0, 1])
    x = torch.zeros(3, *shape) if vocabulary is None else torch.randint(1, vocabulary, (3, *shape))
    both = made.all(params, x)
    assert both.shape == (2, 3, 5)
    alone = made.all({key: tensor[1:] for key, tensor in params.items()}, x)
    torch.testing.assert_close(both[1:], alone)


def test_padding_is_read_by_no_token():
    made = net("transformers:bert", (6,), 30, **TINY_BERT)
    params = made.init([0])
    rows = torch.tensor([[7, 8, 9, 0, 0, 0]])
    short = net("transformers:bert", (3,), 30, **TINY_BERT)
    torch.testing.assert_close(made.all(params, rows), short.all(params, rows[:, :3]))


def test_images_are_brought_to_channels_and_size_of_the_configuration():
    grey = torch.rand(2, 1, 8, 8)
    wanted = library_nets.Preprocessing(channels=3, size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert wanted.apply(grey).shape == (2, 3, 16, 16)
    assert wanted.apply(torch.rand(2, 3, 16, 16)).shape == (2, 3, 16, 16)
    fixed = timm_nets.named("vit_tiny_patch16_224")
    assert fixed.scaling((3, 28, 28), {}) == {"mean": (127.5,) * 3, "std": (127.5,) * 3}
    assert fixed.scaling((1, 28, 28), {}) == {"mean": (127.5,), "std": (127.5,)}


def test_a_run_with_a_net_of_timm_starts_from_a_file_and_sees_images_as_its_configuration_says(tmp_path: Path):
    own = {f"net.{key}": value for key, value in TINY_TIMM.items()}
    trained = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, **{k: v for k, v in TINY_TIMM.items() if k != "size"}
    )
    save_file({key: tensor.contiguous() for key, tensor in trained.state_dict().items()}, tmp_path / "body.safetensors")
    experiment = Experiment.of(
        "permuted_digits",
        "head_only",
        **IMAGES,
        **{"net.name": "timm:vit_tiny_patch16_224", **own, "backbone.library": "body.safetensors"},
    )
    folder = experiment.run(tmp_path / "run", device="cpu", data_root=tmp_path)
    run = open_run(folder)
    about = json.loads(run.environment["backbone"])
    assert about["origin"] == f"timm vit_tiny_patch16_224, file {tmp_path / 'body.safetensors'}"
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream, experiment.backbone(stream, tmp_path))
    assert strategy.net.scaling.mean.flatten().tolist() == [127.5]
    body = {key: tensor for key, tensor in strategy.net.init([0]).items() if not key.startswith("head.")}
    for key, tensor in trained.state_dict().items():
        torch.testing.assert_close(body[key][0], tensor)


def test_a_folder_with_a_model_gives_configuration_preprocessing_and_weights(tmp_path: Path):
    config = transformers.AutoConfig.for_model("vit", image_size=8, num_labels=3, num_channels=1, **TINY_VIT)
    model = transformers.AutoModelForImageClassification.from_config(config)
    model.save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "preprocessor_config.json").write_text('{"image_mean": [0.25], "image_std": [0.75]}')
    found = transformers_nets.named(str(tmp_path / "mine"))
    assert found.scaling((1, 8, 8), {}) == {"mean": (63.75,), "std": (191.25,)}
    params, origin = found.weights("default", None, {})
    assert origin == f"transformers {tmp_path / 'mine'}"
    wanted = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("classifier")}
    assert params.keys() == wanted.keys()
    assert all(torch.equal(params[key], wanted[key]) for key in wanted)
    assert found((1, 8, 8), 7)(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"net.name": "timm:vit_tny"}, "timm has no net 'vit_tny'; near it: "),
        ({"net.name": "transformers:vitt"}, "no kind of model 'vitt', and there is no such folder; near it: vit"),
        (
            {"net.name": "transformers:a/b"},
            "neither a folder with a model nor in the library's cache, and nothing is fetched",
        ),
        (
            {"net.name": "transformers:vit", "net.hiden_size": 3},
            "ViTConfig has no such option (did you mean 'hidden_size'?)",
        ),
        (
            {"net.name": "transformers:vit", "net.num_labels": 3},
            "net.num_labels: 'transformers:vit' gets that from the stream",
        ),
        (
            {"net.name": "timm:test_resnet", "net.size": 0},
            "net.size: found 0; allowed are a number of pixels, 'auto' and",
        ),
        ({"net.name": "timm:test_resnet", "net.pretrained": True}, "'timm:test_resnet' gets that from the stream"),
        (
            {"net.name": "timm:vit_tiny_patch16_224", "backbone.library": "default"},
            "augreg_in21k_ft_in1k are not on this machine, and nothing is fetched unasked",
        ),
        (
            {"net.name": "timm:test_resnet", "backbone.library": "nope"},
            "timm has no weights 'nope' of 'test_resnet'; there are: r160",
        ),
        (
            {"net.name": "transformers:vit", "backbone.library": "default"},
            "is a kind of model and has no weights of its own",
        ),
        (
            {"net.name": "mlp", "backbone.library": "default"},
            "needs net.name = 'timm:…' or 'transformers:…', found 'mlp'",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(
    overrides: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(UsageError) as error:
        Experiment.of("permuted_digits", "finetune", **IMAGES, **overrides).run(tmp_path / "run", device="cpu")
    assert said in str(error.value)


def test_a_library_that_is_not_installed_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UsageError, match="this needs no_such_package: pip install 'cl-engine\\[timm\\]'"):
        library_nets.library("no_such_package", "timm")
