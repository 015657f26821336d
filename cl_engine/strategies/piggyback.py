"""Piggyback: a learned binary mask per task over a frozen network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.bank import Bank
from cl_engine.errors import UsageError
from cl_engine.events import StrategyEvent
from cl_engine.fit import Train, Tree
from cl_engine.heads import empty_heads, head_of, row_of
from cl_engine.memory import State
from cl_engine.net import HEAD_BIAS, HEAD_WEIGHT, Params
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.stream import Experience


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLearned(StrategyEvent):
    """A mask was learned: shares of all masked weights that changed since the start, and that are off, by seed."""

    task_id: int
    flipped: tuple[float, ...]
    zeroed: tuple[float, ...]


class Piggyback(Strategy):
    """Piggyback: a binary mask a task over a frozen network, and a head a task (Mallya, Davis & Lazebnik 2018).

    A real-valued score per weight, started at ``score_init``, is trained through a hard threshold by the straight-through
    estimator; the weight counts where the score is above the threshold. Kept is one bit a weight and the head. Weights
    of linear and convolution layers are masked, biases and normalisation are not; BatchNorm stays in evaluation mode.
    Score init, threshold, optimiser and rate are the released code's; the head trains by the scenario's options.
    """

    settings = ("task",)

    backbone: Literal["random", "first_task"] = option("random", "the frozen net: as initialised, or trained on task 0")
    threshold: float = option(5e-3, "scores above it leave their weight on")
    score_init: float = option(1e-2, "score of every weight at the start; above the threshold")
    mask_lr: float = option(1e-4, "learning rate of the scores", gt=0)
    mask_optimizer: str = option("adam", "optimiser of the scores")

    def start(self) -> State:
        if self.score_init <= self.threshold:
            raise UsageError(
                f"piggyback: score_init ({self.score_init}) must be above threshold ({self.threshold}), "
                "or every weight starts switched off"
            )
        backbone = self.net.init(self.seeds)
        bits = sum(backbone[name][0].numel() for name in _maskable(backbone))
        masks = Bank.empty(len(self.seeds), (math.ceil(bits / 8),), torch.uint8, self.net.device)
        return {"backbone": backbone, "masks": masks, "heads": empty_heads(self.net, len(self.seeds))}

    def learn(self, experience: Experience) -> Learning:
        task, masks = experience.task_id, self.state["masks"]
        if self.backbone == "first_task" and not len(masks):
            trained = yield from self.fit(self.state["backbone"], self.loss, experience)
            untrained = {name: self.state["backbone"][name] for name in (HEAD_WEIGHT, HEAD_BIAS)}
            self.state["backbone"] = {**trained, **untrained}
            self._keep(task, self._mask(task), trained)
            return
        self._refuse_too_few_steps(experience)
        before = self._mask(task)
        low = 2 * self.threshold - self.score_init  # as far below the threshold as the start is above it
        scores = {name: torch.where(on, self.score_init, low) for name, on in before.items()}
        rates = Train(optimizer=self.mask_optimizer, lr=self.mask_lr)
        learned = yield from self.fit(
            {"scores": scores, "head": self._head(task)},
            self.loss,
            experience,
            frozen=self.state["backbone"],
            overrides={"scores": rates},
            logits=self.logits,
        )
        after = {name: score > self.threshold for name, score in learned["scores"].items()}
        self._keep(task, after, learned["head"])
        yield MaskLearned(
            step=experience.step,
            task_id=task,
            flipped=_share({name: after[name] != before[name] for name in after}),
            zeroed=_share({name: ~on for name, on in after.items()}),
        )

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        if frozen is None:
            return self.net.one(params, x)
        on = {name: _straight_through(score, self.threshold) for name, score in params["scores"].items()}
        weights = {name: frozen[name] * on[name] for name in on}
        return self.net.one({**frozen, **weights, **params["head"]}, x, training=False)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        backbone = self.state["backbone"]
        weights = {name: backbone[name] * on for name, on in self._mask(task_id).items()}
        return self.net.all({**backbone, **weights, **self._head(task_id)}, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        assert task_id is not None
        if task_id < len(self.state["masks"]):
            return int(self.state["masks"].writes(task_id))
        return -1 if self.backbone == "first_task" and len(self.state["masks"]) else 0

    def _head(self, task_id: int) -> Params:
        heads: Bank = self.state["heads"]
        if task_id < len(heads):
            return head_of(heads[task_id])
        return {name: self.state["backbone"][name] for name in (HEAD_WEIGHT, HEAD_BIAS)}

    def _mask(self, task_id: int) -> dict[str, Tensor]:
        """Return the mask of a task, all on for a task not yet met: booleans ``[S, …]`` by weight."""
        masks, backbone = self.state["masks"], self.state["backbone"]
        if task_id >= len(masks):
            return {name: torch.ones_like(backbone[name], dtype=torch.bool) for name in _maskable(backbone)}
        sizes = [backbone[name][0].numel() for name in _maskable(backbone)]
        bits = np.unpackbits(masks[task_id].cpu().numpy(), axis=1, count=sum(sizes))
        parts = torch.from_numpy(bits).to(self.net.device, torch.bool).split(sizes, dim=1)
        return {name: part.reshape(backbone[name].shape) for name, part in zip(_maskable(backbone), parts, strict=True)}

    def _keep(self, task_id: int, on: dict[str, Tensor], head: Params) -> None:
        flat = (
            torch.cat([on[name].flatten(1) for name in _maskable(self.state["backbone"])], dim=1)
            .to(torch.uint8)
            .cpu()
            .numpy()
        )
        packed = torch.from_numpy(np.packbits(flat, axis=1)).to(self.net.device)
        self.state["masks"].put(task_id, packed)
        self.state["heads"].put(task_id, row_of(head))

    def _refuse_too_few_steps(self, experience: Experience) -> None:
        """Refuse a fit in which no score can reach the threshold: Adam moves a score by at most its rate a step."""
        steps = self.train.epochs * math.ceil(len(experience.train) / self.train.batch)
        needed = math.ceil((self.score_init - self.threshold) / self.mask_lr)
        if self.mask_optimizer == "adam" and steps < needed:
            raise UsageError(
                f"piggyback: no mask bit can flip in the {steps} steps of an experience, it takes {needed} at "
                f"mask_lr = {self.mask_lr}: raise mask_lr or train.epochs, or lower train.batch"
            )


def _maskable(params: Params) -> list[str]:
    """Return the names of the weights of linear and convolution layers, but for the head's."""
    return [name for name, tensor in params.items() if tensor.ndim > 2 and name != HEAD_WEIGHT]


def _straight_through(score: Tensor, threshold: float) -> Tensor:
    """Return 1 where the score is above the threshold, else 0; its gradient is that of the identity."""
    return (score > threshold).to(score.dtype) + (score - score.detach())


def _share(parts: dict[str, Tensor]) -> tuple[float, ...]:
    total = sum(part[0].numel() for part in parts.values())
    counts = torch.stack([part.flatten(1).sum(dim=1) for part in parts.values()]).sum(dim=0)
    return tuple(count / total for count in counts.tolist())
