"""Growth of a library of modules: nets of past tasks, sources for a new one, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.modules.events import NOBODY, ModuleAdded, PathChosen, PathStep, SourceScored
from cl_engine.modules.library import Library
from cl_engine.modules.logged_transfers import LoggedTransfers
from cl_engine.modules.transferability import compared, neighbours_among, pooled
from cl_engine.nn.division import division
from cl_engine.nn.net import Net, Params
from cl_engine.nn.target import Target, quality


class Growth:
    """Adds tasks to a library of modules one by one.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> from cl_engine.targets.classes import Classes
    >>> Growth(net, [0, 1], lambda task_id: Classes.of(classes=3)).depths
    3

    Attributes:
        parts: names of the weights and buffers of each module, by depth.
        depths: number of modules on a path, the head among them.
    """

    def __init__(
        self, net: Net, seeds: Sequence[int], target_of: Callable[[int], Target], apart: Collection[str] = ()
    ) -> None:
        """Grow over modules of this net; ``target_of`` says what a task asks for, ``apart`` are names in no module."""
        self._net, self._seeds, self._target_of = net, list(seeds), target_of
        self.parts = division(net)
        self.library = Library(net, self.parts, apart)
        self.depths = self.library.depths
        self._initial = net.init(seeds)

    def start(self) -> State:
        """Return the part of a state that holds modules, paths, and the number of classes of each task."""
        return {**self.library.start(len(self._seeds)), "classes": torch.zeros(1, 0, dtype=torch.int64)}

    def net_of(self, state: State, task_id: int) -> Params:
        """Return the weights of a task, untrained ones for a task not yet met."""
        paths = state["paths"]
        if task_id >= len(paths):
            return self._initial
        return self.along(state, paths[task_id])

    def predict(self, state: State, x: Tensor, task_id: int | None) -> Tensor:
        """Return logits ``[S, N, C]`` of a task's own path."""
        assert task_id is not None, "the task is told"
        return self._net.all(self.net_of(state, task_id), x)

    def fingerprint(self, state: State, task_id: int | None) -> int | None:
        """Return a number that says which path a task has: modules are never changed."""
        return None if task_id is None else int(state["paths"].writes(task_id))

    def along(self, state: State, path: Tensor) -> Params:
        """Return the weights along paths ``[S, depths]``."""
        return {**self._initial, **self.library.params(state, path)}

    def fresh(self, key: int) -> Params:
        """Return untrained weights, other ones for each task."""
        drawn = self._net.init([rng.derive(seed, "modules", key) for seed in self._seeds])
        return {**drawn, **{name: self._initial[name] for name in self.library.shared}}

    def new_names(self, reuse: Sequence[bool]) -> list[str]:
        """Return the names of what is new on a path that reuses a module at the depths where ``reuse`` is true."""
        return [name for old, part in zip(reuse, self.parts, strict=True) if not old for name in part]

    def tracking(self, params: Params) -> list[str]:
        """Return the layers that update tensors among ``params`` (BatchNorm): they learn statistics of their own."""
        return list({name.rpartition(".")[0] for name in params.keys() & self._net.updated})

    def ranked(
        self,
        state: State,
        experience: Experience,
        *,
        k: int,
        rows: int,
        logged: LoggedTransfers | None = None,
        among: Sequence[int] | None = None,
    ) -> Generator[Event, None, list[list[int]]]:
        """Return for each seed the past tasks, those first whose features suit the new task best.

        Asked are k nearest neighbours among the training rows, about the validation rows (Veniat et al. 2021, §4), on
        at most ``rows`` rows of each; or the log of a taxonomy, where one is given. ``among`` names the tasks that are
        looked at; None: all.
        """
        scores: list[tuple[float, ...]] = []
        train, validation = experience.train.spread(rows), experience.validation.spread(rows)
        known, wanted = (compared(self._target_of(experience.task_id), part.y) for part in (train, validation))
        tasks = list(range(len(state["paths"])) if among is None else among)
        for task in tasks:
            if logged is not None:
                scores.append((logged.source(experience.task_id, task),) * len(self._seeds))
            else:
                params = self.net_of(state, task)
                pairs = zip(
                    self._net.all_features(params, train.x), self._net.all_features(params, validation.x), strict=True
                )
                scores.append(tuple(neighbours_among(pooled(f), known, pooled(g), wanted, k=k) for f, g in pairs))
            yield SourceScored(step=experience.step, task_id=experience.task_id, source=task, score=scores[-1])
        by_seed = zip(*scores, strict=True) if scores else [()] * len(self._seeds)
        best = [sorted(range(len(own)), key=lambda place, own=own: -own[place]) for own in by_seed]  # type: ignore[misc]
        return [[tasks[place] for place in own] for own in best]

    def paths_of(self, state: State, tasks: Sequence[int]) -> Tensor:
        """Return the path of one task for each seed, ``[S, depths]``."""
        return torch.stack([state["paths"].rows[seed, task] for seed, task in enumerate(tasks)])

    def same_outputs(self, state: State, tasks: Sequence[int], experience: Experience) -> Tensor:
        """Return for each seed whether its past task asks for the same as the experience, so that its head would fit ``[S]``."""
        wanted = experience.classes, self._target_of(experience.task_id).key
        same = [(int(state["classes"][0, task]), self._target_of(task).key) == wanted for task in tasks]
        return torch.tensor(same, device=self._net.device)

    def accuracy(self, params: Params, experience: Experience) -> Tensor:
        """Return the score on validation rows, ``[S]``, more of which is better: accuracy of classes."""
        rows = experience.validation
        return quality(self._target_of(experience.task_id), self._net.all(params, rows.x), rows.y)

    def loss(self, params: Params, experience: Experience) -> Tensor:
        """Return the mean loss of the validation rows, ``[S]``."""
        rows, target = experience.validation, self._target_of(experience.task_id).smoothed(0.0)
        return torch.stack([target.mean_loss(outputs, rows.y) for outputs in self._net.all(params, rows.x)])

    def keep(
        self,
        state: State,
        experience: Experience,
        params: Params,
        path: Tensor,
        new: Tensor,
        *,
        source: Sequence[int] | None,
        validation: Tensor,
    ) -> Iterator[Event]:
        """Add a task: its path, and the modules on it that are new ``[S, depths]``; yield the events of it.

        ``source`` is the past task whose modules the path reuses, seed by seed; ``validation`` the accuracy there, ``[S]``.
        """
        step, task = experience.step, experience.task_id
        kept = self.library.add(state, params, path, new)
        state["paths"].put(task, kept)
        known = torch.tensor([[experience.classes]], device=state["classes"].device)
        state["classes"] = torch.cat([state["classes"], known], dim=1)
        yield PathChosen(
            step=step,
            task_id=task,
            source=tuple(source or [NOBODY] * len(self._seeds)),
            reused=tuple((~new).sum(dim=1).tolist()),
            validation=tuple(validation.tolist()),
        )
        for depth in range(self.depths):
            modules = kept[:, depth].tolist()
            yield PathStep(step=step, part=f"depth {depth}", task_id=task, module=tuple(modules))
            if bool(new[:, depth].any()):
                added = zip(modules, new[:, depth].tolist(), strict=True)
                rows = tuple(module if one else NOBODY for module, one in added)
                yield ModuleAdded(step=step, part=f"depth {depth}", task_id=task, module=rows)
