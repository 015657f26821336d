"""Masks of many tasks: bits of a row of one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.masks.events import LayerMask, MaskLearned, MaskOverlap
from cl_engine.masks.layout import Layout
from cl_engine.nn.net import Params


class MaskStore:
    """Packs masks with the values 0 and 1 (one bit a weight), or −1, 0 and 1 (two bits).

    >>> store = MaskStore(Layout({"w": (3,)}))
    >>> bank = store.empty(1, torch.device("cpu"))
    >>> store.put(bank, 0, {"w": torch.tensor([[1.0, 0.0, 1.0]])})
    >>> store.of(bank, 0)["w"]
    tensor([[1., 0., 1.]])
    """

    def __init__(self, layout: Layout, *, signed: bool = False) -> None:
        """Set up for masks over the tensors of ``layout``."""
        self.layout, self.planes = layout, 2 if signed else 1

    def empty(self, seeds: int, device: torch.device) -> Bank:
        """Return a bank without a mask; its rows are bytes ``[S, planes · packed]``."""
        return Bank.empty(seeds, (self.planes * self.layout.packed,), torch.uint8, device)

    def put(self, bank: Bank, task_id: int, masks: Mapping[str, Tensor]) -> None:
        """Keep the masks ``{name: [S, …]}`` of a task."""
        planes = [self.layout.pack({name: mask != 0 for name, mask in masks.items()})]
        if self.planes == 2:
            planes.append(self.layout.pack({name: mask < 0 for name, mask in masks.items()}))
        bank.put(task_id, torch.cat(planes, dim=1))

    def of(self, bank: Bank, task_id: int) -> Params:
        """Return the masks of a task, ``{name: [S, …]}`` float32; all ones for a task not yet met."""
        if task_id >= len(bank):
            seeds, device = bank.rows.shape[0], bank.rows.device
            return {name: torch.ones(seeds, *shape, device=device) for name, shape in self.layout.shapes.items()}
        row = bank[task_id]
        on = self.layout.unpack(row[:, : self.layout.packed])
        if self.planes == 1:
            return {name: bits.to(torch.float32) for name, bits in on.items()}
        negative = self.layout.unpack(row[:, self.layout.packed :])
        return {name: bits.to(torch.float32) - 2.0 * negative[name] for name, bits in on.items()}

    def events(
        self, step: int, task_id: int, bank: Bank, before: Mapping[str, Tensor], after: Mapping[str, Tensor], most: int
    ) -> Iterator[MaskLearned | LayerMask | MaskOverlap]:
        """Yield the events of a mask just kept: shares flipped and zeroed, and overlap with the last ``most`` other tasks."""
        others = [other for other in range(len(bank)) if other != task_id]
        latest = ((other, self.of(bank, other)) for other in others[max(0, len(others) - most) :])
        yield from told(step, task_id, before, after, latest)


def told(
    step: int,
    task_id: int,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    others: Iterable[tuple[int, Params]],
) -> Iterator[MaskLearned | LayerMask | MaskOverlap]:
    """Yield the events of a mask: shares flipped and zeroed, of all and layer by layer, and overlap with those of other tasks."""
    flipped = {name: (after[name] != before[name]).flatten(1) for name in after}
    zeroed = {name: (mask == 0).flatten(1) for name, mask in after.items()}
    yield MaskLearned(
        step=step,
        task_id=task_id,
        flipped=_share(torch.cat(list(flipped.values()), dim=1)),
        zeroed=_share(torch.cat(list(zeroed.values()), dim=1)),
    )
    for name in after:
        yield LayerMask(
            step=step, task_id=task_id, part=name, flipped=_share(flipped[name]), zeroed=_share(zeroed[name])
        )
    for other, theirs in others:
        for name, mask in after.items():
            jaccard = tuple(_jaccard(mask, theirs[name]).tolist())
            yield MaskOverlap(step=step, task_id=task_id, other=other, part=name, jaccard=jaccard)


def _share(bits: Tensor) -> tuple[float, ...]:
    return tuple(bits.to(torch.float64).mean(dim=1).tolist())


def _jaccard(one: Tensor, other: Tensor) -> Tensor:
    """Return |A ∩ B| / |A ∪ B| of what two masks ``[S, …]`` leave on; 1 where both are empty."""
    a, b = (one != 0).flatten(1), (other != 0).flatten(1)
    both, either = (a & b).sum(dim=1), (a | b).sum(dim=1)
    return torch.where(either > 0, both / either.clamp_min(1), torch.ones_like(both, dtype=torch.float32))
