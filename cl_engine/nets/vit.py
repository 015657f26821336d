"""A vision transformer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.architecture import Architecture
from cl_engine.nn.attention import TransformerLayer
from cl_engine.options import option


class Vit(Architecture):
    """Vision transformer (Dosovitskiy et al. 2021): patches of an image as tokens, with learned places.

    The head reads the mean over patches (Beyer et al. 2022), or, as first published, a token of its own; where answers are asked
    for at places, each patch. With ``patch = 16, width = 192, layers = 12, heads = 3, hidden = 768`` it is ViT-Ti/16.

    >>> net = Vit()
    >>> net.configure({"patch": 7, "layers": 2}, "net")
    >>> net.build((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    patch: int = option(4, "pixels of a patch's side; must divide the images' sides", ge=1)
    width: int = option(64, "features of a token", ge=1)
    layers: int = option(4, "layers", ge=1)
    heads: int = option(4, "heads of attention; must divide the width", ge=1)
    hidden: int = option(128, "units between the two linear layers of each", ge=1)
    read: Literal["mean", "token"] = option("mean", "what the head reads: the mean over patches, or a token of its own")

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = input_shape
        if height % self.patch or width % self.patch:
            raise UsageError(f"net.patch: patches of {self.patch} do not divide images of {height} × {width} pixels")
        if self.width % self.heads:
            raise UsageError(f"net.heads: {self.heads} heads do not divide a width of {self.width}")
        return _Vit(channels, (height // self.patch, width // self.patch), outputs, self)


class _Vit(nn.Module):
    """What is cut into modules at ``stages``."""

    def __init__(self, channels: int, grid: tuple[int, int], outputs: int, how: Vit) -> None:
        super().__init__()
        self.grid, self.places_asked = grid, how.places
        own = how.read == "token" and not how.places
        self.patches = nn.Conv2d(channels, how.width, how.patch, stride=how.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, how.width)) if own else None
        self.places = nn.Parameter(torch.randn(own + grid[0] * grid[1], how.width) * 0.02)
        self.layers = nn.ModuleList([TransformerLayer(how.width, how.heads, how.hidden) for _ in range(how.layers)])
        self.norm = nn.LayerNorm(how.width)
        self.head = how.head_of(how.width, outputs)
        *first, last = (f"layers.{k}" for k in range(how.layers))
        begin = ("patches", "places", "token") if own else ("patches", "places")
        self.stages = (begin, *((layer,) for layer in first), (last, "norm"))

    def forward(self, x: Tensor) -> Tensor:
        state = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            state = torch.cat([self.token.expand(len(state), -1, -1), state], dim=1)
        state = state + self.places
        for layer in self.layers:
            state = layer(state)
        state = self.norm(state)
        if self.places_asked:
            return self.head(state.transpose(1, 2).unflatten(2, self.grid))  # type: ignore[no-any-return]
        return self.head(state.mean(dim=1) if self.token is None else state[:, 0])  # type: ignore[no-any-return]
