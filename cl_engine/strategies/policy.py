"""Policy: some tasks are trained in full, and the others read the nets of those."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank, empty_banks
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError, unknown
from cl_engine.events import Event, StrategyEvent
from cl_engine.modules.readout import Readout, ReadoutOptions
from cl_engine.nn.net import Params
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy

Routes = dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed(StrategyEvent):
    """A task was learned from so many training rows with labels, reading the nets of the tasks in ``part`` (empty: its own).

    >>> event = Routed(step=3, part="0+2", task_id=3, labels=400)
    >>> event.part
    '0+2'
    """

    part: str
    task_id: int
    labels: int


class Policy(Strategy):
    """Policy: tasks with a route are learned as a small readout of the nets of other tasks, all others by a net of their own.

    What a taxonomy comes to (Zamir et al. 2018, §3.4), executed: who is trained in full, and who reads whom. How many labels
    each task gets is the stream's to say (``stream.labelled``); ``labels`` bounds those of routes besides. A source must be
    trained in full and arrive first. A task that comes back is not learned again.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("views_digits", "policy", **{"routes": {"parity": ["digit"], "loops": ["digit", "parity"]}})
    >>> experiment.build_strategy(experiment.stream())
    Traceback (most recent call last):
    ...
    cl_engine.errors.UsageError: strategy.routes: 'loops' reads 'parity', which has a route itself and so no net of its own
    """

    settings = ("task",)
    validates = False

    routes: dict[str, list[str]] = option(
        {}, "the tasks whose nets a task reads, by names: { parity = ['digit'] }; those left out are trained in full"
    )
    control: Literal["none", "random", "sources_random_routes", "scratch", "full"] = option(
        "none",
        "what is done in place of the routes: others of as many tasks (random), others from the same trained tasks, a whole "
        "net from a route's few labels (scratch), or from all (full)",
    )
    draw: int = option(0, "number that random routes are drawn from", ge=0)
    labels: int | None = option(None, "training rows with labels that a route is learned from; left out: all", ge=1)
    readout: ReadoutOptions
    _routes: Routes | None = None

    def start(self) -> State:
        first, device = self.net.init(self.seeds), self.net.device
        nets = empty_banks(first, without=self.net.frozen)
        # of each task how many nets it reads, and the row of its readout among those of as many, or of its net (0)
        return {"first": first, "nets": nets, "ways": Bank.empty(1, (2,), torch.int64, device)}

    @property
    def looks_ahead(self) -> bool:
        return self.control == "random"

    def check_stream(self, stream: Stream) -> None:
        self._routes = self._drawn(self._named(stream), stream)

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        if task < len(state["ways"]):
            return
        if self._routes is None and self.routes:
            raise UsageError("strategy.routes: tasks are called by names, and nothing here says what they are called")
        few: Routes = {} if self._routes is None or self.control == "full" else self._routes
        rows = self._few(experience) if task in few else experience.train
        sources = () if self.control == "scratch" else few.get(task, ())
        if sources:
            learned = yield from self._read(sources, rows, experience)
            kept = state.setdefault("readouts", {}).setdefault(str(len(sources)), {})
        else:
            train = self.readout.of_few(self.train, len(rows)) if task in few else self.train
            learned = yield from self.fit(state["first"], self.loss, experience, rows=(rows.x, rows.y), train=train)
            learned, kept = {name: learned[name] for name in state["nets"]}, state["nets"]
        for name, tensor in learned.items():
            bank = kept.setdefault(name, Bank.empty(len(tensor), tensor.shape[1:], tensor.dtype, tensor.device))
            bank.put(len(bank), tensor)
        way = torch.tensor([[len(sources), len(bank) - 1]], device=self.net.device)
        state["ways"].put(task, way)
        yield Routed(step=experience.step, part="+".join(map(str, sources)), task_id=task, labels=len(rows))

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        if frozen is None:
            return self.net.one(params, x)
        return self._readout.logits(params, frozen["nets"], x)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        if task_id is None or task_id >= len(self.state["ways"]):
            return self.net.all(self.state["first"], x)
        sources, row = self.state["ways"].numbers(task_id)
        if not sources:
            return self.net.all(self._net(row), x)
        kept = {name: bank[row] for name, bank in self.state["readouts"][str(sources)].items()}
        nets = {str(place): self._net(net) for place, net in enumerate(kept.pop("nets")[0].tolist())}
        tree = {"readout": kept, "nets": nets}
        return self.net.over_seeds(lambda own, part: self._readout.logits(own["readout"], own["nets"], part), tree, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        return None if task_id is None else self.state["ways"].writes(task_id)

    @cached_property
    def _readout(self) -> Readout:
        return Readout(self.net, self.readout)

    def _net(self, row: int) -> Params:
        return {**self.state["first"], **{name: bank[row] for name, bank in self.state["nets"].items()}}

    def _few(self, experience: Experience) -> Data:
        """Return the rows that a route is learned from."""
        train = experience.train
        if self.labels is None or self.labels >= len(train):
            return train
        drawn = torch.randperm(len(train), generator=rng.tensors(0, "labels", experience.key))[: self.labels]
        own = drawn.to(train.y.device)
        return Data(train.x[own], train.y[own])

    def _read(self, sources: tuple[int, ...], rows: Data, experience: Experience) -> Generator[Event, None, Params]:
        """Fit a readout of the nets of ``sources``, and return it with the rows of these nets ``nets [S, k]``."""
        seeds, where = len(self.seeds), [self.state["ways"].numbers(source)[1] for source in sources]
        nets = {str(place): self._net(row) for place, row in enumerate(where)}
        features = self._readout.features(list(nets.values()), rows.x)
        slots = torch.arange(len(sources) * seeds, device=self.net.device).reshape(-1, seeds).T
        start = self._readout.start(self.seeds, len(sources), experience.task_id)
        fitting = self._readout.fit(
            self, self.target, start, features, slots, rows.y, experience, nets=nets, logits=self.logits
        )
        fitted = yield from fitting
        return {**fitted, "nets": torch.tensor(where, device=self.net.device).expand(seeds, -1)}

    def _named(self, stream: Stream) -> Routes:
        """Return the routes by numbers of tasks.

        Raises:
            UsageError: if a task is not there, arrives too late, or has no net of its own.
        """
        if not self.routes:
            return {}
        if stream.n_tasks is None:
            raise stream.refuse_endless("strategy.routes names tasks, and a stream without end has no last one")
        tasks = {stream.name_of(task): task for task in reversed(range(stream.n_tasks))}
        for target, sources in self.routes.items():
            for name in (target, *sources):
                if name not in tasks:
                    raise UsageError(f"strategy.routes: {unknown('task', name, tasks)}")
            if not sources:
                raise UsageError(f"strategy.routes: '{target}' reads no task: leave it out, and it is trained in full")
            for source in sources:
                if source == target:
                    raise UsageError(
                        f"strategy.routes: '{target}' cannot read its own net without being trained: leave it out"
                    )
                if source in self.routes:
                    raise UsageError(
                        f"strategy.routes: '{target}' reads '{source}', which has a route itself and so no net of its own"
                    )
                if tasks[source] > tasks[target]:
                    raise UsageError(
                        f"strategy.routes: '{target}' reads '{source}', which arrives later: put it before in stream.task_order"
                    )
        return {tasks[target]: tuple(tasks[source] for source in sources) for target, sources in self.routes.items()}

    def _drawn(self, routes: Routes, stream: Stream) -> Routes:
        """Return the routes, or those that stand in their place as a control: of as many tasks, and of as many sources each.

        The first task is always trained, as there is nothing that it could read.
        """
        if self.control not in ("random", "sources_random_routes") or not routes:
            return routes
        draw, tasks = rng.arrays(self.draw, "routes"), range(stream.n_tasks or 0)
        targets, orders = sorted(routes), [len(routes[target]) for target in sorted(routes)]
        if self.control == "random":
            targets = sorted((1 + draw.permutation(len(tasks) - 1)[: len(routes)]).tolist())
        trained = [task for task in tasks if task not in targets]
        found: Routes = {}
        for target, order in zip(targets, orders, strict=True):
            earlier = [task for task in trained if task < target]
            found[target] = tuple(sorted(draw.permutation(earlier)[:order].tolist()))
        return found
