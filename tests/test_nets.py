"""Nets: the architectures, and the function of weights that any module becomes."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import nn

from cl_engine.errors import UsageError
from cl_engine.nn.activations import KINDS
from cl_engine.nn.architecture import Architecture
from cl_engine.nn.division import division
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.testing import NetContract

SHAPE = (3, 32, 32)


def net(name: str, shape: tuple[int, ...] = SHAPE, outputs: int = 10, **options: Any) -> Net:
    return Net(plugins.net_builder(name, options, shape, outputs), shape, mean=[10.0], std=[20.0])


AT_PLACES = [name for name in plugins.names("nets") if name not in ("cnn1d", "mlp", "pairs", "siren", "transformer")]
# of nets that do not read images, or read two
OTHER_INPUTS: dict[str, dict[str, Any]] = {
    "cnn1d": {"input_shape": (2, 40)},
    "pairs": {"input_shape": (2, 12, 12)},
    "transformer": {"input_shape": (12,), "vocabulary": 30},
}
NEEDED: dict[str, dict[str, Any]] = {"resized": {"inner": "small_cnn", "size": [12, 14]}}  # options without a default

for name in plugins.names("nets"):
    own = {"net": name, "options": NEEDED.get(name, {}), **OTHER_INPUTS.get(name, {})}
    globals()[f"Test_{name}"] = type(f"Test_{name}", (NetContract,), own)
    if name in AT_PLACES:  # in pictures that are not square, so that no one takes height for width
        own |= {"input_shape": (2, 24, 28), "outputs": 5, "places": True}
        globals()[f"Test_{name}_at_places"] = type(f"Test_{name}_at_places", (NetContract,), own)


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "weights"),
    [
        ("lenet_dropout", (1, 28, 28), 10, 21_840),
        ("lenet_dropout", (1, 28, 28), 2, 21_432),
        ("lenet", (3, 32, 32), 2, 61_326),
        ("lenet", (3, 32, 32), 10, 62_006),
    ],
)
def test_the_lenets_of_self_net_have_the_published_number_of_weights(
    name: str, shape: tuple[int, ...], outputs: int, weights: int
):
    assert net(name, shape, outputs).parameters == weights


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_the_reduced_resnet_has_twenty_maps_and_the_normalisation_asked_for(norm: str):
    made = net("resnet18", norm=norm)
    params = made.init([0])
    assert made.width == 160
    assert 1_000_000 < made.parameters < 1_200_000
    assert any("running_mean" in name for name in params) == (norm == "batch")


def test_integers_are_scaled_by_mean_and_deviation_and_floats_are_left_alone():
    made = net("mlp", (1, 2, 2))
    whole = torch.tensor([[[[10, 30], [50, 0]]]], dtype=torch.uint8)
    assert made.prepare(whole).flatten().tolist() == [0.0, 1.0, 2.0, -0.5]
    x = torch.randn(1, 1, 2, 2)
    assert made.prepare(x) is x
    assert torch.equal(made.prepare(x.double()), x)
    assert torch.equal(made.prepare(x.to(torch.bfloat16)), x.to(torch.bfloat16).to(torch.float32))


def test_a_users_module_works_unchanged_whatever_its_head_is_called():
    made = net("tests.nets_of_users:Plain", (1, 8, 8), 4)
    params = made.init([0, 1])
    assert params[HEAD_WEIGHT].shape == (2, 4, 6)
    module = plugins.net_builder("tests.nets_of_users:Plain", {}, (1, 8, 8), 4)()
    names = {HEAD_WEIGHT: "classifier.weight", HEAD_BIAS: "classifier.bias"}
    module.load_state_dict({names.get(name, name): tensor[1] for name, tensor in params.items()})
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(made.all(params, x)[1], module(x))


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "tests.nets_of_users:Plain"])
def test_weights_are_torchs_unless_another_initialisation_is_asked_for(name: str):
    shape = (1, 8, 8)
    made = net(name, shape)
    torchs, kaiming = (net(name, shape, init=init).init([0]) for init in ("default", "kaiming"))
    for key, default in made.init([0]).items():
        assert torch.equal(torchs[key], default)
        if not isinstance(made.owner(key), nn.Linear | nn.Conv2d):
            assert torch.equal(kaiming[key], default)
            continue
        assert not kaiming[key].any() if key.endswith("bias") else not torch.equal(kaiming[key], default)


def test_kaiming_weights_have_the_deviation_that_keeps_the_size_of_what_goes_through_relus():
    drawn = net("mlp", (1, 16, 16), hidden=[400], init="kaiming").init([0])
    assert float(drawn["1.weight"].std()) == pytest.approx(math.sqrt(2 / 256), rel=0.02)
    rows = net("mlp", (1, 16, 16), hidden=[40], init="orthogonal").init([0])["1.weight"][0]
    torch.testing.assert_close(rows @ rows.T, torch.eye(40), atol=1e-5, rtol=0)


def test_uniform_kaiming_weights_are_within_their_bound_and_fill_it():
    drawn = net("mlp", (1, 16, 16), hidden=[400], init="kaiming_uniform").init([0])
    assert 0.99 < float(drawn["1.weight"].abs().max()) / math.sqrt(6 / 256) <= 1
    assert not drawn["1.bias"].any()


@pytest.mark.parametrize("name", ["mlp", "lenet", "small_cnn"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu"])
def test_hidden_units_do_what_is_asked_for_and_nothing_else_is_another(name: str, activation: str):
    shape = (1, 16, 16)
    plain, other = net(name, shape), net(name, shape, activation=activation)
    assert plain.shapes == other.shapes
    kinds = [[type(net.owner(f"{layer}.weight")) for layer in net.layers if layer] for net in (plain, other)]
    changed = {(a, b) for a, b in zip(*kinds, strict=True) if a is not b}
    assert changed == {(nn.ReLU, KINDS[activation])}  # type: ignore[index]
    for key, weight in plain.init([0]).items():
        assert torch.equal(weight, other.init([0])[key])


@pytest.mark.parametrize(("name", "widths"), [("mlp", [91, 91]), ("lenet", [4, 11, 85, 60]), ("small_cnn", [45] * 4)])
def test_nets_of_concatenated_relus_are_narrower_so_that_they_have_about_as_many_weights(name: str, widths: list[int]):
    options = {"hidden": [100, 100]} if name == "mlp" else {}
    shape = (1, 28, 28) if name == "mlp" else (3, 32, 32)
    plain, made = (net(name, shape, 10, activation=kind, **options) for kind in ("relu", "crelu"))
    found = [shape[0] for key, shape in made.shapes.items() if key.endswith("weight") and len(shape) > 1]
    assert found[:-1] == widths
    assert abs(made.parameters / plain.parameters - 1) < 0.03
    assert made.one({key: tensor[0] for key, tensor in made.init([0]).items()}, torch.rand(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(("name", "kind"), [("lenet", "maps"), ("small_cnn", "maps"), ("mlp", "rows")])
def test_what_layers_give_is_normalised_row_by_row_with_layer_norm(name: str, kind: str):
    made = net(name, (1, 16, 16), norm="layer")
    params = {key: tensor[0] for key, tensor in made.init([0]).items()}
    x, seen = torch.rand(3, 1, 16, 16), []
    norms = [key.rpartition(".")[0] for key in params if isinstance(made.owner(key), nn.GroupNorm | nn.LayerNorm)]
    for layer in dict.fromkeys(norms):
        made.one(params, x, hooks={layer: lambda module, inputs, output: seen.append(output.flatten(1))})
    assert len(seen) >= 2
    for output in seen:
        torch.testing.assert_close(output.mean(dim=1), torch.zeros(3), atol=1e-5, rtol=0)
        assert output.var(dim=1, correction=0).allclose(torch.ones(3), atol=0.05)


def test_an_initialisation_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(
        UsageError, match=r"no net.init named 'he'; there are: default, kaiming, kaiming_uniform, orthogonal, xavier"
    ):
        net("tests.nets_of_users:Plain", (1, 8, 8), init="he")
    with pytest.raises(UsageError, match=r"net.init: .*'kaiming'"):
        net("mlp", (1, 8, 8), init="he")


def test_batchnorm_statistics_move_in_training_mode_only():
    made = net("resnet18", width=4)
    params = {name: tensor[0] for name, tensor in made.init([0]).items()}
    before = {name: tensor.clone() for name, tensor in params.items() if made.is_buffer(name)}
    x = torch.randn(4, *SHAPE)
    made.one(params, x)
    assert all(torch.equal(params[name], tensor) for name, tensor in before.items())
    with made.training():
        made.one(params, x, training=False)
        assert all(torch.equal(params[name], tensor) for name, tensor in before.items())
        made.one(params, x)
    assert not any(torch.equal(params[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("name", "shape", "options", "sentence"),
    [
        ("lenet", (1, 8, 8), {}, "cannot be built for inputs of shape|does not accept inputs"),
        ("tests.nets_of_users:without_linear_end", (1, 8, 8), {}, "last Linear layer does not give its output"),
        ("tests.nets_of_users:nothing", (1, 8, 8), {}, "cannot be imported"),
        ("tests.nets_of_users:math", (1, 8, 8), {}, "cannot be"),
        ("builtins:dict", (1, 8, 8), {}, "a torch.nn.Module"),
        ("torch.nn:ReLU", (1, 8, 8), {}, "no nn.Linear inside"),
        ("mlp", (1, 8, 8), {"hiden": [3]}, "did you mean 'net.hidden'"),
        ("mpl", (1, 8, 8), {}, "no net named 'mpl' \\(did you mean 'mlp'"),
    ],
)
def test_what_cannot_be_a_net_is_refused_in_a_sentence(
    name: str, shape: tuple[int, ...], options: dict[str, Any], sentence: str
):
    with pytest.raises(UsageError, match=sentence):
        net(name, shape, 2, **options)


@pytest.mark.parametrize("name", AT_PLACES)
@pytest.mark.parametrize("shape", [(20,), (1, 40)])
def test_a_net_that_reads_images_says_so_of_other_inputs(name: str, shape: tuple[int, ...]):
    said = (
        rf"net\.name: '{name}' needs images \[channels, height, width\], found inputs of shape {re.escape(str(shape))}"
    )
    with pytest.raises(UsageError, match=said):
        net(name, shape, 2, **NEEDED.get(name, {}))


def test_an_architecture_of_the_users_own_is_configured_like_ours():
    made = net("tests.test_nets:Wide", (1, 4, 4), 3, factor=2)
    assert made.width == 2 * math.prod((1, 4, 4))


class Wide(Architecture):
    """Wide: one hidden layer as many times as wide as the input."""

    factor: int = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        width = math.prod(input_shape)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(width, self.factor * width), nn.Linear(self.factor * width, outputs)
        )


@pytest.mark.parametrize(
    ("name", "options", "modules"),
    [
        ("unet", {}, 8),
        ("deeplab", {}, 6),
        ("modular_resnet", {}, 6),
        ("modular_resnet", {"split_last": True}, 7),
        ("alexnet", {}, 6),
        ("small_cnn", {}, 5),
    ],
)
def test_nets_are_cut_into_modules_stage_by_stage_those_of_module_composition_as_published(
    name: str, options: dict[str, Any], modules: int
):
    assert len(division(net(name, **options))) == modules


def test_the_modular_resnet_is_of_constant_width_and_halves_its_maps_three_times():
    made = net("modular_resnet")
    assert {shape[0] for name, shape in made.shapes.items() if "conv" in name} == {64}
    assert [made.owner(f"blocks.{k}.conv1.weight").stride for k in range(8)] == [
        (s, s) for s in (1, 1, 2, 1, 2, 1, 2, 1)
    ]
    assert made.width == 64


def test_the_alexnet_has_the_layers_of_hat():
    shapes = [shape for name, shape in net("alexnet").shapes.items() if name.endswith("weight")]
    assert shapes == [(64, 3, 4, 4), (128, 64, 3, 3), (256, 128, 2, 2), (2048, 1024), (2048, 2048), (10, 2048)]


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [("alexnet", (1, 8, 8), {}), ("modular_resnet", (1, 4, 4), {}), ("isometric", (1, 8, 8), {"kernel": 2})],
)
def test_a_net_that_inputs_do_not_fit_says_so(name: str, shape: tuple[int, ...], options: dict[str, Any]):
    with pytest.raises(UsageError, match=r"^net\."):
        net(name, shape, **options)


def test_a_vision_transformer_reads_the_mean_or_a_token_of_its_own_and_refuses_patches_that_do_not_fit():
    mean, token = (net("vit", (1, 8, 12), 4, layers=1, read=read) for read in ("mean", "token"))
    assert token.parameters == mean.parameters + 2 * 64  # the token, and its place
    with pytest.raises(UsageError, match="patches of 5 do not divide images of 8 × 12 pixels"):
        net("vit", (1, 8, 12), 4, patch=5)
    with pytest.raises(UsageError, match="3 heads do not divide a width of 64"):
        net("vit", (1, 8, 12), 4, heads=3)
