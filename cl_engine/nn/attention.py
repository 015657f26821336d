"""Self-attention and the layer of a transformer, all of whose weights but those of norms are in linear layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = -1e9  # what is added to a score that is not to count


class SelfAttention(nn.Module):
    """Self-attention of several heads (Vaswani et al. 2017) over tokens ``[N, L, width]``.

    >>> SelfAttention(width=8, heads=2)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        """Make the four linear layers; ``heads`` divides ``width``."""
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return what tokens ``[N, L, width]`` take from each other; from those that are ``hidden [N, L]`` nothing."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        found = _attended(query, key, value, None if hidden is None else hidden[:, None, None])
        return self.out(found.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


def _attended(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None) -> Tensor:
    """Return the values ``[N, heads, L, D]`` that each query takes together."""
    if torch._C._are_functorch_transforms_active():  # torch has no rule to run its kernel for CPUs under vmap
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        shares: Tensor = (scores if hidden is None else scores.masked_fill(hidden, LEAST)).softmax(dim=-1)
        return shares @ value
    mask = None
    if hidden is not None:
        mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device).masked_fill(hidden, LEAST)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class TransformerLayer(nn.Module):
    """Attention, then two linear layers with GELU between them; each is normalised before and added (Xiong et al. 2020).

    >>> TransformerLayer(width=8, heads=2, hidden=16)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        """Make a layer for tokens of so many features, with ``hidden`` units between its linear layers."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return tokens ``[N, L, width]``; from those that are ``hidden [N, L]`` others take nothing."""
        x = x + self.attention(self.norm1(x), hidden)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))  # type: ignore[no-any-return]
