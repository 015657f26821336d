"""A net that all tasks share, with a head for each task where the task is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.errors import UsageError
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.learner import Learner
from cl_engine.nn.net import Params
from cl_engine.nn.target import Target
from cl_engine.nn.task_heads import empty_heads, head_of, mixed_logits, row_of, weighted_loss


class SharedNet:
    """One net for all tasks, kept in the strategy's state as ``net``, and its heads as ``heads`` where the task is told.

    A strategy has one by saying so in its class: ``shared = SharedNet()``. Each strategy object then has its own.

    >>> from cl_engine.nn.net import Net
    >>> from types import SimpleNamespace
    >>> class Mine(SimpleNamespace):
    ...     shared = SharedNet()
    >>> build = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    >>> mine = Mine(net=Net(build, (1, 2, 2)), seeds=[0, 1], setting="task", train=SimpleNamespace(task_heads="alike"))
    >>> mine.state = mine.shared.start()
    >>> mine.shared.keep(0, mine.shared.params(0))
    >>> len(mine.state["heads"]), mine.shared.params(0)["head.weight"].shape
    (1, torch.Size([2, 3, 4]))
    """

    def __init__(self, strategy: Learner | None = None) -> None:
        """Belong to a strategy, or, in the body of a class, to each of its objects."""
        self._strategy = strategy

    def __get__(self, strategy: Learner | None, owner: type) -> SharedNet:
        return self if strategy is None else SharedNet(strategy)

    @property
    def _learner(self) -> Learner:
        assert self._strategy is not None, "a shared net is used through the object of a strategy: self.shared"
        return self._strategy

    def start(self) -> State:
        """Return the state before the first experience: ``net``, and ``heads``, none yet, where the task is told."""
        net, seeds = self._learner.net, self._learner.seeds
        params = net.init(seeds)
        return (
            {"net": params, "heads": empty_heads(net, len(seeds))}
            if self._learner.setting == "task"
            else {"net": params}
        )

    def params(self, task_id: int | None) -> Params:
        """Return the net's weights with the head of this task; the untrained head for a task not yet met."""
        params: Params = self._learner.state["net"]
        heads: Bank | None = self._learner.state.get("heads")
        if heads is None or task_id is None:
            return params
        if task_id >= len(heads):
            return {**params, **head_of(self._untrained([task_id], params)[:, 0])}
        return {**params, **head_of(heads[task_id])}

    def keep(self, task_id: int, params: Tree) -> None:
        """Put trained weights in the place of the net's, and the head in the place of this task's."""
        state = self._learner.state
        if "heads" in state:
            state["heads"].put(task_id, row_of(params))
            params = {**params, **{name: state["net"][name] for name in (HEAD_WEIGHT, HEAD_BIAS)}}
        state["net"] = params

    def reset_head(self, how: Literal["zero", "draw"], key: int) -> None:
        """Put zeros, or weights that are drawn anew from this key, in the place of the head that all tasks share."""
        state, net = self._learner.state, self._learner.net
        drawn = net.init([rng.derive(seed, "head", key) for seed in self._learner.seeds]) if how == "draw" else None
        held = state["net"]
        new = {
            name: torch.zeros_like(held[name]) if drawn is None else drawn[name] for name in (HEAD_WEIGHT, HEAD_BIAS)
        }
        state["net"] = {**held, **new}

    def params_midway(self, params: Tree, task_id: int | None) -> Params:
        """Return the weights that answer a task met before while ``params``, those of the net, are being fitted."""
        if "heads" not in self._learner.state or task_id is None:
            return dict(params)
        return {**params, **head_of(self._learner.state["heads"][task_id])}

    # The net trained on rows of several tasks at once, each row under the head of its own task.

    def of_tasks(self, tasks: Tensor, fresh: bool = False) -> Tree:
        """Return the net and the heads of these ``tasks [T]``, which ascend, to be fitted; untrained if ``fresh``."""
        learner = self._learner
        net: Params = learner.net.init(learner.seeds) if fresh else learner.state["net"]
        if "heads" not in learner.state:
            return {"net": net}
        heads: Bank = learner.state["heads"]
        held = tasks[:0] if fresh else tasks[tasks < len(heads)]
        untrained = self._untrained(tasks[len(held) :].tolist(), net)
        return {"net": net, "heads": torch.cat([heads.rows.index_select(1, held), untrained], dim=1)}

    def _untrained(self, tasks: Sequence[int], params: Params) -> Tensor:
        """Return the heads that these tasks begin with ``[S, T, O, width + 1]``: that among ``params``, or one drawn for each."""
        learner = self._learner
        if learner.train.task_heads == "alike" or not tasks:
            return row_of(params).unsqueeze(1).expand(-1, len(tasks), -1, -1)
        seeds = [[rng.derive(seed, "head of a task", task) for seed in learner.seeds] for task in tasks]
        drawn = [learner.net.init(own) for own in seeds]
        return torch.stack([row_of(each) for each in drawn], dim=1)

    def keep_tasks(self, tasks: Tensor, trained: Tree) -> None:
        """Keep what was fitted from `of_tasks`."""
        state = self._learner.state
        state["net"] = trained["net"]
        if "heads" in trained:
            heads: Bank = state["heads"]
            held = int((tasks < len(heads)).sum())
            heads.put_again(tasks[:held], trained["heads"][:, :held])
            for task_id, row in zip(tasks[held:].tolist(), trained["heads"][:, held:].unbind(dim=1), strict=True):
                heads.put(task_id, row)

    def task_logits(self, params: Tree, frozen: Tree | None, x: Tensor, t: Tensor) -> Tensor:
        """Return logits ``[N, C]`` of one seed from what `of_tasks` returned; ``t [N]`` are places among its tasks."""
        if "heads" not in params:
            return self._learner.net.one(params["net"], x)
        return mixed_logits(self._learner.net, params["net"], params["heads"], x, t)

    def task_loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Return the loss of what the task being learned asks for, of `task_logits`."""
        return self.loss_of(self._learner.target)(params, frozen, x, y, t)

    def loss_of(self, target: Target) -> Callable[..., Tensor]:
        """Return the loss of rows of tasks that ask for this, given as `task_loss` is given them."""
        return weighted_loss(target, self.task_logits)

    def logits_at(self, place: int) -> Callable[[Tree, Tree | None, Tensor], Tensor]:
        """Return `task_logits` for rows that are all of the task at this place, to be tested with while learning."""

        def logits(params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
            t = torch.full((len(x),), place, dtype=torch.int64, device=x.device)
            return self.task_logits(params, frozen, x, t)

        return logits


def check_heads(owner: type, name: str, setting: str, train: Any) -> None:
    """Refuse options of training about heads that a kind of strategy does not have, or not in this setting.

    Raises:
        UsageError: naming the option.
    """
    shares = isinstance(getattr(owner, "shared", None), SharedNet)
    if train.reset_head != "never":
        if not shares:
            raise UsageError(f"train.reset_head: the strategy '{name}' has no head that all tasks share; leave it out")
        if setting == "task":
            raise UsageError(
                "train.reset_head: where the task is told, each has a head of its own, which begins anew; leave it out, or use "
                "stream.setting = 'domain' or 'class'"
            )
    if train.task_heads != "alike":
        if not shares:
            raise UsageError(f"train.task_heads: the strategy '{name}' has no net that all tasks share; leave it out")
        if setting != "task":
            raise UsageError(
                "train.task_heads: where the task is not told, tasks have no heads of their own; leave it out"
            )
