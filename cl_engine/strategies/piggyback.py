"""Piggyback: a learned mask per task over a frozen network."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.masks import guard
from cl_engine.masks.events import MaskRate
from cl_engine.masks.layout import Layout, some_maskable
from cl_engine.masks.norms import MEANING, NormPolicy, TaskNorms
from cl_engine.masks.store import MaskStore
from cl_engine.masks.thresholds import HARD, Kind, for_scores, rate_of_scores, straight_through
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Params
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.optimizers import Train
from cl_engine.training.rates import mean_share


class Piggyback(Strategy):
    """Piggyback: a binary mask a task over a frozen network, and a head a task (Mallya, Davis & Lazebnik 2018).

    A real-valued score per weight, started at ``score_init``, is trained through a hard threshold by the straight-through
    estimator; the weight counts where the score is above the threshold. Kept is one bit a weight (two in the ternary
    forms) and the head. Weights of layers (`maskable`) are masked, biases are neither masked nor trained.
    Score init, threshold, optimiser and, where there are steps enough, rate are the released code's; the head trains by
    the scenario's options, and scores follow its milestones. BatchNorm is frozen as published, unless ``norm`` says otherwise.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "piggyback", **{"mask_lr": 0.0003})
    >>> experiment.resolved["strategy"]["mask_lr"]
    0.0003
    """

    settings = ("task",)
    per_seed = True

    backbone: Literal["initial", "first_task"] = option(
        "initial", "the frozen net: as the scenario starts it (random or pre-trained), or trained on the first task"
    )
    mask: Kind = option("binary", "values of a mask: 0 and 1; or −1 too, below 0 as released, or below −threshold")
    threshold: float = option(5e-3, "scores above it leave their weight on", ge=0)
    score_init: float = option(1e-2, "score of every weight at the start, or the bound of uniform ones", gt=0)
    init: Literal["constant", "uniform"] = option("constant", "scores start equal, or uniform within ±score_init")
    rescale: Literal["none", "mean", "elementwise"] = option(
        "none", "gradients of scores are divided by the layer's mean |weight|, by each |weight|, or by nothing"
    )
    mask_lr: Annotated[float, Field(gt=0)] | Literal["auto"] = option(
        "auto",
        "learning rate of the scores; auto: 1e-4 as published, or more where an experience has few steps, so that a score "
        "could go from its start to the threshold as often as in published runs (the log says what was used)",
    )
    mask_optimizer: str = option("adam", "optimiser of the scores")
    norm: NormPolicy = option("frozen", MEANING)
    overlaps: int = option(20, "latest tasks that a mask's overlap is logged with", ge=0)

    def start(self) -> State:
        if self.init == "constant" and self.score_init <= self.threshold:
            raise UsageError(
                f"piggyback: score_init ({self.score_init}) must be above threshold ({self.threshold}), "
                "or every weight starts switched off"
            )
        seeds = len(self.seeds)
        return {
            "backbone": self.net.init(self.seeds),
            "masks": self._store.empty(seeds, self.net.device),
            "heads": empty_heads(self.net, seeds),
            **self._norms.start(seeds),
        }

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        if self.backbone == "first_task" and not len(state["masks"]):
            trained = yield from self.fit(state["backbone"], self.loss, experience)
            untrained = {name: state["backbone"][name] for name in (HEAD_WEIGHT, HEAD_BIAS)}
            state["backbone"] = {**trained, **untrained}
            self._keep(task, self._store.of(state["masks"], task), trained, trained)
            return
        how = self._mask_train(experience)
        yield MaskRate(step=experience.step, task_id=task, rate=how.lr, steps=self._steps(experience))
        before = self._scores(experience)
        with guard.frozen(state["backbone"], "piggyback: the backbone"):
            learned = yield from self.fit(
                {
                    "scores": before,
                    "norm": self._norms.trained(state, task, state["backbone"]),
                    "head": self._head(task),
                },
                self.loss,
                experience,
                frozen=state["backbone"],
                overrides={"scores": how},
            )
        after = self._hard(learned["scores"])
        self._keep(task, after, learned.get("norm", {}), learned["head"])
        started = self._hard(before)
        yield from self._store.events(experience.step, task, state["masks"], started, after, self.overlaps)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        if frozen is None:
            return self.net.one(params, x)
        hard = self._hard(params["scores"])
        masks = {
            name: straight_through(hard[name], score, self._gain(frozen[name]))
            for name, score in params["scores"].items()
        }
        weights = {name: frozen[name] * mask for name, mask in masks.items()}
        own = {**params.get("norm", {}), **params["head"]}
        return self.net.one({**frozen, **weights, **own}, x, statistics=self._norms.tracking)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        backbone = self.state["backbone"]
        weights = {name: backbone[name] * mask for name, mask in self._store.of(self.state["masks"], task_id).items()}
        own = {**self._norms.of(self.state, task_id, backbone), **self._head(task_id)}
        return self.net.all({**backbone, **weights, **own}, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        assert task_id is not None
        if task_id < len(self.state["masks"]):
            return int(self.state["masks"].writes(task_id))
        return -1 if self.backbone == "first_task" and len(self.state["masks"]) else 0

    # What follows from the net and the options.

    @cached_property
    def _store(self) -> MaskStore:
        return MaskStore(Layout.of(self.net, some_maskable(self.net, self.name())), signed=self.mask != "binary")

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, self.norm)

    def _hard(self, scores: Tree) -> Params:
        return {name: HARD[self.mask](score, self.threshold) for name, score in scores.items()}

    def _gain(self, weight: Tensor) -> Tensor | float:
        if self.rescale == "none":
            return 1.0
        return 1.0 / (weight.abs().mean() if self.rescale == "mean" else weight.abs()).clamp_min(1e-12)

    def _scores(self, experience: Experience) -> Params:
        """Return the scores that learning starts from: the initial ones, or for a known task some that give its mask."""
        task, shapes, device = experience.task_id, self._store.layout.shapes, self.net.device
        if task < len(self.state["masks"]):
            masks = self._store.of(self.state["masks"], task)
            off = 2 * self.threshold - self.score_init  # as far below the threshold as the start is above it
            below = {"binary": off, "ternary": -self.score_init, "ternary_symmetric": -self.score_init}[self.mask]
            zero = off if self.mask == "binary" else self.threshold / 2 if self.mask == "ternary" else 0.0
            return {
                name: torch.where(mask > 0, self.score_init, torch.where(mask < 0, below, zero))
                for name, mask in masks.items()
            }
        if self.init == "constant":
            return {
                name: torch.full((len(self.seeds), *shape), self.score_init, device=device)
                for name, shape in shapes.items()
            }
        key = experience.key
        draws = [rng.tensors(seed, "scores", key) for seed in self.seeds]
        row = torch.stack([torch.rand(self._store.layout.size, generator=draw) for draw in draws])
        return self._store.layout.named((2 * row - 1).mul(self.score_init).to(device))

    def _head(self, task_id: int) -> Params:
        return head_for(self.state["heads"], task_id, self.state["backbone"])

    def _keep(self, task_id: int, masks: Params, norm: Tree, head: Tree) -> None:
        self._store.put(self.state["masks"], task_id, masks)
        self.state["heads"].put(task_id, row_of(head))
        self._norms.put(self.state, task_id, norm)

    def _steps(self, experience: Experience) -> int:
        return self.train.epochs * self.train.batches(len(experience.train))

    def _mask_train(self, experience: Experience) -> Train:
        """Return how the scores of an experience are trained.

        Raises:
            UsageError: if no score can reach the threshold: Adam moves a score by at most its rate a step.
        """
        steps, epochs = self._steps(experience), self.train.epochs
        # of the steps, as many at the full rate come to as much
        share = mean_share(self.train, steps // epochs)
        way = abs(self.score_init - self.threshold)
        lr = rate_of_scores(self.train, len(experience.train), way) if self.mask_lr == "auto" else self.mask_lr
        bounded = self.mask_optimizer in ("adam", "adamw", "adamax", "nadam", "radam")
        if self.init == "constant" and bounded and lr * steps * share < way * (1 - 1e-6):
            raise UsageError(
                f"piggyback: no mask bit can flip in the {steps} steps of an experience, it takes {math.ceil(way / lr)} at "
                f"mask_lr = {lr}: raise mask_lr or train.epochs, lower train.batch, or let mask_lr be 'auto'"
            )
        return for_scores(self.train, self.mask_optimizer, lr)
