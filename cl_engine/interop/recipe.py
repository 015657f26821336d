"""Recipes of Avalanche's strategies from a scenario: class, model, optimiser, criterion, and further arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cl_engine.data.stream import Setting
from cl_engine.errors import UsageError, is_out_of_memory, unknown
from cl_engine.interop.lazy_import import attribute, quietly
from cl_engine.interop.offline import offline
from cl_engine.interop.randomness import seeded
from cl_engine.nn.net import Net
from cl_engine.runs import importing
from cl_engine.training.optimizer_steps import optimizer_options
from cl_engine.training.optimizers import Train, optimizer_class

SUPERVISED = "avalanche.training.supervised"
Heads = Literal["one", "per task"]
WITH_MASKS = {"PackNet"}  # the task decides which weights are seen, not which head
NEEDS_TASK = {"PackNet", "PNNStrategy", "LaMAML", "ExpertGateStrategy"}
NEEDS_NO_TASK = {"ICaRL"}
OFFERED = {
    *("model", "feature_extractor", "classifier", "optimizer", "criterion"),
    *("train_mb_size", "train_epochs", "eval_mb_size", "device", "evaluator"),
}
LEFT_OUT = {"buffer_transform": None, "augmentations": None}  # what no option can say, where a strategy asks for it
# options of training that are steps of our own fits
NOT_HERE = ("schedule_by", "warmup", "clip_norm", "clip_value", "ema", "patience", "transforms")


class BodyAndHead(nn.Module):
    """A module in two parts: one gives the features, the head reads them.

    >>> module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> BodyAndHead(module, "1")(torch.zeros(2, 2, 2)).shape
    torch.Size([2, 3])
    """

    def __init__(self, module: nn.Module, head: str) -> None:
        """Take the module apart at its head."""
        super().__init__()
        found = module.get_submodule(head)
        parent, _, leaf = head.rpartition(".")
        setattr(module.get_submodule(parent) if parent else module, leaf, nn.Identity())
        self.body, self.head = module, found

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, C]``."""
        return self.head(self.body(x))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Recipe:
    """A recipe by which a strategy of Avalanche is made, the same each time.

    >>> from cl_engine.nn.net import Net
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    >>> Recipe("EWC", {"ewc_lambda": 0.4}, net, Train(), "class", "one").strategy_class.__name__
    'EWC'

    Attributes:
        target: the class's name in ``avalanche.training.supervised``, or ``module:Class``.
        arguments: what its constructor is given beside what the scenario decides.
        heads: one head for all tasks, or one for each.
        plugins: ``module:Class`` or ``module:function`` of plug-ins to be added, each made without arguments.
    """

    target: str
    arguments: Mapping[str, Any]
    net: Net
    train: Train
    setting: Setting
    heads: Heads
    plugins: Sequence[str] = ()

    def check(self) -> None:
        """Refuse what cannot be made, before the first step.

        Raises:
            UsageError: for a class that does not exist, an argument that it does not have or that is missing, a
                setting or a net of places that it cannot serve, or a plug-in that cannot be made.
        """
        if self.net.places:
            raise UsageError(f"avalanche:{self.target} takes one answer a row: choose a net that ends in nn.Linear")
        name = self.strategy_class.__name__
        if name in NEEDS_TASK and self.setting != "task":
            raise UsageError(f"avalanche:{name} must be told the task: use stream.setting = 'task'")
        if name in NEEDS_NO_TASK and self.setting == "task":
            raise UsageError(f"avalanche:{name} uses no task labels: use stream.setting = 'class'")
        known = self._parameters()
        ours = OFFERED
        for key in self.arguments:
            if key not in known or key in ours:
                raise unknown(f"option of avalanche:{name}", key, {*known} - ours)
        required = {key for key, one in known.items() if one.default is one.empty and key not in ours | LEFT_OUT.keys()}
        if missing := sorted(required - self.arguments.keys()):
            raise UsageError(f"avalanche:{name} needs {missing[0]}: --set {missing[0]}=…")
        if name == "GEM" and "quadprog" not in attribute("qpsolvers", "available_solvers"):
            raise UsageError("avalanche:GEM solves its quadratic programmes with 'quadprog': pip install quadprog")
        self.made(0)

    @property
    def strategy_class(self) -> Any:
        """The class of Avalanche's, imported now if it was not."""
        base = attribute("avalanche.training.templates.base", "BaseTemplate")
        module, colon, name = self.target.rpartition(":")
        place = module if colon else SUPERVISED
        with quietly():
            holder = importing.imported("the strategy", place, f"avalanche:{self.target}")
        found = getattr(holder, name, None)
        if inspect.isclass(found) and issubclass(found, base):
            importing.note(holder, found)
            return found
        every = {key: value for key, value in vars(holder).items() if inspect.isclass(value)}
        raise unknown(f"strategy in {place}", name, [key for key, value in every.items() if issubclass(value, base)])

    def made(self, seed: int) -> Any:
        """Return the strategy as this seed starts, its model's weights those of ``[net]`` for this seed.

        The plug-ins asked for stand first in its list, as Avalanche documents; they are not handed to its constructor,
        since some of its strategies lose them there.
        """
        with quietly(), seeded(seed, device=self.net.device):
            own = self._given(seed)
            try:
                with offline(f"avalanche:{self.target}", "Avalanche's own folders", "Put them there"):
                    strategy = self.strategy_class(**own, **self.arguments)
            except UsageError:
                raise
            except Exception as error:  # Avalanche's and its users' constructors may fail in any way
                if is_out_of_memory(error):
                    raise
                raise UsageError(f"avalanche:{self.target} cannot be made: {type(error).__name__}: {error}") from error
            strategy.plugins[:0] = [self._plugin(name) for name in self.plugins]
            strategy._check_plugin_compatibility()
        return strategy

    def _given(self, seed: int) -> dict[str, Any]:
        module = self.net.module(seed)
        known = self._parameters()
        if "feature_extractor" in known or self.heads == "per task":
            module = BodyAndHead(module, self.net.head)
        if self.strategy_class.__name__ in WITH_MASKS:
            module = attribute("avalanche.models.packnet", "PackNetModel")(module)
        elif self.heads == "per task":
            module = attribute("avalanche.models", "as_multitask")(module, "head")
        return self._ours(module, known)

    def _ours(self, module: nn.Module, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the scenario decides, of what the constructor takes."""
        train = self.train
        offers: dict[str, Any] = {
            "model": module,
            "feature_extractor": getattr(module, "body", None),
            "classifier": getattr(module, "head", None),
            "optimizer": self._optimizer(module),
            "criterion": nn.CrossEntropyLoss(label_smoothing=train.label_smoothing),
            "train_mb_size": train.batch,
            "train_epochs": train.epochs,
            "eval_mb_size": max(train.batch, 512),
            "device": self.net.device,
            "evaluator": attribute("avalanche.training.plugins", "EvaluationPlugin")(),
        }
        found = {key: offers[key] for key in OFFERED & known.keys()}
        return {
            **found,
            **{key: value for key, value in LEFT_OUT.items() if key in known and key not in self.arguments},
        }

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        train = self.train
        cls: Any = optimizer_class(train.optimizer)
        options = optimizer_options(train)
        if train.leftover != "keep":
            raise UsageError(
                "train.leftover: Avalanche's strategies divide rows themselves, and keep what is left over"
            )
        if train.milestones:
            raise UsageError("train.milestones: Avalanche's strategies keep one learning rate here; leave them out")
        if train.schedule != "constant":
            raise UsageError("train.schedule: Avalanche's strategies keep one learning rate here; leave it out")
        odd = next((name for name in NOT_HERE if getattr(train, name) != Train.model_fields[name].default), None)
        if odd is not None:
            raise UsageError(
                f"train.{odd}: Avalanche's strategies take their steps themselves; leave it out, or name a plug-in of "
                "Avalanche's that does the same: --set plugins=…"
            )
        made: torch.optim.Optimizer = cls(module.parameters(), **options)
        return made

    def _parameters(self) -> dict[str, inspect.Parameter]:
        """Return what the constructor takes by name, with what it hands on (``**kwargs``) to those it builds on.

        What those ask for counts as optional: the class may give it itself.
        """
        known: dict[str, inspect.Parameter] = {}
        for cls in self.strategy_class.__mro__:
            if "__init__" not in vars(cls):
                continue
            own = inspect.signature(vars(cls)["__init__"]).parameters.values()
            for one in own:
                if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name not in (
                    *known,
                    "self",
                    "plugins",
                ):
                    known[one.name] = one if cls is self.strategy_class else one.replace(default=None)
            handed_on = any(one.kind is one.VAR_KEYWORD for one in own)
            if not handed_on or cls is attribute("avalanche.training.templates", "SupervisedTemplate"):
                break
        return known

    @staticmethod
    def _plugin(name: str) -> Any:
        base = attribute("avalanche.core", "BasePlugin")
        try:
            found = importing.attribute("plugins:", name)()
        except (AttributeError, TypeError, ValueError) as error:
            raise UsageError(f"plugins: '{name}' cannot be made: {error}") from None
        if not isinstance(found, base):
            raise UsageError(f"plugins: '{name}' gives a {type(found).__name__}, not a plug-in of Avalanche")
        return found
