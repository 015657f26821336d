"""Search for the last modules of earlier solutions that serve a new task behind new first ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.modules.growth import Growth
from cl_engine.modules.module_inputs import ModuleInputs
from cl_engine.modules.surrogate import Surrogate
from cl_engine.nn.net import Params

COMPARED = 200  # inputs that suffixes are held against each other on, at most


@dataclass(frozen=True)
class Suffixes:
    """The suffixes that one seed may choose among, and what is known of them.

    >>> Suffixes(owners=[2], surrogate=Surrogate(np.zeros((2, 1)), worth=0.001)).owners
    [2]

    Attributes:
        owners: for each suffix the first task whose solution ends in it.
        surrogate: what is known of them; the last candidate is the new net.
    """

    owners: list[int]
    surrogate: Surrogate


class SuffixSearch:
    """Search among suffixes by a Gaussian process over how differently they answer (Valkov et al. 2024, §5).

    Of each new module at the depth where suffixes begin some inputs are kept. Two suffixes are as far apart as the root of
    the mean squared difference of their logits on the inputs kept with all of them.

    >>> from cl_engine.runs.plugins import net_builder
    >>> from cl_engine.nn.net import Net
    >>> from cl_engine.targets.classes import Classes
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> growth = Growth(net, [0], lambda task_id: Classes.of(classes=3))
    >>> SuffixSearch(growth, ModuleInputs(net, 20), shortest=3, stored=40, most=16).depth
    1

    Attributes:
        depth: the depth at which the shortest suffixes begin; the first module is never among them.
    """

    def __init__(self, growth: Growth, inputs: ModuleInputs, *, shortest: int, stored: int, most: int) -> None:
        """Search among at most ``most`` suffixes of ``shortest`` modules, with ``stored`` inputs of each first module."""
        self._growth, self._inputs = growth, inputs
        self.depth = max(1, growth.depths - shortest)
        self._stored, self._most = stored, most

    def start(self, seeds: int, device: torch.device) -> State:
        """Return the part of a state that holds inputs of the modules at `depth`, row by row of the library; half precision."""
        shape = (self._stored, *self._inputs.shapes[self.depth]) if self._possible else (0,)
        return {"inputs": Bank.empty(seeds, shape, torch.float16, device)}

    def keep(self, state: State, task: int, new: Tensor, x: Tensor) -> None:
        """Keep inputs of the modules at `depth` that are new ``[S]`` for a task that has been added to the library."""
        if not self._possible or not bool(new.any()):
            return
        rows = x[torch.arange(self._stored, device=x.device) % len(x)]
        kept = self._inputs.kept(self._growth.net_of(state, task), rows, self.depth)
        kept = torch.nan_to_num(kept).clamp(*_range(torch.float16)).to(torch.float16)
        bank: Bank = state["inputs"]
        modules = state["paths"][task][:, self.depth].tolist()
        for seed in new.nonzero().flatten().tolist():
            index = modules[seed]
            whole = bank[index].clone() if index < len(bank) else torch.zeros_like(kept)
            whole[seed] = kept[seed]
            bank.put(index, whole)

    def among(self, state: State, seed: int, fitting: np.ndarray, fresh: Params, worth: float) -> Suffixes | None:
        """Return what one seed chooses among, for a net learned anew ``{name: [S, …]}``; None: there is no suffix.

        Of many those are taken that most tasks use, then those whose tasks came to most. ``fitting [T]`` says whose
        heads would fit the new task.
        """
        tasks = np.flatnonzero(fitting)
        if not self._possible or not len(tasks):
            return None
        rows = state["paths"].rows[seed, :, self.depth :].cpu().numpy()[tasks]
        _, first, count = np.unique(rows, axis=0, return_index=True, return_counts=True)
        score = state["scores"].rows[seed, :, 0].cpu().numpy()[tasks[first]]
        order = np.lexsort((first, -score, -count))[: self._most]
        owners = tasks[first[order]].tolist()
        modules = np.unique(state["paths"].rows[seed, owners, self.depth].cpu().numpy())
        inputs = state["inputs"].rows[seed, modules].flatten(0, 1).float()
        inputs = inputs[torch.linspace(0, len(inputs) - 1, min(COMPARED, len(inputs))).long().to(inputs.device)]
        nets = [self._growth.along(state, state["paths"][owner]) for owner in owners]
        said = [
            self._inputs.answered({n: t[seed] for n, t in net.items()}, inputs, self.depth) for net in [*nets, fresh]
        ]
        points = torch.stack([logits.flatten() for logits in said]).double().cpu().numpy()
        return Suffixes(owners, Surrogate(points / np.sqrt(points.shape[1]), worth))

    @property
    def _possible(self) -> bool:
        """Whether a path has a module behind its first."""
        return self._growth.depths > 1


def _range(dtype: torch.dtype) -> tuple[float, float]:
    return torch.finfo(dtype).min, torch.finfo(dtype).max
