"""Heads on a frozen net: a linear layer, one with a hidden layer, or a weighted mix of what the net's modules say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.core import rng
from cl_engine.errors import UsageError
from cl_engine.modules.transferability import pooled
from cl_engine.nn.division import ends
from cl_engine.nn.fast_linear import linear
from cl_engine.nn.head import HEAD
from cl_engine.nn.hooks import Hook, unit_axis
from cl_engine.nn.net import Net, Params

HeadKind = Literal["linear", "mlp", "mix"]


class FrozenHead:
    """A head that reads a frozen net, in evaluation mode: the net's own, one with a hidden layer, or a mix of all modules.

    ``mix`` is γ Σ softmax(w)_l (A_l h_l + b_l), h_l the output of module l, averaged over places; each module has a linear layer
    A_l, b_l of its own, as modules differ in width.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> head = FrozenHead(net, "mlp", hidden=4)
    >>> {name: tuple(tensor.shape) for name, tensor in head.start(net.init([0, 1]), [0, 1], 0).items()}["hidden.weight"]
    (2, 4, 5)
    """

    def __init__(self, net: Net, kind: HeadKind, hidden: int) -> None:
        """Take the net that is read, and the kind of head; ``hidden`` units of ``mlp``.

        Raises:
            UsageError: for a mix where the net's head is read at places.
        """
        if kind == "mix" and net.places:
            raise UsageError(
                "strategy.head: 'mix' averages the outputs of modules over places, and the net is read at each: use linear or mlp"
            )
        self._net, self._kind, self._hidden = net, kind, hidden

    def start(self, base: Params, seeds: Sequence[int], key: int) -> Params:
        """Return untrained weights ``{name: [S, …]}``, of each seed by itself; linear: the head that ``base`` has."""
        if self._kind == "linear":
            return {name: base[name] for name in HEAD}
        drawn = [rng.tensors(seed, "head", key) for seed in seeds]
        found: Params = {}
        for layer, (outputs, inputs) in self._layers.items():
            bound = inputs**-0.5  # as torch draws linear layers
            for name, shape in ((f"{layer}.weight", (outputs, inputs)), (f"{layer}.bias", (outputs,))):
                rows = [torch.empty(shape).uniform_(-bound, bound, generator=draw) for draw in drawn]
                found[name] = torch.stack(rows).to(self._net.device)
        if self._kind == "mix":
            zeros = torch.zeros(len(seeds), len(self._layers), device=self._net.device)
            found |= {"mix": zeros, "scale": zeros[:, :1] + 1}
        return found

    def logits(self, params: Params, base: Params, x: Tensor) -> Tensor:
        """Return logits ``[N, O, …]`` of one seed, ``base`` being the weights of the net that is read."""
        if self._kind == "linear":
            return self._net.one({**base, **params}, x, training=False)
        if self._kind == "mlp":
            features = self._net.features(base, x, training=False).movedim(1, -1)
            return _layer(params, "out", F.relu(_layer(params, "hidden", features))).movedim(-1, 1)
        shares = torch.softmax(params["mix"], dim=0)
        read = self._outputs(base, x)
        said = [_layer(params, layer, rows) for layer, rows in zip(self._layers, read, strict=True)]
        return params["scale"] * (shares[:, None, None] * torch.stack(said)).sum(dim=0)

    @cached_property
    def _layers(self) -> dict[str, tuple[int, int]]:
        """Return outputs and inputs of each linear layer."""
        if self._kind == "mlp":
            return {"hidden": (self._hidden, self._net.width), "out": (self._net.outputs, self._hidden)}
        base = {name: tensor[0] for name, tensor in self._net.init([0]).items()}
        with torch.no_grad():
            read = self._outputs(base, self._net.example(2))
        return {f"module {place}": (self._net.outputs, rows.shape[1]) for place, rows in enumerate(read)}

    def _outputs(self, base: Params, x: Tensor) -> list[Tensor]:
        """Return what each module of the net gives, ``[N, d]``, from the inputs on."""
        found: dict[str, Tensor] = {}

        def noted(layer: str) -> Hook:
            def note(module: nn.Module, inputs: Any, output: Any) -> Any:
                said = output[0] if isinstance(output, tuple) else output
                found[layer] = pooled(said.movedim(unit_axis(module, said), 1))
                return output

            return note

        layers = ends(self._net)
        self._net.features(base, x, training=False, hooks={layer: noted(layer) for layer in layers})
        return [found[layer] for layer in layers]


def _layer(params: Params, name: str, x: Tensor) -> Tensor:
    return linear(x, params[f"{name}.weight"], params[f"{name}.bias"])
