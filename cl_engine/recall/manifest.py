"""The weights of a net as one vector and back, by an explicit list of its tensors; and vectors in chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net, Params

Kind = Literal["weight", "head", "statistic"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the net: its name, its shape for one seed, its type, and what it is.

    >>> Entry("head.bias", (10,), torch.float32, "head").size
    10
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: Kind

    @property
    def size(self) -> int:
        """Number of its elements."""
        return torch.Size(self.shape).numel()


@dataclass(frozen=True)
class Manifest:
    """The tensors that a vector of weights consists of, in order, and those that are kept beside it.

    >>> net = Net(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), (1, 2, 2))
    >>> Manifest.of(net, net.init([0])).size
    15

    Attributes:
        inside: tensors that are part of the vector, float32.
        outside: tensors kept beside it as they are: buffers (BatchNorm statistics, counters), weights the net has frozen,
            heads if so wished.
    """

    inside: tuple[Entry, ...]
    outside: tuple[Entry, ...]

    @classmethod
    def of(cls, net: Net, params: Mapping[str, Tensor], *, heads_inside: bool = True) -> Manifest:
        """Return the manifest of a net's tensors ``{name: [S, …]}``; only float32 weights can stand in the vector."""
        entries = [
            Entry(name, tuple(tensor.shape[1:]), tensor.dtype, _kind(net, name)) for name, tensor in params.items()
        ]
        kinds = ("weight", "head") if heads_inside else ("weight",)
        chosen = [entry.kind in kinds and entry.dtype == torch.float32 for entry in entries]
        inside = tuple(entry for entry, yes in zip(entries, chosen, strict=True) if yes)
        return cls(inside, tuple(entry for entry, yes in zip(entries, chosen, strict=True) if not yes))

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(entry.size for entry in self.inside)

    @property
    def bytes(self) -> int:
        """Bytes of one net kept whole, with all that stands outside the vector."""
        return sum(entry.size * entry.dtype.itemsize for entry in (*self.inside, *self.outside))

    def vector(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return the tensors inside as one vector ``[S, P]``."""
        return torch.cat(
            [params[entry.name].detach().reshape(len(params[entry.name]), -1) for entry in self.inside], dim=1
        )

    def rest(self, params: Mapping[str, Tensor]) -> Params:
        """Return the tensors outside."""
        return {entry.name: params[entry.name].detach() for entry in self.outside}

    def params(self, vector: Tensor, rest: Mapping[str, Tensor]) -> Params:
        """Return the net ``{name: [S, …]}`` of a vector ``[S, P]`` and the tensors outside: the inverse of both."""
        parts = vector.split([entry.size for entry in self.inside], dim=1)
        inside = {
            entry.name: part.reshape(len(vector), *entry.shape) for entry, part in zip(self.inside, parts, strict=True)
        }
        return {**inside, **rest}


def _kind(net: Net, name: str) -> Kind:
    if net.is_held(name):  # numbers that are none of the net's, as an adapter's, are not
        return "statistic"
    return "head" if name in (HEAD_WEIGHT, HEAD_BIAS) else "weight"


def chunked(vectors: Tensor, size: int) -> Tensor:
    """Return ``[…, P]`` as ``[…, C, size]``: C chunks of equal size, the last one filled up with zeros."""
    count = -(-vectors.shape[-1] // size)
    padded: Tensor = torch.nn.functional.pad(vectors, (0, count * size - vectors.shape[-1]))
    return padded.reshape(*padded.shape[:-1], count, size)


def joined(chunks: Tensor, length: int) -> Tensor:
    """Return ``[…, C, size]`` as ``[…, length]``: the inverse of `chunked`."""
    return chunks.flatten(-2)[..., :length]
