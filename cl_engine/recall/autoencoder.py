"""Autoencoders over weight vectors, one a seed, run side by side as batched matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cl_engine.core import rng

Weights = dict[str, Tensor]
Function = Callable[[Tensor], Tensor]
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


@dataclass(frozen=True)
class Shape:
    """Widths and activations: inputs, hidden layers, latent code, and the same layers back.

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
