"""Validation rows of a fit, as a seed group is tested on them after every epoch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.tree import Tree
from cl_engine.nn.target import quality
from cl_engine.targets.classes import Classes
from cl_engine.training.group_state import GroupState


class GroupValidation(GroupState):
    """The part of a seed group that answers: midway, and on the validation rows, which decide on weights, end and rates.

    >>> sorted(GroupValidation.__abstractmethods__ - GroupState.__abstractmethods__)
    ['logits', 'whole']
    """

    frozen: Tree | None
    loss: Callable[..., Tensor]
    numbers: list[Any]

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Return logits ``[S, N, C]`` of the seeds of this group."""

    @abstractmethod
    def whole(self) -> Tree:
        """Return the tree as it answers now, with the axis of seeds in front."""

    def validate(self) -> None:
        """Test on the validation rows, if there are any, and keep the weights of the seeds that have never been better."""
        if self.job.validation is not None and not self.early_stopping.enough:
            x, y = (rows.to(self.job.net.device) for rows in self.job.validation)
            worth = self._score(x, y) if self.job.judge == "accuracy" else -self._loss_on(x, y)
            self.early_stopping.look(worth, self.whole())
            self.rates.judge(worth)

    def _score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the score of each seed on rows ``[S]``, more of which is better."""
        return quality(self.job.target or Classes.of(classes=self.job.net.outputs), self.logits(x), y)

    @torch.no_grad()
    def _loss_on(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss ``[S]`` on rows, with the numbers of the last batch of an epoch."""
        total, net, numbers = torch.zeros_like(self.total), self.job.net, [column[-1] for column in self.numbers]
        for index in torch.arange(len(y), device=y.device).split(self.job.train.batch):
            own = index.expand(len(self.seeds), -1)
            rows = (net.laid_out(net.prepare(self.pick(x, own))), self.pick(y, own))
            total += self.loss(self.answering, self.frozen, *rows, *numbers) * len(index)
        return total / len(y)

    def stopped_early(self) -> bool:
        """Return whether every seed has had enough."""
        return self.early_stopping.enough

    def result(self) -> Tree:
        """Return the trained tree, with the axis of seeds in front."""
        return (self.early_stopping.params if self.job.keep_best else None) or self.whole()
