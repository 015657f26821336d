"""SupSup: a subnetwork of a random network for every task, and the task inferred where it is not told."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.masks.events import TaskInferred
from cl_engine.masks.layout import Layout, maskable
from cl_engine.masks.norms import MEANING, NormPolicy, TaskNorms
from cl_engine.masks.store import MaskStore
from cl_engine.masks.superposition import inferred
from cl_engine.masks.thresholds import for_scores, straight_through, top_share
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Params
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy

TRIED = 512  # training rows on which inference of the task is tried after learning it


class SupSup(Strategy):
    """SupSup: supermasks in superposition over a random signed network (Wortsman et al. 2020).

    Weights never change: a sign each and one magnitude a layer, so the network takes one bit a weight. A task learns
    scores; the ``density`` of greatest scores in each layer stay. Where the task is not told, it is the one whose
    coefficient, in a superposition of all, lowers the entropy of the answer most. BatchNorm has statistics of each
    task's own, and no scale and shift of its own, as published.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "supsup", **{"density": 0.2})
    >>> experiment.resolved["strategy"]["density"]
    0.2
    """

    density: float = option(0.3, "share of a layer's weights that a task uses", gt=0, le=1)
    heads: Literal["masked", "trained"] = option(
        "masked", "a head is a mask over a random one, or trained for the task"
    )
    mask_lr: float = option(1e-3, "learning rate of the scores", gt=0)
    mask_optimizer: str = option("adam", "optimiser of the scores")
    norm: NormPolicy = option("statistics", MEANING)
    infer_rows: int = option(1, "successive rows that are taken to be of one task where it is not told", ge=1)
    overlaps: int = option(20, "latest tasks that a mask's overlap is logged with", ge=0)

    def start(self) -> State:
        seeds, layout = len(self.seeds), self._store.layout
        net = self.net.init(self.seeds)
        signs = layout.pack({name: net[name] > 0 for name in layout.shapes})
        fans = [math.prod(shape[1:]) for shape in layout.shapes.values()]
        # He's deviation, with the fan-in that the mask leaves
        scales = torch.tensor([math.sqrt(2 / (fan * self.density)) for fan in fans], device=self.net.device)
        return {
            "backbone": {
                "signs": signs,
                "scales": scales.unsqueeze(0),
                "rest": {name: tensor for name, tensor in net.items() if name not in layout.shapes},
            },
            "masks": self._store.empty(seeds, self.net.device),
            **({"heads": empty_heads(self.net, seeds)} if self.heads == "trained" else {}),
            **self._norms.start(seeds),
        }

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        weights, scores = self._weights(), self._scores(experience)
        params: Tree = {"scores": scores, "norm": self._norms.trained(state, task, self._rest())}
        if self.heads == "trained":
            params["head"] = self._head(task)
        learned = yield from self.fit(
            params,
            self.loss,
            experience,
            frozen={**self._rest(), **weights},
            overrides={"scores": for_scores(self.train, self.mask_optimizer, self.mask_lr)},
        )
        before, after = self._hard(scores), self._hard(learned["scores"])
        self._store.put(state["masks"], task, after)
        if self.heads == "trained":
            state["heads"].put(task, row_of(learned["head"]))
        self._norms.put(state, task, learned.get("norm", {}))
        yield from self._store.events(experience.step, task, state["masks"], before, after, self.overlaps)
        if self.setting != "task":
            x = experience.train.x[:TRIED]
            right = (self._inferred(x) == task).double().mean(dim=1)
            yield TaskInferred(step=experience.step, task_id=task, rows=len(x), right=tuple(right.tolist()))

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        masked = {}
        for name, score in params["scores"].items():
            size = score.abs()
            masked[name] = frozen[name] * straight_through(top_share(size.detach(), self.density), size)
        own = {**params.get("norm", {}), **params.get("head", {})}
        return self.net.one({**frozen, **masked, **own}, x, statistics=self._norms.tracking)

    @torch.no_grad()
    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        if task_id is not None or len(self.state["masks"]) < 2:
            return self.net.all(self._net(task_id or 0), x)
        tasks = self._inferred(x)
        logits = torch.zeros(len(self.seeds), len(x), self.net.outputs, device=x.device)
        for task in tasks.unique().tolist():
            net = self._net(task)
            for seed, mine in enumerate(tasks == task):
                if mine.any():
                    logits[seed, mine] = self.net.all({k: v[seed : seed + 1] for k, v in net.items()}, x[mine])[0]
        return logits

    def fingerprint(self, task_id: int | None) -> int | None:
        masks: Bank = self.state["masks"]
        return None if task_id is None else masks.writes(task_id)

    @cached_property
    def _store(self) -> MaskStore:
        names = maskable(self.net)
        return MaskStore(Layout.of(self.net, [*names, HEAD_WEIGHT] if self.heads == "masked" else names))

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, self.norm)

    def _rest(self) -> Params:
        """Return biases and normalisation as initialised; the bias of a masked head is nothing."""
        rest: Params = dict(self.state["backbone"]["rest"])
        if self.heads == "masked":
            rest[HEAD_BIAS] = torch.zeros_like(rest[HEAD_BIAS])
        return rest

    def _weights(self) -> Params:
        """Return the random signed weights, ``{name: [S, …]}``."""
        backbone = self.state["backbone"]
        signs = self._store.layout.unpack(backbone["signs"])
        scales = backbone["scales"][0].unbind()
        return {
            name: torch.where(plus, scale, -scale) for (name, plus), scale in zip(signs.items(), scales, strict=True)
        }

    def _net(self, task_id: int) -> Params:
        """Return all weights of a task's subnetwork."""
        masks, rest = self._store.of(self.state["masks"], task_id), self._rest()
        weights = {name: weight * masks[name] for name, weight in self._weights().items()}
        return {**rest, **weights, **self._norms.of(self.state, task_id, rest), **self._head(task_id)}

    def _head(self, task_id: int) -> Params:
        if self.heads == "masked":
            return {}
        return head_for(self.state["heads"], task_id, self.state["backbone"]["rest"])

    def _hard(self, scores: Tree) -> Params:
        return {
            name: torch.stack([top_share(one.abs(), self.density) for one in score]) for name, score in scores.items()
        }

    def _scores(self, experience: Experience) -> Params:
        """Return scores drawn uniformly (He et al.), those of a known task's weights above all others."""
        key, layout = experience.key, self._store.layout
        row = torch.stack(
            [torch.rand(layout.size, generator=rng.tensors(seed, "scores", key)) for seed in self.seeds]
        ).to(self.net.device)
        scores = {
            name: (2 * part - 1) / math.sqrt(math.prod(part.shape[2:])) for name, part in layout.named(row).items()
        }
        if experience.task_id >= len(self.state["masks"]):
            return scores
        masks = self._store.of(self.state["masks"], experience.task_id)
        return {name: score + score.sign() * masks[name] * score.abs().max() for name, score in scores.items()}

    def _inferred(self, x: Tensor) -> Tensor:
        """Return the task inferred for every row, ``[S, N]``."""
        tasks = range(len(self.state["masks"]))
        nets = {task: self._net(task) for task in tasks} if len(tasks) <= 50 else {}
        found = []
        for seed in range(len(self.seeds)):

            def weights_of(task: int, seed: int = seed) -> Params:
                net = nets.get(task) or self._net(task)
                return {name: tensor[seed] for name, tensor in net.items() if tensor.is_floating_point()}

            counters = {k: v[seed] for k, v in self._rest().items() if not v.is_floating_point()}
            one = lambda params, rows, counters=counters: self.net.one({**counters, **params}, rows, False)  # noqa: E731
            found.append(inferred(one, weights_of, tasks, x, self.infer_rows))
        return torch.stack(found)
