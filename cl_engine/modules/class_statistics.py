"""Sums of a frozen net's features by class, from which answers follow in closed form, whatever the order of rows and tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.nn.head import take_off
from cl_engine.nn.learner import Learner
from cl_engine.nn.target import Target
from cl_engine.nn.task_module import TaskModule, module_of
from cl_engine.targets.classes import other_than_classes

NEVER_MET = -1e9  # the logit of a class without rows


class ClassStatistics:
    """Numbers of rows and sums of features by class: ``counts [1, C, 1]`` and ``sums [S, C, D]`` in a strategy's state.

    Where the task is told, each task has classes of its own, so many as the net has outputs; else all tasks share them. A
    strategy has them by saying so in its class, as it has a shared net.

    >>> from cl_engine.nn.net import Net
    >>> from types import SimpleNamespace
    >>> class Mine(SimpleNamespace):
    ...     classes = ClassStatistics()
    >>> build = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    >>> mine = Mine(net=Net(build, (1, 2, 2)), seeds=[0], setting="class")
    >>> mine.state = mine.classes.start()
    >>> mine.state["sums"].rows.shape
    torch.Size([1, 3, 4])
    """

    def __init__(self, strategy: Learner | None = None) -> None:
        """Belong to a strategy, or, in the body of a class, to each of its objects."""
        self._strategy = strategy

    def __get__(self, strategy: Learner | None, owner: type) -> ClassStatistics:
        return self if strategy is None else ClassStatistics(strategy)

    @property
    def _learner(self) -> Learner:
        assert self._strategy is not None, "class statistics are used through the object of a strategy"
        return self._strategy

    def start(self) -> State:
        """Return the state before the first experience: the frozen ``net``, and no rows of the classes all tasks share."""
        net, seeds = self._learner.net, self._learner.seeds
        rows = 0 if self._learner.setting == "task" else net.outputs
        return {
            "net": net.init(seeds),
            "sums": Bank(torch.zeros(len(seeds), rows, net.width, device=net.device)),
            "counts": Bank(torch.zeros(1, rows, 1, device=net.device)),
        }

    def of_task(self, task_id: int | None) -> slice:
        """Return the classes that a task's answers are among."""
        outputs = self._learner.net.outputs
        begin = outputs * task_id if self._learner.setting == "task" and task_id is not None else 0
        return slice(begin, begin + outputs)

    def add(self, experience: Experience, features: Tensor) -> Tensor:
        """Count an experience in, given the features of its rows; return which class is whose ``[N, C]``, of all there are."""
        state, own = self._learner.state, self.of_task(experience.task_id)
        for name, shape in (("sums", features.shape[2:]), ("counts", (1,))):
            bank: Bank = state[name]
            while len(bank) < own.stop:
                bank.put(len(bank), torch.zeros(1, *shape, device=features.device))
        which = F.one_hot(experience.train.y + own.start, len(state["counts"])).to(features.dtype)
        index = torch.arange(own.start, own.stop, device=features.device)
        new = which[:, own]
        state["sums"].put_again(index, state["sums"].rows[:, own] + new.t() @ features)
        state["counts"].put_again(index, state["counts"].rows[:, own] + new.sum(dim=0)[None, :, None])
        return which

    def means(self) -> Tensor:
        """Return the mean features of every class ``[S, C, D]``; 0 of those without rows."""
        means: Tensor = self._learner.state["sums"].rows / self._learner.state["counts"].rows.clamp(min=1)
        return means

    def answers(self, features: Tensor, weight: Tensor, bias: Tensor, task_id: int | None) -> Tensor:
        """Return logits ``[S, N, O]`` of a linear readout ``[S, C, D]``, ``[S, C]``, among the classes of a task.

        A class without rows is never the answer; of a task not yet met, no class is preferred.
        """
        own = self.of_task(task_id)
        if own.stop > len(self._learner.state["counts"]):
            return features.new_zeros(*features.shape[:2], self._learner.net.outputs)
        logits = torch.baddbmm(bias[:, None, own], features, weight[:, own].transpose(1, 2))
        met = self._learner.state["counts"].rows[0, own, 0] > 0
        return torch.where(met, logits, NEVER_MET) if bool(met.any()) else torch.zeros_like(logits)

    def module(
        self, weight: Tensor, bias: Tensor, task_id: int | None, place: int, between: nn.Module | None = None
    ) -> TaskModule:
        """Return `answers` of the seed at this place as a module: the frozen net, what is done to its features, a linear layer.

        Args:
            weight: ``[S, C, D]``.
            bias: ``[S, C]``.
            task_id: the task, None where it is not told.
            place: of the seed.
            between: what is done to features ``[N, width]`` before they are read; None: nothing.
        """
        learner, own = self._learner, self.of_task(task_id)
        state, net = learner.state, learner.net
        if net.draws:
            return module_of(learner, task_id, place)  # type: ignore[arg-type]  # a strategy
        body = net.module(0, {name: tensor[place] for name, tensor in state["net"].items()})
        take_off(body, net.head)
        readout = nn.utils.skip_init(nn.Linear, weight.shape[2], net.outputs, device=net.device)  # it would draw
        met = state["counts"].rows[0, own, 0] > 0
        with torch.no_grad():
            for tensor in readout.parameters():
                tensor.zero_()
            if bool(met.any()):
                readout.weight[met] = weight[place, own][met]
                readout.bias[:] = torch.where(met, bias[place, own], NEVER_MET)
        return TaskModule(net, nn.Sequential(body, between or nn.Identity(), readout))


class Normalised(nn.Module):
    """Brings the features of each row to length 1.

    >>> Normalised()(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return features ``[…, D]`` of the same direction."""
        return F.normalize(features, dim=-1)


def only_classes(targets: Sequence[Target], strategy: str) -> None:
    """Raise a `UsageError` if a task asks for something else than classes."""
    odd = other_than_classes(targets)
    if odd is not None:
        raise UsageError(
            f"the strategy '{strategy}' keeps statistics of classes, and one task asks for '{odd.name()}': choose tasks that ask "
            "for classes, or a strategy such as head_only"
        )
