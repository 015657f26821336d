"""What a task has learned and a code keeps: a net of its own, or what it adds to a frozen one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Sequence
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from cl_engine.adapters.adapted_net import AdaptedNet
from cl_engine.adapters.adapter import Adapter
from cl_engine.adapters.hard_mask import HardMask
from cl_engine.adapters.low_rank import LowRank
from cl_engine.adapters.patches import PatchParts
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.masks import guard
from cl_engine.masks.thresholds import for_scores, rate_of_scores
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net, Params
from cl_engine.options import OptionGroup, option
from cl_engine.training.optimizers import Train

BACKBONE, START = (
    "backbone",
    "start",
)  # what a fit is given beside what it changes: the frozen net, and where it started

Learned = Generator[Event, None, Params]


class SkillOptions(OptionGroup):
    """Options that say what a skill is.

    >>> SkillOptions(what="lora").lora_rank
    4
    """

    what: Literal["net", "lora", "patch", "mask"] = option(
        "net",
        "what a code keeps of a task: a net of its own; or what it adds to one frozen net: a low-rank update, a patch, a mask",
        before="net",
    )
    backbone: Literal["initial", "first_task"] = option(
        "initial",
        "the frozen net: as the scenario starts it (random or pre-trained), or trained on the first task",
        before="initial",
    )
    lora_rank: int = option(
        4, "rank of a low-rank update; of a weight whose smaller side is less, that", ge=1, before=4
    )
    patch_kind: Literal["scale_bias", "depthwise", "both", "front", "bias", "soft_mask"] = option(
        "scale_bias", "what a patch holds, as in the strategy patch", before="scale_bias"
    )
    adapter_lr: float | None = option(
        None,
        "learning rate of what a task adds; left out: that of the head, for scores of masks the published one",
        gt=0,
        before=None,
    )


class Skills(ABC):
    """What skills are made of: named tensors, how they are learned, and the net they give.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    >>> skills_of(net, [0], SkillOptions()).bytes_of_net  # 15 numbers
    60

    Attributes:
        net: the net.
        seeds: the seeds.
        later: whether the first task changes what later ones start from.
    """

    later = False

    def __init__(self, net: Net, seeds: Sequence[int]) -> None:
        """Set up for a net."""
        self.net, self.seeds = net, tuple(seeds)

    @property
    @abstractmethod
    def drawn(self) -> Params:
        """What a task starts from as the seeds and the scenario's backbone say."""

    @abstractmethod
    def start(self, centred: Collection[str]) -> State:
        """Return the parts of a state that all skills share; of tensors ``centred`` the start is taken away before encoding."""

    @abstractmethod
    def first(self, state: State) -> Params:
        """Return what a task starts from, ``{name: [S, …]}``."""

    @abstractmethod
    def learn(self, learner: Any, experience: Experience, start: Params, pulled: Params | None) -> Learned:
        """Learn a task from ``start``, perhaps ``pulled`` towards something, and return what came out."""

    @abstractmethod
    def flat(self, params: Tree) -> Params:
        """Return the tensors of what a fit changes, by name."""

    @abstractmethod
    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        """Return the logits of what a fit changes, of one seed."""

    @abstractmethod
    def whole(self, state: State, skill: Params, members: Sequence[int] | None = None) -> Params:
        """Return the net that a skill gives, ``{name: [S, …]}``; ``members``: places of the seeds it is of, where not of all."""

    @property
    def bytes_of_net(self) -> int:
        """Bytes of a net that is kept whole."""
        return sum(math.prod(shape) * self.net.dtypes[name].itemsize for name, shape in self.net.shapes.items())


class WholeNets(Skills):
    """Nets of the tasks' own.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    >>> sorted(WholeNets(net, [0]).first({}))
    ['head.bias', 'head.weight']
    """

    def start(self, centred: Collection[str]) -> State:
        """Return those pre-trained weights that are needed to recall."""
        known = [name for name in centred if name in self.net.pretrained]
        return {BACKBONE: {name: self.net.pretrained[name].unsqueeze(0) for name in known}} if known else {}

    def first(self, state: State) -> Params:
        """Return the net as it is drawn, with what is pre-trained."""
        backbone: Params = state.get(BACKBONE, {})
        return {**self.drawn, **{name: tensor.expand_as(self.drawn[name]) for name, tensor in backbone.items()}}

    def learn(self, learner: Any, experience: Experience, start: Params, pulled: Params | None) -> Learned:
        """Learn a net."""
        found: Params = yield from learner.fit(
            start, learner.loss, experience, frozen=None if pulled is None else {START: dict(pulled)}
        )
        return found

    def flat(self, params: Tree) -> Params:
        """Return the net."""
        return params

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        """Return the logits of the net."""
        return self.net.one(params, x)

    def whole(self, state: State, skill: Params, members: Sequence[int] | None = None) -> Params:
        """Return the net."""
        return skill

    @cached_property
    def drawn(self) -> Params:
        """The net that a task starts from."""
        return self.net.init(self.seeds)


class Additions(Skills):
    """What tasks add to one frozen net: an adapter, normalisation, a head.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> skills = Additions(net, [0], SkillOptions(what="lora", lora_rank=1))
    >>> sorted(skills.first(skills.start([])))
    ['1.weight:down', '1.weight:up', 'head.bias', 'head.weight']
    """

    def __init__(self, net: Net, seeds: Sequence[int], options: SkillOptions) -> None:
        """Choose the adapter.

        Raises:
            UsageError: if the net has nothing that it could adapt.
        """
        super().__init__(net, seeds)
        self.options, self.later = options, options.backbone == "first_task"
        self.adapted = AdaptedNet(net, self._adapter(), self.seeds, "adapter", "adapters")

    def start(self, centred: Collection[str]) -> State:
        """Return the frozen net."""
        return {BACKBONE: self.net.init(self.seeds)}

    @property
    def drawn(self) -> Params:
        """What a task starts from."""
        return self.first(self.start([]))

    def first(self, state: State) -> Params:
        """Return numbers that leave the net as it is, and its normalisation and head."""
        base = state[BACKBONE]
        return {**self.adapted.adapter.start(self.seeds, base), **self.adapted.norms.of({}, 0, base), **_head(base)}

    def learn(self, learner: Any, experience: Experience, start: Params, pulled: Params | None) -> Learned:
        """Learn an adapter and a head; or with the first task, where it makes the frozen net, that net."""
        state, adapter, norms = learner.state, self.adapted.adapter, self.adapted.norms
        if self.later and not len(state["places"]):
            trained = yield from learner.fit(state[BACKBONE], learner.loss, experience)
            state[BACKBONE] = {**trained, **_head(state[BACKBONE])}
            return {**self.first({BACKBONE: trained}), **_head(trained)}
        base = state[BACKBONE]
        params = {
            "adapter": {name: start[name] for name in adapter.layout.shapes},
            "norm": {name: start.get(name, tensor) for name, tensor in norms.trained({}, 0, base).items()},
            "head": _head(start),
        }
        frozen = {BACKBONE: base, **({} if pulled is None else {START: dict(pulled)})}
        rates = self._rates(learner.train, len(experience.train))
        with guard.frozen(base, f"{learner.name()}: the backbone"):
            learned = yield from learner.fit(
                params, learner.loss, experience, frozen=frozen, overrides={"adapter": rates, "norm": rates}
            )
        kept = self.flat({**learned, "adapter": adapter.settled(learned["adapter"])})
        return {name: kept[name] for name in start}

    def flat(self, params: Tree) -> Params:
        """Return the tensors of adapter, normalisation and head."""
        return {name: tensor for part in ("adapter", "norm", "head") for name, tensor in params.get(part, {}).items()}

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        """Return the logits of the frozen net with what a fit changes."""
        return self.net.one(params, x) if frozen is None else self.adapted.logits(params, frozen[BACKBONE], x)

    def whole(self, state: State, skill: Params, members: Sequence[int] | None = None) -> Params:
        """Return the frozen net with what a task adds to it."""
        own = {name: skill[name] for name in self.adapted.adapter.layout.shapes}
        rest = {name: tensor for name, tensor in skill.items() if name not in own}
        base: Params = state[BACKBONE]
        if members is not None:
            base = {name: tensor[list(members)] for name, tensor in base.items()}
        return {**base, **self.adapted.changed(base, own), **rest}

    def _adapter(self) -> Adapter:
        match self.options.what:
            case "lora":
                return LowRank(self.net, self.options.lora_rank)
            case "patch":
                return PatchParts(self.net, self.options.patch_kind)
            case _:
                return HardMask(self.net)

    def _rates(self, train: Train, rows: int) -> Train:
        lr = self.options.adapter_lr
        if isinstance(self.adapted.adapter, HardMask):
            return for_scores(train, "adam", rate_of_scores(train, rows, HardMask.way) if lr is None else lr)
        return train if lr is None else train.model_copy(update={"lr": lr})


def skills_of(net: Net, seeds: Sequence[int], options: SkillOptions) -> Skills:
    """Return what skills are, by the options."""
    return WholeNets(net, seeds) if options.what == "net" else Additions(net, seeds, options)


def _head(params: Params) -> Params:
    return {name: params[name] for name in (HEAD_WEIGHT, HEAD_BIAS)}
