"""The contract of adapters: what a task keeps beside a frozen net, as a row of numbers, and what it makes of the net."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.masks.layout import Layout
from cl_engine.masks.norms import TaskNorms
from cl_engine.nn.hooks import Hook
from cl_engine.nn.net import Params


class Adapter(ABC):
    """A part that a task keeps beside a net that stays as it is: some numbers, and a function of the net's weights and these.

    What a task keeps are the tensors of `layout`, and one row of a bank holds them all; of normalisation layers a row of another
    (`norms`). `applied` gives the weights that are other ones with them, `hooks` what is done to outputs of layers; either may be
    empty. Both are plain arithmetic on one seed's tensors, so that they run under ``torch.vmap`` and can be differentiated.
    Nothing is put into the net: to answer for one task after another costs the same whichever they are and however many.

    >>> from torch import nn
    >>> from cl_engine.adapters.low_rank import LowRank
    >>> from cl_engine.nn.net import Net
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> LowRank(net, rank=2).bits  # 32 · 2 · (4 + 6)
    640

    Attributes:
        layout: the names and shapes of the numbers of a task.
        norms: the part that is normalisation; None: it stays as it is.
        statistics: which BatchNorm layers use and update the statistics of the batch: all, none, or those of these names.
    """

    layout: Layout
    norms: TaskNorms | None = None
    statistics: bool | list[str] = False

    @abstractmethod
    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return what a task starts from, ``{name: [S, …]}``: numbers that leave the net ``base`` (``[S, …]``) as it is."""

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the weights of one seed's net ``base`` that a task's numbers change, as they are then."""
        return {}

    def hooks(self, own: Mapping[str, Tensor]) -> dict[str, Hook]:
        """Return what one seed's numbers do to the outputs of layers, for `Net.one`."""
        return {}

    def settled(self, own: Mapping[str, Tensor]) -> Params:
        """Return what is worth keeping of learned numbers ``{name: [S, …]}``: others that change the net as they do."""
        return dict(own)

    @property
    def bits(self) -> int:
        """Number of bits that a task of one seed keeps."""
        return 32 * (self.layout.size + (self.norms.layout.size if self.norms else 0))

    def empty(self, seeds: int, device: torch.device) -> Bank:
        """Return a bank for rows ``[S, size]`` that holds none yet."""
        return Bank.empty(seeds, (self.layout.size,), device=device)

    def of(self, bank: Bank, task_id: int) -> Params:
        """Return the numbers of a task that is in a bank, ``{name: [S, …]}``.

        They are a copy: products with small matrices are rounded by where in memory these begin, which in a bank is chance.
        """
        return self.layout.named(bank[task_id].clone())

    def put(self, bank: Bank, task_id: int, own: Mapping[str, Tensor]) -> None:
        """Keep the numbers of a task as its row of a bank; no other row is touched."""
        bank.put(task_id, self.layout.row(own))
