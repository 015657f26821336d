"""Linear layers whose products are oneDNN's: the same numbers, within rounding, wherever a net is used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.nn import fast_linear
from cl_engine.nn.flops import Flops
from cl_engine.nn.net import Net
from cl_engine.runs import plugins

ROWS, WIDTH, OUTPUTS = 130, 300, 128
assert ROWS * WIDTH * OUTPUTS >= fast_linear.LEAST

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply by oneDNN whatever the processor is."""
    monkeypatch.setattr(fast_linear, "by_onednn", lambda: True)


@pytest.fixture
def layers(by_onednn: None) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    own, quick = nn.Linear(WIDTH, OUTPUTS), nn.Linear(WIDTH, OUTPUTS)
    quick.load_state_dict(own.state_dict())
    return own, fast_linear.quick(nn.Sequential(quick))[0]  # type: ignore[index]


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.detach().abs().max()))


def test_answers_and_gradients_are_those_of_torchs_own_layer(layers: tuple[nn.Linear, nn.Linear]):
    x = torch.randn(ROWS, WIDTH, requires_grad=True)
    found = []
    for layer in layers:
        logits = layer(x)
        found.append((logits, *torch.autograd.grad(logits.square().sum(), (x, layer.weight, layer.bias))))
    for own, quick in zip(*found, strict=True):
        assert_close(quick, own)


def test_a_gradient_can_be_differentiated_again(layers: tuple[nn.Linear, nn.Linear]):
    x = torch.randn(ROWS, WIDTH)
    found = []
    for layer in layers:
        slope = torch.autograd.grad(layer(x).pow(3).sum(), layer.weight, create_graph=True)[0]
        found.append(torch.autograd.grad(slope.square().sum(), layer.weight)[0])
    assert_close(found[1], found[0])


def test_products_are_onednns_in_training_and_in_tests(layers: tuple[nn.Linear, nn.Linear], monkeypatch):
    seen = []
    own = fast_linear._multiplied
    monkeypatch.setattr(fast_linear, "_multiplied", lambda a, w, b: (seen.append(tuple(a.shape)), own(a, w, b))[1])
    x = torch.randn(ROWS, WIDTH)
    layers[1](x).sum().backward()
    assert seen == [(ROWS, WIDTH), (OUTPUTS, ROWS)]  # the rows need no gradient
    with torch.inference_mode():
        layers[1](x)
    assert len(seen) == 3
    layers[1](x[:8])
    layers[1](x.reshape(2, ROWS // 2, WIDTH))
    with torch.autocast("cpu", torch.bfloat16):
        assert layers[1](x).dtype == torch.bfloat16
    assert len(seen) == 3, "small products, several axes and bfloat16 are torch's own"


def test_several_nets_side_by_side_are_torchs_own(layers: tuple[nn.Linear, nn.Linear]):
    own, quick = layers
    x, weights = torch.randn(ROWS, WIDTH), torch.randn(3, OUTPUTS, WIDTH)
    one = lambda w: torch.func.functional_call(quick, {"weight": w, "bias": own.bias}, (x,))  # noqa: E731
    assert_close(torch.vmap(one)(weights), torch.stack([F.linear(x, w, own.bias) for w in weights]))
    slopes = torch.vmap(torch.func.grad(lambda w: one(w).square().sum()))(weights)
    wanted = torch.autograd.functional.vjp(lambda w: (x @ w.mT + own.bias).square().sum(), weights)[1]
    assert_close(slopes, wanted)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_nets_side_by_side_are_laid_out_as_the_weights_are(bias: bool, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    x, weights = torch.randn(3, 4, 20), torch.randn(3, 5, 20, requires_grad=True)
    biases = torch.randn(3, 5, requires_grad=True) if bias else None
    leaves = [leaf for leaf in (weights, biases) if leaf is not None]
    found = []
    for product in (fast_linear.linear, F.linear):
        logits = torch.vmap(product, in_dims=(0, 0, 0 if bias else None))(x, weights, biases)
        slopes = torch.autograd.grad(logits.square().sum(), leaves)
        found.append((logits, *slopes))
    for own, torchs in zip(*found, strict=True):
        assert_close(own, torchs)
    assert found[0][1].is_contiguous()


def test_operations_are_counted_alike(layers: tuple[nn.Linear, nn.Linear]):
    totals = []
    for layer in layers:
        with Flops() as counted:
            layer(torch.randn(ROWS, WIDTH, requires_grad=True)).sum().backward()
        totals.append(counted.total)
    assert totals == [3 * 2 * ROWS * WIDTH * OUTPUTS] * 2


def test_a_net_answers_as_its_module_does(by_onednn: None):
    net = Net(plugins.net_builder("mlp", {"hidden": [256, 256]}, (1, 28, 28), 10), (1, 28, 28))
    params, module, x = net.init([0]), net.module(0), torch.randn(200, 1, 28, 28)
    assert type(module.get_submodule(net.head)) is nn.Linear, "a module for others is left as it is"
    assert isinstance(net.owner("head.weight"), fast_linear.Linear)
    with torch.no_grad():
        assert_close(net.all(params, x)[0], module(x))


@pytest.mark.parametrize(
    ("vendor", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
        ("0x41", "DEFAULT", False),
    ],
)
def test_the_processor_alone_decides(
    vendor: str, capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: any\n")
    monkeypatch.setattr(fast_linear, "CPUINFO", cpuinfo)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert fast_linear.by_onednn.__wrapped__() is expected


def test_matrices_with_gaps_in_memory_are_closed_up_first(by_onednn: None):
    wide = torch.randn(OUTPUTS, WIDTH + 1)
    assert fast_linear._dense(wide[:, :-1]).is_contiguous()
    assert fast_linear._dense(wide.t()).data_ptr() == wide.data_ptr()
    x = torch.randn(ROWS, WIDTH)
    assert_close(fast_linear._product(x, wide[:, :-1], None), x @ wide[:, :-1].t())
