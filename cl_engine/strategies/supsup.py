"""SupSup: a subnetwork of a random network for every task, and the task inferred where it is not told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.masks.events import TaskInferred
from cl_engine.masks.layout import Layout, bias_of, maskable
from cl_engine.masks.norms import MEANING, NormPolicy, TaskNorms
from cl_engine.masks.store import MaskStore
from cl_engine.masks.superposition import inferred
from cl_engine.masks.thresholds import erdos_renyi_density, for_scores, straight_through, top_share
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Params
from cl_engine.nn.target import Target
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import other_than_classes

TRIED = 512  # training rows on which inference of the task is tried after learning it


class SupSup(Strategy):
    """SupSup: supermasks in superposition over a random signed network (Wortsman et al. 2020).

    Weights never change: a sign each and one magnitude a layer, so the network takes one bit a weight. A task learns
    scores; the ``density`` of greatest scores in each layer stay. Where the task is not told, it is the one whose
    coefficient, in a superposition of all, lowers the entropy of the answer most. BatchNorm has statistics of each
    task's own, and no scale and shift of its own; layers have no biases, as published. The network is random even
    where the scenario has a backbone, unless ``network`` says otherwise.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "supsup", **{"density": 0.2})
    >>> experiment.resolved["strategy"]["density"]
    0.2
    """

    density: float = option(0.3, "share of a layer's weights that a task uses", gt=0, le=1)
    erdos_renyi: float | None = option(
        None,
        "share by layer, instead of density: this factor · (inputs + outputs) / weights, at most a half",
        gt=0,
        before=None,
    )
    network: Literal["random", "backbone"] = option(
        "random",
        "signs, biases and normalisation are drawn at random, or those of the scenario's backbone",
        before="backbone",
    )
    scale: Literal["kept_fan_in", "fan_in"] = option(
        "kept_fan_in",
        "magnitude of weights: √(2 / inputs of a unit), those that the mask keeps or all",
        before="kept_fan_in",
    )
    biases: Literal["none", "initial"] = option(
        "none", "there are no biases, or they stay as initialised", before="initial"
    )
    heads: Literal["masked", "trained"] = option(
        "masked", "a head is a mask over a random one, or trained for the task"
    )
    mask_lr: float = option(1e-3, "learning rate of the scores", gt=0)
    mask_optimizer: str = option("adam", "optimiser of the scores")
    mask_decay: float = option(0.0, "weight decay of the scores", ge=0, before=0.0)
    norm: NormPolicy = option("statistics", MEANING)
    infer_rows: int = option(1, "test rows, as they come, that are taken to be of one task where it is not told", ge=1)
    overlaps: int = option(20, "latest tasks that a mask's overlap is logged with", ge=0)

    def start(self) -> State:
        seeds, layout = len(self.seeds), self._store.layout
        start = self.net if self.network == "backbone" else self.net.without_backbone()
        net = start.init(self.seeds)
        rest = {name: tensor for name, tensor in net.items() if name not in {*layout.shapes, *self._zero}}
        return {
            "backbone": {
                "signs": layout.pack({name: net[name] > 0 for name in layout.shapes}),
                "scales": torch.tensor([self._magnitudes], dtype=torch.float32, device=self.net.device),
                **({"rest": rest} if rest else {}),
            },
            "masks": self._store.empty(seeds, self.net.device),
            **({"heads": empty_heads(self.net, seeds)} if self.heads == "trained" else {}),
            **self._norms.start(seeds),
        }

    def check_targets(self, targets: Sequence[Target]) -> None:
        odd = other_than_classes(targets)
        if odd is not None and self.setting != "task":
            raise UsageError(
                f"supsup infers the task from the entropy of answers about classes, and a task asks for {odd.name()}: use "
                "stream.setting = 'task'"
            )

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        weights, scores = self._weights(), self._scores(experience)
        params: Tree = {"scores": scores, "norm": self._norms.trained(state, task, self._rest())}
        if self.heads == "trained":
            params["head"] = self._head(task)
        how = for_scores(self.train, self.mask_optimizer, self.mask_lr)
        learned = yield from self.fit(
            params,
            self.loss,
            experience,
            frozen={**self._rest(), **weights},
            overrides={"scores": how.model_copy(update={"weight_decay": self.mask_decay})},
        )
        before, after = self._hard(scores), self._hard(learned["scores"])
        self._store.put(state["masks"], task, after)
        if self.heads == "trained":
            state["heads"].put(task, row_of(learned["head"]))
        self._norms.put(state, task, learned.get("norm", {}))
        yield from self._store.events(experience.step, task, state["masks"], before, after, self.overlaps)
        if self.setting != "task":
            x = experience.train.spread(TRIED).shuffled().x
            right = (self._inferred(x) == task).double().mean(dim=1)
            yield TaskInferred(step=experience.step, task_id=task, rows=len(x), right=tuple(right.tolist()))

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        masked = {}
        for name, score in params["scores"].items():
            size = score.abs()
            masked[name] = frozen[name] * straight_through(top_share(size.detach(), self._densities[name]), size)
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

    @property
    def order_matters(self) -> bool:
        return self.infer_rows > 1 and self.setting != "task"

    def fingerprint(self, task_id: int | None) -> int | None:
        masks: Bank = self.state["masks"]
        return None if task_id is None else masks.writes(task_id)

    @cached_property
    def _store(self) -> MaskStore:
        names = maskable(self.net)
        return MaskStore(Layout.of(self.net, [*names, HEAD_WEIGHT] if self.heads == "masked" else names))

    @cached_property
    def _densities(self) -> dict[str, float]:
        """The share of its weights that a task uses, layer by layer."""
        shapes, factor = self._store.layout.shapes, self.erdos_renyi
        return {
            name: self.density if factor is None else erdos_renyi_density(shape, factor)
            for name, shape in shapes.items()
        }

    @property
    def _magnitudes(self) -> list[float]:
        """The magnitude of the weights, layer by layer: He's deviation."""
        fans = {name: math.prod(shape[1:]) for name, shape in self._store.layout.shapes.items()}
        kept = self._densities if self.scale == "kept_fan_in" else dict.fromkeys(fans, 1.0)
        return [math.sqrt(2 / (fan * kept[name])) for name, fan in fans.items()]

    @cached_property
    def _zero(self) -> list[str]:
        """Names of the biases that are nothing: that of a masked head, and all where none are asked for."""
        none = self.biases == "none"
        biases = [bias_of(name) for name in self._store.layout.shapes if none and name != HEAD_WEIGHT]
        return [name for name in [*biases, *[HEAD_BIAS] * (self.heads == "masked")] if name in self.net.shapes]

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, self.norm)

    def _rest(self) -> Params:
        """Return biases and normalisation as initialised."""
        seeds, device = len(self.seeds), self.net.device
        zeros = {name: torch.zeros(seeds, *self.net.shapes[name], device=device) for name in self._zero}
        return {**self.state["backbone"].get("rest", {}), **zeros}

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
        return head_for(self.state["heads"], task_id, self._rest())

    def _hard(self, scores: Tree) -> Params:
        return {
            name: torch.stack([top_share(one.abs(), self._densities[name]) for one in score])
            for name, score in scores.items()
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
        most = {name: score.abs().flatten(1).amax(dim=1) for name, score in scores.items()}  # of each seed by itself
        above = {name: most[name].reshape(-1, *[1] * (score.ndim - 1)) for name, score in scores.items()}
        return {name: score + score.sign() * masks[name] * above[name] for name, score in scores.items()}

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
            held = [name for name in self._rest() if self.net.is_held(name)]
            found.append(inferred(one, weights_of, tasks, x, self.infer_rows, held))
        return torch.stack(found)
