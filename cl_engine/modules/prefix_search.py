"""Search for the old modules that a new task's inputs go through best, layer by layer and without training."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.modules.events import PrefixScored
from cl_engine.modules.growth import Growth
from cl_engine.modules.module_inputs import ModuleInputs


@dataclass(frozen=True)
class Prefixes:
    """The old modules that a new task may begin with: rows of the library ``[S, depths]``, as far as there are any.

    >>> Prefixes(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.int64), longest=2).longest
    2

    Attributes:
        path: the module of each depth.
        source: the task whose inputs of that module are nearest, ``[S, depths]``.
        longest: number of modules of the longest prefix.
    """

    path: Tensor
    source: Tensor
    longest: int


class PrefixSearch:
    """Greedy search for prefixes by a Gaussian of the inputs that each module had of each task (Valkov et al. 2024, §4).

    At each depth that module is taken for which prior and likelihood of the new task's hidden states are greatest. The
    prior of a module and a task that used it is the softmax of what the tasks came to on validation rows; a prefix is scored
    by the prior of its modules, times the likelihood of what each is given, over what any module there makes likely.

    >>> from cl_engine.runs.plugins import net_builder
    >>> from cl_engine.nn.net import Net
    >>> from cl_engine.targets.classes import Classes
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> growth = Growth(net, [0], lambda task_id: Classes.of(classes=3))
    >>> search = PrefixSearch(growth, ModuleInputs(net, dimensions=20), temperature=0.001)
    >>> [len(bank) for bank in search.start(1, net.device)["gaussians"].values()]
    [0, 0, 0]
    """

    def __init__(self, growth: Growth, inputs: ModuleInputs, temperature: float) -> None:
        """Search in a library, at a temperature of the prior."""
        self._growth, self._inputs, self._temperature = growth, inputs, temperature

    def start(self, seeds: int, device: torch.device) -> State:
        """Return the part of a state that holds a Gaussian for each depth and task, and what the task came to."""
        sizes = [gaussians.size for gaussians in self._inputs.gaussians]
        return {
            "gaussians": {f"{depth}": Bank.empty(seeds, (size,), device=device) for depth, size in enumerate(sizes)},
            "scores": Bank.empty(seeds, (1,), device=device),
        }

    def keep(self, state: State, experience: Experience, x: Tensor, score: Tensor) -> None:
        """Keep the Gaussians of a task that has been added to the library, of rows ``x``, and its score ``[S]``."""
        task = experience.task_id
        seen = self._inputs.seen(self._growth.net_of(state, task), x)
        for depth, (gaussians, given) in enumerate(zip(self._inputs.gaussians, seen, strict=True)):
            state["gaussians"][f"{depth}"].put(task, gaussians.row(given))
        state["scores"].put(task, score.unsqueeze(1))

    def found(
        self, state: State, experience: Experience, x: Tensor, fitting: Tensor
    ) -> Generator[Event, None, Prefixes]:
        """Return the prefixes for inputs ``x`` of a new task; ``fitting [T]`` says whose heads would fit it."""
        paths = state["paths"].rows
        depths = self._growth.depths if bool(fitting.any()) else self._growth.depths - 1
        path, source = torch.zeros_like(paths[:, 0]), torch.zeros_like(paths[:, 0])
        evidence = torch.zeros(len(path), dtype=torch.float64, device=path.device)
        for depth in range(depths):
            # what comes behind the prefix plays no part in what it gives, so it may be any module
            seen = self._inputs.at(self._growth.along(state, path), x, depth)
            chance = self._prior(state, None if depth < self._growth.depths - 1 else fitting)
            likely = self._inputs.gaussians[depth].log_density(state["gaussians"][f"{depth}"].rows, seen)
            joint = chance + likely
            best = joint.max(dim=1)
            evidence = evidence + best.values
            source[:, depth] = best.indices
            path[:, depth] = paths[:, :, depth].gather(1, best.indices.unsqueeze(1)).squeeze(1)
            yield PrefixScored(
                step=experience.step,
                part=f"depth {depth}",
                task_id=experience.task_id,
                source=tuple(best.indices.tolist()),
                module=tuple(path[:, depth].tolist()),
                log_score=tuple(evidence.tolist()),
            )
            evidence = evidence - torch.logsumexp(joint, dim=1)
        return Prefixes(path, source, depths)

    def _prior(self, state: State, among: Tensor | None) -> Tensor:
        """Return the log of the prior of each task's use of a module, ``[S, T]``; none of those not ``among``."""
        scores = torch.nan_to_num(state["scores"].rows.squeeze(2).double()) / self._temperature
        if among is not None:
            scores = torch.where(among, scores, -torch.inf)
        return torch.log_softmax(scores, dim=1)
