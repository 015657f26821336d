"""Normalisation layers of a net that serves many tasks: shared, or with parts of each task's own."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.masks.layout import Layout, units_of
from cl_engine.nn.net import Net, Params
from cl_engine.nn.units import NORMS

NormPolicy = Literal["frozen", "statistics", "affine"]
MEANING = (
    "normalisation layers: frozen, or a task keeps BatchNorm statistics of its own, or those and the scale and shift"
)


class TaskNorms:
    """The normalisation of every task, as rows of one bank ``[S, n, numbers]`` in the state.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), (1, 2, 2))
    >>> TaskNorms(net, "affine").layout.size
    24

    Attributes:
        layout: the tensors a task keeps.
        tracking: whether BatchNorm uses and updates the statistics of the batch while it learns.
    """

    def __init__(self, net: Net, policy: NormPolicy, among: Collection[str] | None = None) -> None:
        """Find the tensors that a task keeps under this policy, ``among`` those of these names alone."""
        names = [name for name in net.shapes if among is None or name in among]
        of_norms = [name for name in names if isinstance(net.owner(name), NORMS)]
        # whatever training updates is a task's own, in layers of the user's too
        updated = [name for name in names if name in net.updated]
        statistics = [name for name in updated if net.dtypes[name].is_floating_point]
        counters = [name for name in updated if name not in statistics]
        affine = [name for name in of_norms if not net.is_held(name)]
        self.tracking = policy != "frozen"
        self._device, self._counters = net.device, counters if self.tracking else []
        self.layout = Layout.of(net, [*affine * (policy == "affine"), *statistics * self.tracking])

    def start(self, seeds: int) -> State:
        """Return the part ``norms`` of a state, without a task; nothing if a task keeps nothing."""
        if not self.layout.shapes:
            return {}
        return {"norms": Bank.empty(seeds, (self.layout.size,), device=self._device)}

    def of(self, state: State, task_id: int, base: Mapping[str, Tensor]) -> Params:
        """Return the tensors of a task, those of ``base`` for one not yet met."""
        if "norms" in state and task_id < len(state["norms"]):
            return self.layout.named(state["norms"][task_id])
        return {name: base[name] for name in self.layout.shapes}

    def trained(self, state: State, task_id: int, base: Mapping[str, Tensor]) -> Params:
        """Return the tensors handed to a fit: the task's own, and counters that only a fit needs."""
        return {**self.of(state, task_id, base), **{name: base[name] for name in self._counters}}

    def put(self, state: State, task_id: int, params: Mapping[str, Tensor]) -> None:
        """Keep the tensors of a task."""
        if self.layout.shapes:
            state["norms"].put(task_id, self.layout.row(params))


def norm_after(net: Net, layers: Sequence[str]) -> dict[str, str]:
    """Return for layers the normalisation layer that follows each in the module's order, if it has as many channels."""
    order: list[str] = []
    for name in net.shapes:
        layer = name.rpartition(".")[0]
        if layer not in order:
            order.append(layer)
    follows: dict[str, str] = {}
    for layer, following in itertools.pairwise(order):
        norm = net.owner(f"{following}.weight") if f"{following}.weight" in net.shapes else None
        if layer in layers and isinstance(norm, NORMS) and net.shapes[f"{following}.weight"] == (units_of(net, layer),):
            follows[layer] = following
    return follows
