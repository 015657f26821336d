"""What a seed group is at the end of an epoch, as a checkpoint keeps it and a resumed fit begins with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.tree import Path, Tree, leaves_with_path, tree_map
from cl_engine.training import cuda_graphs
from cl_engine.training.averaging import AveragedWeights
from cl_engine.training.early_stopping import EarlyStopping
from cl_engine.training.group_rows import GroupRows
from cl_engine.training.group_upkeep import GroupUpkeep
from cl_engine.training.online_sums import OnlineSums
from cl_engine.training.optimizer_memory import (
    OptimizerMemory,
    beside,
    optimizer_state,
    remembered,
    restore_optimizer,
)
from cl_engine.training.rates import Rates


class GroupState(GroupRows):
    """The part of a seed group that outlives its process: what it trains, and what its optimisers remember.

    >>> sorted(name for name in vars(GroupState) if name[0] != "_")
    ['answering', 'begin_anew', 'fits', 'kept_up', 'remembered', 'restore', 'state']
    """

    params: Tree
    weights: Mapping[Path, Tensor]
    optimizers: list[torch.optim.Optimizer]
    rates: Rates
    averages: AveragedWeights | None
    losses: list[float]
    early_stopping: EarlyStopping
    flops: float
    replay: cuda_graphs.Replay | None
    upkeep: GroupUpkeep | None
    online: OnlineSums | None
    total: Tensor

    @property
    def answering(self) -> Tree:
        """The tree that answers: what is trained, or its average."""
        return self.params if self.averages is None else self.averages.of(self.params)

    def state(self) -> Tree:
        """Return all that the group is at the end of an epoch."""
        return {
            "params": tree_map(lambda leaf: leaf.detach().clone(memory_format=torch.contiguous_format), self.params),
            "optimizers": {
                str(k): optimizer_state(optimizer, self.weights) for k, optimizer in enumerate(self.optimizers)
            },
            **self.rates.state(),
            "best": self.early_stopping.state(),
            "flops": self.flops,
            **({"upkeep": kept} if (kept := self.upkeep.remembered() if self.upkeep is not None else {}) else {}),
            **({} if self.averages is None else {"averages": self.averages.state()}),
            **({} if self.job.train.patience is None else {"losses": self.losses}),
        }

    def restore(self, state: Tree) -> None:
        """Resume from what `state` returned, of a group of the same job."""
        saved = dict(leaves_with_path(state["params"]))
        with torch.no_grad():
            for path, leaf in leaves_with_path(self.params):
                leaf.copy_(saved[path])
        for k, optimizer in enumerate(self.optimizers):
            restore_optimizer(optimizer, self.weights, state["optimizers"][str(k)])
        self.rates.restore(state)
        self.early_stopping.restore(state["best"])
        self.flops, self.losses = state["flops"], state.get("losses", self.losses)
        if self.averages is not None:
            self.averages.restore(state["averages"])
        if self.upkeep is not None:
            self.upkeep.restore(state.get("upkeep", {}))
        if self.replay is not None:
            self.replay.forget()

    def fits(self, state: Tree) -> bool:
        """Return whether a state is one of a group of the same job with the same number of seeds."""
        mine, theirs = dict(leaves_with_path(self.params)), dict(leaves_with_path(state["params"]))
        return {p: t.shape for p, t in mine.items()} == {p: t.shape for p, t in theirs.items()}

    def begin_anew(self) -> None:
        """Let the optimisers forget what they remember."""
        for optimizer in self.optimizers:
            optimizer.state.clear()

    def _touched(self) -> list[Tensor]:
        """Return all tensors that a step changes."""
        remembered = [optimizer.state.get(leaf, {}) for optimizer in self.optimizers for leaf in self.weights.values()]
        own = [value for state in remembered for value in state.values() if isinstance(value, Tensor)]
        counted = [] if self.online is None else [self.online.sums]
        averaged = [] if self.averages is None else self.averages.held.values()
        return [self.total, *counted, *averaged, *(leaf for _, leaf in leaves_with_path(self.params)), *own]

    def _rates(self) -> tuple[Any, ...]:
        """Return what a recording of a step takes for granted; rates in tensors are where it looks for them."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        rates = (group["lr"] for group in groups)
        more = (group.get(name) for group in groups for name in ("momentum", "betas"))
        told = (None if isinstance(rate, Tensor) else float(rate) for rate in rates)
        return (*told, *(tuple(one) if isinstance(one, list) else one for one in more))

    def remembered(self) -> Tree:
        """Return what the optimisers remember, with the axis of seeds in front."""
        return remembered(self.weights, self.optimizers, together=self.rows_axis == 1)

    def kept_up(self) -> Tree:
        """Return what the upkeep remembers, with the axis of seeds in front."""
        return {} if self.upkeep is None else self.upkeep.remembered()

    def _remember(self, memory: OptimizerMemory) -> None:
        """Let the optimisers go on with the weights that the fit before left as they are."""
        for path, own in memory.of_weights(self.job.params, self.optimizers).items():
            weight = self.weights[path]
            for optimizer in self.optimizers:
                if any(weight is each for group in optimizer.param_groups for each in group["params"]):
                    optimizer.state[weight] = {
                        name: beside(weight, self.part(value).to(weight.device) if value.ndim > 1 else value[0].clone())
                        for name, value in own.items()
                    }
