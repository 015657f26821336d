"""Learning rates that follow a schedule, any of torch.optim.lr_scheduler, and rise to it at first."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from cl_engine.core.tree import Tree
from cl_engine.errors import UsageError, unknown
from cl_engine.options import named_with_options
from cl_engine.training.optimizers import Train

PLAIN = ("constant", "cosine")  # what milestones may be set beside
SHORT = {"cosine": "CosineAnnealingLR", "plateau": "ReduceLROnPlateau"}
UNUSABLE = {
    "LambdaLR": "takes a function",
    "MultiplicativeLR": "takes a function",
    "SequentialLR": "is made of other schedules",
    "ChainedScheduler": "is made of other schedules",
}
BY_STEP = ("OneCycleLR", "CyclicLR")  # what torch documents as one that counts batches
PLATEAU = "ReduceLROnPlateau"


def schedule_of(train: Train) -> tuple[type[Any] | None, dict[str, Any]]:
    """Return the class of torch's that ``train.schedule`` names, and the options behind it; no class: the rate is constant.

    Raises:
        UsageError: if there is none of that name, it cannot be used here, or it has no such option.
    """
    name, options = named_with_options(train.schedule, "train.schedule")
    if name == "constant" and not options:
        return None, {}
    every = {
        key: kind
        for key, kind in vars(lr_scheduler).items()
        if inspect.isclass(kind) and issubclass(kind, LRScheduler) and kind is not LRScheduler and key[0] != "_"
    }
    wanted = name.replace("_", "").lower()
    found = SHORT.get(name) or next((k for k in every if wanted in (k.lower(), k.removesuffix("LR").lower())), "")
    usable = sorted({*PLAIN, *(_short(key) for key in every if key not in UNUSABLE)})
    if found in UNUSABLE:
        raise UsageError(f"train.schedule: '{name}' {UNUSABLE[found]}; there are: {', '.join(usable)}")
    if not found:
        raise unknown("schedule", name, usable)
    known = [key for key in inspect.signature(every[found]).parameters if key not in ("optimizer", "last_epoch")]
    known = [key for key in known if not (found == PLATEAU and key == "mode")]  # more is better, whatever is measured
    odd = next((key for key in options if key not in known), None)
    if odd is not None:
        raise UsageError(f"train.schedule: '{name}' has no option '{odd}'; there are: {', '.join(known)}")
    return every[found], options


def follows_validation(train: Train) -> bool:
    """Return whether the learning rate follows the validation rows."""
    kind, _ = schedule_of(train)
    return kind is ReduceLROnPlateau


def cycles_momentum(train: Train) -> bool:
    """Return whether the schedule moves the momentum too."""
    kind, options = schedule_of(train)
    return kind is not None and kind.__name__ in BY_STEP and options.get("cycle_momentum", True) is True


class Rates:
    """The learning rates of the optimisers of a fit: what their schedules say, times the share of a warm-up.

    Between steps the optimisers hold what the schedules say, so that these go on from it; the warm-up, which rises linearly as
    in Goyal et al. 2017, section 2.2, is a factor that is there during a step alone.

    >>> weight = torch.zeros(1, requires_grad=True)
    >>> optimizer, how = torch.optim.SGD([weight], lr=1.0), Train(schedule="exponential?gamma=0.5", warmup=2.0)
    >>> rates, seen = Rates([optimizer], [how], epochs=3, batches=2), []
    >>> for epoch in range(3):
    ...     for batch in range(2):
    ...         rates.begin_step()
    ...         seen.append(optimizer.param_groups[0]["lr"])
    ...         rates.end_step()
    ...     rates.end_epoch()
    >>> seen
    [0.25, 0.5, 0.375, 0.5, 0.25, 0.25]

    Attributes:
        moving: whether anything changes from step to step.
    """

    def __init__(self, optimizers: Sequence[Any], trains: Sequence[Train], epochs: int, batches: int | None) -> None:
        """Begin a fit of so many epochs of so many batches; None: it is not known yet, and one is only tried.

        Raises:
            UsageError: for a schedule that does not fit the optimiser, or the length of the fit.
        """
        self._groups = [(group, how) for o, how in zip(optimizers, trains, strict=True) for group in o.param_groups]
        self._warm = [how.warmup * (batches or 1) for _, how in self._groups]
        self._by_epoch: list[Any] = []
        self._by_step: list[Any] = []
        self._judged: list[ReduceLROnPlateau] = []
        for optimizer, how in zip(optimizers, trains, strict=True):
            self._add(optimizer, how, epochs, batches)
        for schedule in (*self._by_epoch, *self._by_step):
            schedule.optimizer._opt_called = True  # `step_of` passes by what would note it
        self._taken = 0  # steps
        self.moving = bool(self._by_step) or any(self._warm)
        self._tensors: list[Tensor] = []

    def _add(self, optimizer: Any, how: Train, epochs: int, batches: int | None) -> None:
        kind, options = schedule_of(how)
        if how.milestones and how.schedule not in PLAIN:
            raise UsageError(
                f"train.milestones: they are set beside the schedules {' and '.join(PLAIN)} alone, and this one is "
                f"'{how.schedule}': leave one of them out"
            )
        if kind is not None:
            by_step = how.schedule_by == "step" or (how.schedule_by is None and kind.__name__ in BY_STEP)
            if by_step and kind is ReduceLROnPlateau:
                raise UsageError(
                    "train.schedule_by: 'plateau' looks at the validation rows once an epoch; leave it out"
                )
            length = None if by_step and batches is None else epochs * ((batches or 1) if by_step else 1)
            made = _made(kind, options, optimizer, how, length)
            (self._judged if kind is ReduceLROnPlateau else self._by_step if by_step else self._by_epoch).append(made)
        elif how.schedule_by is not None:
            raise UsageError("train.schedule_by: the learning rate is constant: say a train.schedule, or leave it out")
        if how.milestones:
            self._by_epoch.append(lr_scheduler.MultiStepLR(optimizer, how.milestones, how.gamma))

    @property
    def moves_more(self) -> bool:
        """Whether more than learning rates changes from step to step."""
        return any(getattr(schedule, "cycle_momentum", False) for schedule in self._by_step)

    def on(self, device: torch.device) -> None:
        """Hand rates to the optimisers as tensors on this device during steps, where a recorded step finds them."""
        self._tensors = [torch.zeros((), device=device) for _ in self._groups] if self.moving else []

    def begin_step(self) -> None:
        """Let the optimisers have the rates of the step to come."""
        if not self.moving:
            return
        self._rates = [group["lr"] for group, _ in self._groups]
        for place, ((group, _), rate, warm) in enumerate(zip(self._groups, self._rates, self._warm, strict=True)):
            now = rate * min(1.0, (self._taken + 1) / warm) if warm else rate
            group["lr"] = self._tensors[place].fill_(now) if self._tensors else now

    def end_step(self) -> None:
        """Note that a step was taken."""
        if not self.moving:
            return
        for (group, _), rate in zip(self._groups, self._rates, strict=True):
            group["lr"] = rate
        self._taken += 1
        for schedule in self._by_step:
            schedule.step()

    def end_epoch(self) -> None:
        """Note that an epoch is over."""
        for schedule in self._by_epoch:
            schedule.step()

    def judge(self, score: Tensor) -> None:
        """Take in the score of the only seed on the validation rows ``[1]``."""
        for schedule in self._judged:
            schedule.step(float(score))

    def state(self) -> Tree:
        """Return what a checkpoint keeps of them, beside what the optimisers hold."""
        kept: Tree = {"passes": [schedule.last_epoch for schedule in self._by_epoch]}
        if self.moving or self._judged or any(type(one).__name__ not in KNOWN_BY_EPOCH for one in self._by_epoch):
            kept["rates"] = {"taken": self._taken, "schedules": [_numbers(schedule) for schedule in self._every]}
        return kept

    def restore(self, state: Tree) -> None:
        """Go on from what `state` returned, of a fit of the same options."""
        for schedule, epochs in zip(self._by_epoch, state["passes"], strict=True):
            schedule.load_state_dict({**schedule.state_dict(), "last_epoch": epochs, "_step_count": epochs + 1})
        if "rates" in state:
            self._taken = state["rates"]["taken"]
            for schedule, saved in zip(self._every, state["rates"]["schedules"], strict=True):
                schedule.load_state_dict({**schedule.state_dict(), **saved})

    @property
    def _every(self) -> list[Any]:
        return [*self._by_epoch, *self._by_step, *self._judged]


KNOWN_BY_EPOCH = ("CosineAnnealingLR", "MultiStepLR")  # all that they remember is how many epochs there were


def mean_share(train: Train, batches: int) -> float:
    """Return the mean share of ``train.lr`` that the steps of a fit of so many batches an epoch are taken with.

    A rate that follows validation rows is taken to stay where it is.
    """
    if train.schedule in PLAIN and train.schedule_by is None and not train.warmup:
        return sum(_plain_share(train, epoch) for epoch in range(train.epochs)) / train.epochs
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=train.lr, momentum=0.9)
    rates, found = Rates([optimizer], [train], train.epochs, batches), 0.0
    for _ in range(train.epochs):
        for _ in range(batches if rates.moving else 1):
            rates.begin_step()
            found += optimizer.param_groups[0]["lr"] / train.lr
            rates.end_step()
        rates.end_epoch()
    return found / (train.epochs * (batches if rates.moving else 1))


def _plain_share(train: Train, epoch: int) -> float:
    """Return the share of the rate that an epoch, from 0, is trained with, where it is constant or follows a cosine."""
    lowered = train.gamma ** sum(epoch >= milestone for milestone in train.milestones)
    return lowered * ((1 + math.cos(math.pi * epoch / train.epochs)) / 2 if train.schedule == "cosine" else 1.0)


def _made(kind: type[Any], options: dict[str, Any], optimizer: Any, how: Train, length: int | None) -> Any:
    """Return a schedule of a fit that counts to ``length``; None: of any."""
    given, name = dict(options), how.schedule.partition("?")[0]
    of_fit = length or 10**9
    match kind.__name__:
        case "CosineAnnealingLR":
            given.setdefault("T_max", of_fit)  # Loshchilov & Hutter 2017, eq. 5, without restarts
        case "PolynomialLR":
            given.setdefault("total_iters", of_fit)
        case "OneCycleLR":
            given.setdefault("max_lr", how.lr)
            if "epochs" not in given:
                given.setdefault("total_steps", max(2, of_fit))
        case "CyclicLR":
            given.setdefault("max_lr", how.lr)
        case "ReduceLROnPlateau":
            given = {"mode": "max", "threshold_mode": "abs", **given}
    try:
        made: Any = kind(optimizer, **given)
    except (TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise UsageError(f"train.schedule: '{name}' does not take its options: {error}") from None
    most = getattr(made, "total_steps", None)
    if most is not None and length is not None and most < length:
        raise UsageError(
            f"train.schedule: '{name}' ends after {most} of the {length} times that the rate is set in a fit: leave total_steps, "
            "epochs and steps_per_epoch out, and it lasts as long as the fit"
        )
    return made


def _numbers(schedule: Any) -> dict[str, Any]:
    """Return what a schedule remembers, but for what its options say."""

    def plain(value: Any) -> bool:
        return isinstance(value, bool | int | float) or (isinstance(value, list) and all(map(plain, value)))

    return {name: value for name, value in schedule.state_dict().items() if plain(value)}


def _short(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("LR")).lower() if name != PLATEAU else "plateau"
