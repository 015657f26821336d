"""Masks of the weights of attention and recurrent layers, which a net uses without calling a layer that has them alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from cl_engine.errors import UsageError
from cl_engine.masks.layout import Layout, _say_what_is_left, maskable
from cl_engine.masks.patches import PatchParts
from cl_engine.modules.modulation import Modulation
from cl_engine.nn.initialisation import initialised
from cl_engine.nn.net import Net
from tests import nets_zoo as zoo
from tests.test_any_module import ROWS, learned, net_of

WEIGHTS = {
    "attention": {"a.in_proj_weight", "a.out_proj.weight"},
    "transformer": {"a.self_attn.in_proj_weight", "a.linear1.weight"},
    "gru": {"a.weight_ih_l0", "a.weight_hh_l0"},
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("strategy", ["piggyback", "packnet", "supsup"])
def test_every_weight_of_such_a_layer_has_a_bit_in_each_tasks_mask(strategy: str, name: str):
    made: Any = learned(strategy, name)
    layout: Layout = made._layout if strategy == "packnet" else made._store.layout
    assert set(layout.shapes) >= WEIGHTS[name]
    if strategy == "piggyback":
        masks = made._store.of(made.state["masks"], 1)
        assert all(set(masks[weight].unique().tolist()) <= {0, 1} for weight in WEIGHTS[name])
    assert made.predict(ROWS, 0).isfinite().all()


def test_attention_with_projections_of_their_own_is_masked_whole():
    net = Net(partial(zoo.Tokens, partial(nn.MultiheadAttention, 8, 2, kdim=8, vdim=8, batch_first=True)), zoo.SHAPE)
    net_of_parts = {name for name in net.shapes if name.startswith("a.") and len(net.shapes[name]) > 1}
    assert {name for name in maskable(net) if name.startswith("a.")} == net_of_parts


def test_gates_on_outputs_refuse_attention_by_name():
    with pytest.raises(UsageError, match="found se: the outputs of 'a', an attention or recurrent layer"):
        Modulation(net_of("attention"), ["se"], reduction=4)


def test_adapters_and_patches_reach_attention():
    net = net_of("attention")
    adapted = Modulation(net, ["adapters"], reduction=4)
    own = {name: torch.ones_like(part[0]) for name, part in adapted.start([0]).items()}
    base = {name: tensor[0] for name, tensor in net.init([0]).items()}
    assert torch.equal(adapted.applied(base, own)["a.in_proj_weight"], base["a.in_proj_weight"] + 1)
    patch = PatchParts(net, "scale_bias")
    whole = net.init([0])
    numbers = patch.identity(whole)
    same = {**whole, **patch.applied(whole, numbers)}
    assert torch.equal(net.all(same, ROWS), net.all(whole, ROWS))
    doubled = {name: tensor * 2 if name.startswith("a.in_proj_weight") else tensor for name, tensor in numbers.items()}
    changed = patch.applied(whole, doubled)
    assert torch.equal(changed["a.in_proj_weight"], 2 * whole["a.in_proj_weight"])
    assert torch.equal(changed["a.in_proj_bias"], 2 * whole["a.in_proj_bias"])


def test_weights_that_no_mask_is_about_are_told_once(caplog: pytest.LogCaptureFixture):
    _say_what_is_left.cache_clear()
    learned("piggyback", "weight_norm")
    learned("piggyback", "weight_norm")
    told = [record.message for record in caplog.records if "piggyback: masks are of weights" in record.message]
    assert len(told) == 1 and "original1" in told[0]


def test_initialisation_draws_each_projection_of_attention_by_itself():
    torch.manual_seed(0)
    layer = initialised(nn.MultiheadAttention(8, 2), "orthogonal")
    for weight in layer.in_proj_weight.chunk(3):
        torch.testing.assert_close(weight @ weight.T, torch.eye(8), rtol=1e-4, atol=1e-5)
