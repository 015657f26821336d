"""A hypernetwork: a small net that makes the weights of a net from a code (Ha, Dai & Le 2017; von Oswald et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cl_engine.core import rng
from cl_engine.nn.fast_linear import linear
from cl_engine.nn.net import Params
from cl_engine.options import OptionGroup, option
from cl_engine.recall.manifest import Manifest, joined

WHOLE = 50_000  # weights that are made at once; the last layer is nearly all of a generator that makes more
CHUNK = 7_500  # … and else so many at a time, as released for a hundred tasks
OCTAVES = 4  # of the Fourier features of time
LAST_LAYER = 0.01  # deviation of its first weights, so that nets begin near the start they share
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "elu": functional.elu,
    "silu": functional.silu,
}


class GeneratorOptions(OptionGroup):
    """Options of what makes nets from codes, and of how past codes are kept.

    >>> GeneratorOptions.of({"hidden": [10, 10], "code": 96}).hidden
    [10, 10]
    """

    code: int = option(8, "numbers in the code of a task", ge=1)
    hidden: list[int] = option([64, 64], "widths of the generator's hidden layers")
    activation: Literal["relu", "elu", "silu"] = option("silu", "activation of the generator's hidden layers")
    chunk: int | None = option(
        None,
        f"weights made at a time, each chunk by a code of its own; left out: all, of more than {WHOLE:,} weights {CHUNK:,}",
        ge=1,
    )
    chunk_code: int = option(8, "numbers in the code of a chunk", ge=1)
    beta: float = option(1.0, "weight of what holds past codes to the nets they made before the task", ge=0)
    rehearse: int = option(32, "past codes held at each step, at most, drawn anew", ge=1)
    warm: bool = option(False, "a new code starts from the past one that fits its rows best; else it is drawn")


class Generator:
    """The change of a net's weights that a code makes, as a function of the generator's own weights φ.

    A code, the code of a chunk of the weights and, where there is one, the time in Fourier features go through hidden layers
    and a linear one. What comes out is scaled tensor by tensor, to 1/√(inputs of a unit), as weights themselves are.

    >>> net_of = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    >>> from cl_engine.nn.net import Net
    >>> net = Net(net_of, (1, 2, 2))
    >>> generator = Generator(Manifest.of(net, net.init([0])), GeneratorOptions.of({"chunk": 10}), torch.device("cpu"))
    >>> phi = {name: tensor[0] for name, tensor in generator.init([0]).items()}
    >>> generator.chunks, generator.change(phi, torch.zeros(5, 8)).shape
    (2, torch.Size([5, 15]))

    Attributes:
        manifest: the tensors whose weights are made, and those beside.
        size: number P of weights made.
        chunks: number of chunks that they are made in.
    """

    def __init__(
        self, manifest: Manifest, options: GeneratorOptions, device: torch.device, *, timed: bool = False
    ) -> None:
        """Set up for the tensors inside of a manifest; ``timed``: codes come with times."""
        self.options, self.manifest, self.size = options, manifest, manifest.size
        chunk = options.chunk or (self.size if self.size <= WHOLE else CHUNK)
        self.chunk = min(chunk, self.size)
        self.chunks = math.ceil(self.size / self.chunk)
        inputs = options.code + timed * (1 + 2 * OCTAVES) + (self.chunks > 1) * options.chunk_code
        self._widths = [inputs, *options.hidden, self.chunk]
        self._device, self._activation = device, ACTIVATIONS[options.activation]
        self._scale = _scales(manifest).to(device)

    def init(self, seeds: Sequence[int]) -> Params:
        """Return φ to start from, ``{name: [S, …]}``: layers as torch draws them, but for small weights in the last."""
        drawn = [self._drawn(rng.tensors(seed, "generator")) for seed in seeds]
        return {name: torch.stack([one[name] for one in drawn]).to(self._device) for name in drawn[0]}

    def first_codes(self, seeds: Sequence[int], task_id: int) -> Tensor:
        """Return the code ``[S, d]`` that a task starts from: standard normal."""
        drawn = [torch.randn(self.options.code, generator=rng.tensors(seed, "code", task_id)) for seed in seeds]
        return torch.stack(drawn).to(self._device)

    def change(self, phi: Params, codes: Tensor, times: Tensor | None = None) -> Tensor:
        """Return what codes ``[n, d]`` of one seed, at ``times [n]`` in 0 to 1, add to the start: ``[n, P]``."""
        given = codes if times is None else torch.cat([codes, fourier_features(times)], dim=-1)
        x = given.unsqueeze(-2).expand(-1, self.chunks, -1)
        if self.chunks > 1:
            x = torch.cat([x, phi["generator.chunks"].expand(len(codes), -1, -1)], dim=-1)
        for layer in range(last := len(self._widths) - 2):
            x = self._activation(linear(x, *_layer(phi, layer)))
        return joined(linear(x, *_layer(phi, last)), self.size) * self._scale

    def _drawn(self, draw: torch.Generator) -> Params:
        phi: Params = {}
        for layer, (inputs, outputs) in enumerate(zip(self._widths, self._widths[1:], strict=False)):
            if layer < len(self._widths) - 2:
                bound = 1 / math.sqrt(inputs)
                weight, bias = (
                    torch.rand(*s, generator=draw) * 2 * bound - bound for s in ((outputs, inputs), (outputs,))
                )
            else:
                weight, bias = torch.randn(outputs, inputs, generator=draw) * LAST_LAYER, torch.zeros(outputs)
            phi |= {f"generator.{layer}.weight": weight, f"generator.{layer}.bias": bias}
        if self.chunks > 1:
            phi["generator.chunks"] = torch.randn(self.chunks, self.options.chunk_code, generator=draw)
        return phi


def fourier_features(times: Tensor) -> Tensor:
    """Return times ``[n]`` in 0 to 1 with their sines and cosines, an octave after the other: ``[n, 1 + 2 · OCTAVES]``.

    >>> fourier_features(torch.tensor([0.0, 0.5])).shape
    torch.Size([2, 9])
    """
    angles = times.unsqueeze(-1) * math.pi * 2.0 ** torch.arange(OCTAVES, device=times.device)
    return torch.cat([times.unsqueeze(-1), angles.sin(), angles.cos()], dim=-1)


def drawn_past(past: Sequence[int], count: int, *purpose: int | str) -> Sequence[int]:
    """Return the past codes to be held at a step: all, or ``count`` of them drawn for this purpose.

    >>> drawn_past([0, 1, 2], 32, 5)
    [0, 1, 2]
    """
    if len(past) <= count:
        return past
    chosen = rng.arrays(0, "past codes", *purpose).choice(len(past), count, replace=False)
    return [past[place] for place in chosen]


def _layer(phi: Params, number: int) -> tuple[Tensor, Tensor]:
    return phi[f"generator.{number}.weight"], phi[f"generator.{number}.bias"]


def _scales(manifest: Manifest) -> Tensor:
    """Return a factor for each weight ``[P]``: 1/√(inputs of a unit); of a bias that of the tensor before it."""
    scale, parts = 1.0, []
    for entry in manifest.inside:
        if len(entry.shape) > 1:
            scale = 1 / math.sqrt(entry.size / entry.shape[0])
        parts.append(torch.full((entry.size,), scale))
    return torch.cat(parts)
