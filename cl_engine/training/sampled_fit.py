"""Fits that practise some of their tasks more than others, as losses of held-out rows say."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event, StrategyEvent
from cl_engine.nn.learner import Learner
from cl_engine.nn.target import Target
from cl_engine.options import OptionGroup, option
from cl_engine.targets.classes import other_than_classes
from cl_engine.training import task_sampling
from cl_engine.training.fit_job import FitOptions
from cl_engine.training.held_out import logged_losses
from cl_engine.training.rehearsal import group_name, group_of, keep_rows, kept_rows

HELD_OUT = 200  # validation rows of a task that are kept, at the most
KEEP = 0.5  # of a smoothed loss, from one epoch to the next
BY_LOSSES = ("loss", "progress", "error")
Answers = Callable[[Tree, Tree | None, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWeighed(StrategyEvent):
    """The share of practice of a task (``other``) in an epoch, and what it lost on held-out rows before it, by seed.

    Shares of all tasks sum to 1. The loss is the share of wrong answers where sampling goes by errors, NaN where by neither.

    >>> event = TaskWeighed(step=3, task_id=3, other=0, epoch=1, weight=(0.4, 0.3), loss=(0.9, 0.8))
    >>> event.weight
    (0.4, 0.3)
    """

    task_id: int
    other: int
    epoch: int
    weight: tuple[float, ...]
    loss: tuple[float, ...]


class Sampling(OptionGroup):
    """Options that say which of the tasks of a fit is practised how much.

    A task with a share p of T tasks counts T p times in the loss. By held-out losses, shares are found before every epoch but
    the first; without ``losses_from`` losses are seen as shares of those after the first epoch, so that they differ from
    the third on (``progress``: from the second).

    >>> Sampling().sampling
    'uniform'
    """

    sampling: task_sampling.Rule = option(
        "uniform",
        "which task is practised more: none, the one of greatest loss, of greatest progress, of most classes (ln), or of most "
        "errors; losses are those of validation rows, of which some of each task are kept",
        before="uniform",
    )
    floor: float = option(0.01, "least share of practice of a task", ge=0, le=1, before=0.01)
    losses_from: str | None = option(
        None,
        "a run of `independent` with validation rows, whose losses (errors) on each task those here are measured by; left out: "
        "the losses after the first epoch (errors: none)",
        before=None,
    )

    def references(self, stream: Stream) -> Tensor | None:
        """Return what the losses (errors) of a stream's tasks are measured by ``[T]``, as a log says; None: it is not said.

        Raises:
            UsageError: if the stream has no validation rows, a target has no such losses, the floors of all tasks come to
                more than 1, or the log does not tell of these tasks.
        """
        if self.losses_from is not None and self.sampling not in BY_LOSSES:
            raise UsageError(
                f"strategy.losses_from: sampling = '{self.sampling}' looks at no losses: leave it out, or use "
                f"{', '.join(BY_LOSSES)}"
            )
        if self.sampling == "uniform":
            return None
        if stream.n_tasks is not None and self.floor * stream.n_tasks > 1:
            raise UsageError(
                f"strategy.floor: {stream.n_tasks} tasks of {self.floor} each are more than 1; allowed is "
                f"1/{stream.n_tasks} at most"
            )
        odd = other_than_classes(stream.targets) if self.sampling in ("classes", "error") else None
        if odd is not None:
            raise UsageError(
                f"strategy.sampling: '{self.sampling}' is for tasks that ask for classes, and one asks for '{odd.name()}': use "
                "'loss' or 'progress'"
            )
        if self.sampling in BY_LOSSES and stream.per_seed:
            raise UsageError(
                f"strategy.sampling: '{self.sampling}' looks at the same validation rows for all seeds, and with stream.per_seed "
                "each has rows of its own: use 'uniform' or 'classes'"
            )
        if self.sampling in BY_LOSSES and not len(stream.arrival(0).validation):
            raise no_held_out(self.sampling)
        if self.losses_from is None:
            return None
        return logged_losses(self.losses_from, stream, "error" if self.sampling == "error" else "loss")


class Sampler(Learner, Protocol):
    """The attributes of a strategy that a sampled fit uses.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy is one
    'Strategy'
    """

    def target_of(self, task_id: int) -> Target:
        """Return what a task asks for."""
        ...

    @property
    def fit(self) -> Callable[..., Generator[Event, None, Tree]]:
        """Train weights on an experience, as `Strategy.fit` does."""
        ...


def sampled_fit(
    strategy: Sampler,
    sampling: Sampling,
    params: Tree,
    loss: Callable[..., Tensor],
    experience: Experience,
    *,
    tasks: Tensor,
    answers: Answers,
    references: Tensor | None = None,
    known: Tensor | None = None,
    **options: Unpack[FitOptions],
) -> Generator[Event, None, Tree]:
    """Fit as `Strategy.fit` does, tasks weighed as ``sampling`` says, and tell of it; uniform, it is the same bit for bit.

    The loss is `cl_engine.nn.task_heads.weighted_loss`, or one that reads ``params["sampling"]["weight"] [T]`` likewise. Some
    validation rows of each task are kept in the state's part ``held_out``; or, by rule, its number of classes in ``classes``.

    Args:
        strategy: whose fit it is.
        sampling: its options.
        params, loss, experience, options: as for `Strategy.fit`.
        tasks: the tasks that rows are of ``[T]``, in ascending order.
        answers: ``answers(params, frozen, x, t)``, outputs of one seed for rows of the tasks at the places ``t [N]`` of these.
        references: what `Sampling.references` returned.
        known: which of the tasks a seed has rows of ``[S, T]``; None: all.

    Raises:
        UsageError: if there are no validation rows of a task, and shares go by their losses.
    """
    if sampling.sampling == "uniform":
        return (yield from strategy.fit(params, loss, experience, **options))
    if sampling.sampling in BY_LOSSES:
        if not len(experience.validation):
            raise no_held_out(sampling.sampling)
        _hold_out(strategy, experience)
    else:
        classes = strategy.state.setdefault("classes", Bank.empty(1, (1,), device=strategy.net.device))
        classes.put(experience.task_id, torch.tensor([[float(experience.classes)]]))
    epochs = options.get("train", strategy.train).epochs
    shares = _Shares(strategy, sampling, tasks, answers, references is not None)
    own = shares.start(epochs, references, known)
    trained = yield from strategy.fit({**params, "sampling": own}, loss, experience, each_epoch=shares, **options)
    yield from _told(trained.pop("sampling"), tasks, experience)
    return trained


class _Shares:
    """What finds the shares of an epoch, of one seed: leaves of ``params`` that the loss reads."""

    def __init__(self, strategy: Sampler, sampling: Sampling, tasks: Tensor, answers: Answers, referred: bool) -> None:
        self._net, self._seeds = strategy.net, len(strategy.seeds)
        self._sampling, self._answers, self._referred = sampling, answers, referred
        self._tasks = tasks
        if "classes" in strategy.state:
            self._classes = strategy.state["classes"].rows[0, tasks, 0]
        self._rows: list[tuple[Tensor, Tensor, Tensor, Target]] = []
        for group, (x, y, t) in kept_rows(strategy.state, "held_out").items():
            here = torch.isin(t, tasks).nonzero()[:, 0]  # in replay some tasks may be remembered by nobody
            if len(here):
                places = torch.searchsorted(tasks, t[here])
                self._rows.append((x[here], y[here], places, strategy.target_of(group)))

    def start(self, epochs: int, references: Tensor | None, known: Tensor | None) -> Tree:
        """Return the leaves to begin with, of all seeds."""
        seeds, tasks, device = self._seeds, len(self._tasks), self._net.device
        none = torch.zeros(seeds, tasks, device=device)
        there = none + 1 if known is None else known.to(none.dtype)
        reference = none if references is None else none + references.to(device)[self._tasks]
        told = {name: torch.zeros(seeds, epochs, tasks, device=device) for name in ("shares", "losses")}
        return {"weight": none + 1, "known": there, "reference": reference, "smooth": none, **told}

    def __call__(self, epoch: int, params: Tree, frozen: Tree | None) -> Tree:
        own, rule = params["sampling"], self._sampling.sampling
        losses = self._losses(params, frozen)
        before, known = own["smooth"], own["known"]
        # what the untrained net loses is what progress begins at, and no more
        smooth = losses if epoch < 2 else KEEP * before + (1 - KEEP) * losses
        measured = epoch == 1 and not self._referred and rule != "error"
        reference = smooth if measured else own["reference"]
        worth = known
        if rule == "classes":
            worth = task_sampling.by_classes(self._classes)
        elif epoch:
            worth = {
                "loss": lambda: task_sampling.by_loss(smooth * known, reference),
                "progress": lambda: task_sampling.by_progress(smooth, reference, before),
                "error": lambda: task_sampling.by_error(smooth, reference),
            }[rule]()
        share = task_sampling.shares(worth, self._sampling.floor, known)
        now = (torch.arange(len(own["shares"]), device=share.device) == epoch).unsqueeze(1)
        return {
            "sampling": {
                "weight": share * known.sum(),
                "reference": reference,
                "smooth": smooth,
                "shares": torch.where(now, share, own["shares"]),
                "losses": torch.where(now, losses, own["losses"]),
            }
        }

    def _losses(self, params: Tree, frozen: Tree | None) -> Tensor:
        """Return the mean loss on the held-out rows of each task ``[T]``, or the share answered wrong; NaN without such rows."""
        net, device, count = self._net, self._net.device, len(self._tasks)
        total, rows = torch.zeros(count, device=device), torch.zeros(count, device=device)
        for *tensors, target in self._rows:
            at_once = len(net.chunks(tensors[0])[0])
            for x, y, t in zip(*(tensor.split(at_once) for tensor in tensors), strict=True):
                outputs = self._answers(params, frozen, net.laid_out(net.prepare(x)), t)
                wrong = self._sampling.sampling == "error"
                lost = (target.answers(outputs) != y).float() if wrong else target.losses(outputs, y)
                of_task = F.one_hot(t, count).to(lost.dtype)
                total, rows = total + lost @ of_task, rows + of_task.sum(dim=0)
        return total / rows


def _hold_out(strategy: Sampler, experience: Experience) -> None:
    """Keep some validation rows of a task, in the place of those that it had."""
    task, few = experience.task_id, experience.validation.spread(HELD_OUT)
    name = group_name("held_out", group_of(strategy.target_of, task))
    held = strategy.state.get(name)
    if held is not None:
        others = held["t"][0] != task
        strategy.state[name] = {part: rows[:, others] for part, rows in held.items()}
    keep_rows(strategy.state, name, few, task)


def _told(own: Tree, tasks: Tensor, experience: Experience) -> Iterator[TaskWeighed]:
    """Yield the shares of each epoch, ``[S, epochs, T]``."""
    shares, losses = (own[name].transpose(0, 2).tolist() for name in ("shares", "losses"))
    for epoch in range(own["shares"].shape[1]):
        for place, task in enumerate(tasks.tolist()):
            yield TaskWeighed(
                step=experience.step,
                task_id=experience.task_id,
                other=task,
                epoch=epoch,
                weight=tuple(shares[place][epoch]),
                loss=tuple(losses[place][epoch]),
            )


def no_held_out(rule: str) -> UsageError:
    """Return the error for shares that go by losses where there are no rows to lose on."""
    return UsageError(
        f"strategy.sampling: '{rule}' goes by the losses of validation rows, and the stream sets none aside: say which share of "
        "the training rows it shall (stream.validation), such as 0.2"
    )
