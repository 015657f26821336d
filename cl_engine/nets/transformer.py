"""A transformer over tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.architecture import Architecture
from cl_engine.nn.attention import TransformerLayer
from cl_engine.options import option

PADDING = 0  # the token that stands where a row has no more


class Transformer(Architecture):
    """Transformer encoder over tokens, normalised before each part (Vaswani et al. 2017; Xiong et al. 2020).

    Tokens are embedded with learned positions; the head reads the mean over the tokens that are not padding. All of its
    weights but the embeddings and norms are in linear layers, so that masks and modules reach them.

    >>> net = Transformer()
    >>> net.configure({"vocabulary": 50}, "net")
    >>> net.build((12,), 4)(torch.ones(2, 12, dtype=torch.int64)).shape
    torch.Size([2, 4])
    """

    vocabulary: int | None = option(None, "number of tokens; left out: as many as the source has", ge=1)
    width: int = option(64, "features of a token", ge=1)
    layers: int = option(2, "layers", ge=1)
    heads: int = option(4, "heads of attention; must divide the width", ge=1)
    hidden: int = option(128, "units between the two linear layers of each", ge=1)

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if len(input_shape) != 1:
            raise UsageError(f"net.name: 'transformer' reads rows of tokens, shape [length], found {input_shape}")
        if self.vocabulary is None:
            raise UsageError("net.vocabulary is missing: the inputs are no tokens of a known number")
        if self.width % self.heads:
            raise UsageError(f"net.heads: {self.heads} heads do not divide a width of {self.width}")
        return _Transformer(self.vocabulary, input_shape[0], outputs, self)


class _Transformer(nn.Module):
    """What is cut into modules at ``stages``."""

    def __init__(self, vocabulary: int, length: int, outputs: int, how: Transformer) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, how.width)
        self.places = nn.Parameter(torch.randn(length, how.width) * 0.02)
        self.layers = nn.ModuleList([TransformerLayer(how.width, how.heads, how.hidden) for _ in range(how.layers)])
        self.norm = nn.LayerNorm(how.width)
        self.head = nn.Linear(how.width, outputs)
        *first, last = (f"layers.{k}" for k in range(how.layers))
        self.stages = (("places", "tokens"), *((layer,) for layer in first), (last, "norm"))
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = x.long()
        hidden = x == PADDING
        state = self.tokens(x) + self.places
        for layer in self.layers:
            state = layer(state, hidden)
        shown = (~hidden).unsqueeze(-1).to(state.dtype)
        mean = (self.norm(state) * shown).sum(dim=1) / shown.sum(dim=1).clamp_min(1)
        return self.head(mean)  # type: ignore[no-any-return]
