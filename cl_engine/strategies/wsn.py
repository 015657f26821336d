"""WSN: winning subnetworks, weights and masks of one network learned together, weights of earlier masks frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.masks.coded import CodedMasks
from cl_engine.masks.events import MasksCoded
from cl_engine.masks.layout import Layout, some_maskable
from cl_engine.masks.norms import MEANING, NormPolicy, TaskNorms
from cl_engine.masks.store import told
from cl_engine.masks.thresholds import for_scores, straight_through, top_share
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Params
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy


class Wsn(Strategy):
    """WSN: a task picks the best-scored share of each layer's weights, trains those nobody has, reuses the others (Kang 2022).

    "Forget-free continual learning with winning subnetworks" (Kang et al., ICML 2022). A score for every weight is trained with
    it, by the straight-through estimator: in each step the ``keep`` of a layer's weights whose scores are greatest in size count.
    Weights that a mask of an earlier task has are frozen and may be read. Scores go on from task to task. Kept of a task is
    its mask, Huffman-coded with those of six others (`CodedMasks`), and a head.

    Biases and normalisation are learned with the first task and then frozen, unless ``norm`` gives each task its own; the
    published nets have none. A task that comes back trains its head (and its normalisation): its weights carry later tasks.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "wsn", **{"keep": 0.1})
    >>> experiment.resolved["strategy"]["keep"]
    0.1
    """

    settings = ("task",)
    per_seed = True

    keep: float = option(0.5, "share of each layer's weights that a task uses (c of the paper)", gt=0, le=1)
    score_lr: float = option(1e-3, "learning rate of the scores", gt=0)
    score_optimizer: str = option("adam", "optimiser of the scores")
    norm: NormPolicy = option("frozen", MEANING)
    overlaps: int = option(20, "latest tasks that a mask's overlap is logged with", ge=0)

    def start(self) -> State:
        seeds = len(self.seeds)
        return {
            "net": self.net.init(self.seeds),
            "scores": self._scores(),
            "masks": self._masks.empty(seeds, self.net.device),
            "used": torch.zeros(seeds, self._layout.packed, dtype=torch.uint8, device=self.net.device),
            "heads": empty_heads(self.net, seeds),
            **self._norms.start(seeds),
        }

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        known, first = task < len(state["heads"]), not len(state["heads"])
        if known:
            yield from self._learn_again(experience)
            return
        free = {name: ~bits for name, bits in self._layout.unpack(state["used"]).items()}
        params: Tree = {
            "weights": {name: state["net"][name] for name in free},
            "scores": state["scores"],
            "norm": {} if first else self._norms.trained(state, task, state["net"]),
            "head": head_for(state["heads"], task, state["net"]),
        }
        if first:
            params["rest"] = {name: state["net"][name] for name in self._rest}
        before = self._picked(state["scores"])
        learned = yield from self.fit(
            params,
            self.loss,
            experience,
            frozen={"net": state["net"], "free": free},
            overrides={"scores": for_scores(self.train, self.score_optimizer, self.score_lr)},
        )
        mine = self._picked(learned["scores"])
        for name, weight in learned["weights"].items():
            state["net"][name] = torch.where(free[name], weight, state["net"][name])
        state["net"] |= learned.get("rest", {})
        state["scores"] = learned["scores"]
        used = {name: ~free[name] | mine[name] for name in mine}
        state["used"] = self._layout.pack(used)
        self._masks.put(state["masks"], task, mine)
        self._keep(task, learned)
        yield from self._told(experience, before, mine, used)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        if "mask" in frozen:
            net = {**frozen["net"], **_masked(frozen["net"], frozen["mask"])}
            return self.net.one({**net, **params.get("norm", {}), **params["head"]}, x, statistics=self._norms.tracking)
        weights = {}
        for name, weight in params["weights"].items():
            size = params["scores"][name].abs()
            mask = straight_through(top_share(size.detach(), self.keep), size)
            weights[name] = torch.where(frozen["free"][name], weight, frozen["net"][name]) * mask
        own = {**params.get("rest", {}), **params.get("norm", {}), **params["head"]}
        return self.net.one({**frozen["net"], **weights, **own}, x, statistics="rest" in params or self._norms.tracking)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        net, heads = self.state["net"], self.state["heads"]
        met = task_id < len(heads)
        mask = self._masks.of(self.state["masks"], task_id) if met else self._picked(self.state["scores"])
        own = {**self._norms.of(self.state, task_id, net), **head_for(heads, task_id, net)}
        return self.net.all({**net, **_masked(net, mask), **own}, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        assert task_id is not None
        heads: Bank = self.state["heads"]
        return heads.writes(task_id) if task_id < len(heads) else -len(heads)

    @cached_property
    def _layout(self) -> Layout:
        return Layout.of(self.net, some_maskable(self.net, self.name()))

    @cached_property
    def _masks(self) -> CodedMasks:
        return CodedMasks(self._layout)

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, self.norm)

    @cached_property
    def _rest(self) -> list[str]:
        """Names of what the first task learns once for all: biases, normalisation and its counters."""
        return [name for name in self.net.shapes if name not in (*self._layout.shapes, HEAD_WEIGHT, HEAD_BIAS)]

    def _scores(self) -> Params:
        """Return the scores that the first task starts from, uniform within ±1/√inputs as released."""
        found: Params = {}
        for name, shape in self._layout.shapes.items():
            draws = [rng.tensors(seed, "scores", name) for seed in self.seeds]
            drawn = torch.stack([torch.rand(shape, generator=draw) for draw in draws])
            found[name] = ((2 * drawn - 1) / math.sqrt(math.prod(shape[1:]))).to(self.net.device)
        return found

    def _picked(self, scores: Mapping[str, Tensor]) -> Params:
        """Return the masks ``{name: [S, …]}`` of booleans that scores give."""
        return {
            name: torch.stack([top_share(one.abs(), self.keep) for one in score]) > 0 for name, score in scores.items()
        }

    def _learn_again(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        params: Tree = {
            "norm": self._norms.trained(state, task, state["net"]),
            "head": head_for(state["heads"], task, state["net"]),
        }
        frozen = {"net": state["net"], "mask": self._masks.of(state["masks"], task)}
        self._keep(task, (yield from self.fit(params, self.loss, experience, frozen=frozen)))

    def _keep(self, task_id: int, learned: Tree) -> None:
        self.state["heads"].put(task_id, row_of(learned["head"]))
        self._norms.put(self.state, task_id, {**learned.get("rest", {}), **learned.get("norm", {})})

    def _told(self, experience: Experience, before: Params, mine: Params, used: Params) -> Iterator[Event]:
        task, masks = experience.task_id, self.state["masks"]
        others = self._masks.several(masks, max(0, task - self.overlaps))
        yield from told(experience.step, task, before, mine, ((t, mask) for t, mask in others.items() if t != task))
        whole = self._layout.row(used).double().mean(dim=1)
        yield MasksCoded(step=experience.step, task_id=task, bits=self._masks.bits(masks), used=tuple(whole.tolist()))


def _masked(net: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> Params:
    return {name: torch.where(bits, net[name], 0.0) for name, bits in mask.items()}
