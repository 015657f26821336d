"""Autoencoders over weight vectors, one a seed, run side by side as batched matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.options import OptionGroup, option

Weights = dict[str, Tensor]
Function = Callable[[Tensor], Tensor]
Activation = Literal["tanh", "elu", "relu", "linear"]
FUNCTIONS: dict[str, Function] = {
    "tanh": torch.tanh,
    "elu": torch.nn.functional.elu,
    "relu": torch.relu,
    "linear": lambda x: x,
}
# derivatives as functions of the function's value, which is at hand after a forward pass
SLOPES: dict[str, Function] = {
    "tanh": lambda value: 1 - value.square(),
    "elu": lambda value: torch.where(value > 0, 1.0, value + 1),
    "relu": lambda value: (value > 0).to(value.dtype),
    "linear": torch.ones_like,
}


class Layers(OptionGroup):
    """Options of the layers of an autoencoder of skills, and of the samples it encodes.

    >>> Layers(latent=4).shape(weights=100).latent
    4
    """

    hidden: list[int] = option([], "widths of the encoder's hidden layers; the decoder has them in opposite order")
    latent: int = option(20, "numbers of a latent code", ge=1)
    chunk: int | None = option(None, "weights a sample holds; left out: the whole net is one sample", ge=1)
    activation: Activation = option("tanh", "activation of hidden layers")
    latent_activation: Activation = option("tanh", "activation of the code")
    output: Literal["linear", "tanh"] = option("linear", "last layer; with tanh no weight beyond ±1 can be recalled")
    scaled: bool = option(True, "samples are divided by their root mean square")

    def shape(self, weights: int) -> Shape:
        """Return the shape of an autoencoder for skills of this many weights."""
        return Shape(
            min(self.chunk or weights, weights),
            tuple(self.hidden),
            self.latent,
            self.activation,
            self.latent_activation,
            self.output,
        )


@dataclass(frozen=True)
class Shape:
    """The widths and activations of an autoencoder: inputs, hidden layers, latent code, and the same layers back.

    >>> shape = Shape(inputs=10, hidden=(6,), latent=2)
    >>> shape.encode(shape.init_encoder([0, 1]), torch.zeros(2, 5, 10)).shape
    torch.Size([2, 5, 2])

    Attributes:
        inputs: numbers of a sample: a whole vector of weights, or a chunk of it.
        hidden: widths of the encoder's hidden layers; the decoder has them in the opposite order.
        latent: numbers of the code.
        activation: of hidden layers; ``tanh``, ``elu``, ``relu`` or ``linear``.
        latent_activation: of the code.
        output: of the last layer; with ``tanh`` no weight beyond ±1 can be given back.
    """

    inputs: int
    hidden: tuple[int, ...]
    latent: int
    activation: str = "tanh"
    latent_activation: str = "tanh"
    output: str = "linear"

    def init_encoder(self, seeds: Sequence[int], *purpose: int | str) -> Weights:
        """Return fresh encoder weights ``{w0: [S, out, in], b0: [S, out], …}``, each seed's derived from that seed."""
        return _init((self.inputs, *self.hidden, self.latent), seeds, "encoder", *purpose)

    def init_decoder(self, seeds: Sequence[int], *purpose: int | str) -> Weights:
        """Return fresh decoder weights, likewise."""
        return _init((self.latent, *self.hidden[::-1], self.inputs), seeds, "decoder", *purpose)

    def encode(self, encoder: Weights, x: Tensor) -> Tensor:
        """Return codes ``[S, N, latent]`` of samples ``[S, N, inputs]``."""
        return self.encoder_values(encoder, x)[-1]

    def encoder_values(self, encoder: Weights, x: Tensor) -> list[Tensor]:
        """Return what each layer of the encoder gives, the code last."""
        return _layers(encoder, x, [*[self.activation] * len(self.hidden), self.latent_activation])

    def decode(self, decoder: Weights, z: Tensor) -> Tensor:
        """Return samples ``[S, N, inputs]`` of codes ``[S, N, latent]``."""
        return _layers(decoder, z, [*[self.activation] * len(self.hidden), self.output])[-1]

    def contraction(self, encoder: Weights, values: Sequence[Tensor]) -> Tensor:
        """Return the exact contractive penalty ``‖∂code/∂x‖²`` (squared Frobenius norm) of each sample, ``[S, N]``.

        Rifai et al. 2011. (The code released with Self-Net takes the slope of a sigmoid for that of tanh, and only the
        last layer's matrix, as a constant.) ``values`` is what `encoder_values` returned.
        """
        kinds = [*[self.activation] * len(self.hidden), self.latent_activation]
        slopes = [SLOPES[kind](value) for kind, value in zip(kinds, values, strict=True)]
        last = len(slopes) - 1
        # jacobian = diag(slope of the code) · W_last · … · diag(slope of layer 0) · W_0, from the left: [S, N, latent, …]
        seeds, samples = values[0].shape[:2]
        jacobian = slopes[last].unsqueeze(-1) * encoder[f"w{last}"].unsqueeze(1)
        for layer in range(last - 1, -1, -1):
            inner = (jacobian * slopes[layer].unsqueeze(-2)).flatten(1, 2)
            if layer == 0 and samples * self.latent > inner.shape[-1]:
                # many samples: ‖A·W‖² = Σ (A·WWᵀ)∘A needs W's Gram matrix once, not A·W for each sample
                gram = encoder["w0"] @ encoder["w0"].transpose(1, 2)
                return ((inner @ gram) * inner).sum(-1).reshape(seeds, samples, self.latent).sum(-1)
            jacobian = (inner @ encoder[f"w{layer}"]).unflatten(1, (samples, self.latent))
        return jacobian.square().sum((-1, -2)).expand(seeds, samples)


def _init(widths: Sequence[int], seeds: Sequence[int], *purpose: int | str) -> Weights:
    """Draw every layer uniformly within ±1/√inputs, as torch initialises Linear."""
    weights: Weights = {}
    for layer, (inside, outside) in enumerate(pairwise(widths)):
        draws = [rng.tensors(seed, "autoencoder", *purpose, layer) for seed in seeds]
        bound = inside**-0.5
        weights[f"w{layer}"] = torch.stack(
            [torch.empty(outside, inside).uniform_(-bound, bound, generator=draw) for draw in draws]
        )
        weights[f"b{layer}"] = torch.stack(
            [torch.empty(outside).uniform_(-bound, bound, generator=draw) for draw in draws]
        )
    return weights


def _layers(weights: Weights, x: Tensor, kinds: Sequence[str]) -> list[Tensor]:
    values = []
    for layer, kind in enumerate(kinds):
        x = torch.baddbmm(weights[f"b{layer}"].unsqueeze(1), x, weights[f"w{layer}"].transpose(1, 2))
        x = FUNCTIONS[kind](x)
        values.append(x)
    return values
