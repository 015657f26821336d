"""Random weights that a freshly built net starts from, where they are not to be torch's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from cl_engine.errors import unknown

Init = Literal["default", "kaiming", "kaiming_uniform", "xavier", "orthogonal"]
DRAWN: Mapping[str, Callable[..., Any]] = {
    "kaiming": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "kaiming_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "xavier": nn.init.xavier_normal_,
    "orthogonal": nn.init.orthogonal_,
}


def initialised(module: nn.Module, init: str) -> nn.Module:
    """Draw the weights of linear, convolution and attention layers anew, set their biases to 0, and return the module.

    Args:
        module: a freshly built net; what is no such layer stays as it is, and so does one of zeros.
        init: ``kaiming`` (normal, for ReLU: He et al. 2015), ``kaiming_uniform`` (the same, uniform), ``xavier`` (normal:
            Glorot & Bengio 2010), ``orthogonal`` (Saxe et al. 2014), or ``default``: nothing is done, weights are as torch
            draws them.

    Raises:
        UsageError: if there is no initialisation of this name.
    """
    if init == "default":
        return module
    if init not in DRAWN:
        raise unknown("net.init", init, ["default", *DRAWN])
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.MultiheadAttention):
                _draw_projections(layer, DRAWN[init])
            if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) and layer.weight.any():
                DRAWN[init](layer.weight)
                if layer.bias is not None:
                    layer.bias.zero_()
    return module


def _draw_projections(layer: nn.MultiheadAttention, draw: Callable[..., Any]) -> None:
    """Draw the projections of an attention layer: three matrices, of queries, keys and values, that may stand in one tensor."""
    whole = layer.in_proj_weight
    three = whole.chunk(3) if whole is not None else (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    for weight in three:
        draw(weight)
    if layer.in_proj_bias is not None:
        layer.in_proj_bias.zero_()
