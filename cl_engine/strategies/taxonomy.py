"""Taxonomy: how well the net of every task serves every other task, measured."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank, empty_banks
from cl_engine.core.state import State
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event, Transferred
from cl_engine.modules.readout import Readout, ReadoutOptions
from cl_engine.modules.similarity import NetsCompared, groups_of, linear_cka, rsa, shared_information
from cl_engine.modules.transfers import Outcomes, sets_of_sources
from cl_engine.modules.trial import repeated
from cl_engine.nn.net import Params
from cl_engine.options import option
from cl_engine.results.transfers import Kind
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.rehearsal import group_name, group_of

COMPARED = 400  # validation rows, of all tasks together, that nets are compared on
Sources = tuple[int, ...]


class Taxonomy(Strategy):
    """Taxonomy: a net for every task, and readouts that say how well each net, or several, serves each other task.

    The first two steps of Taskonomy (Zamir et al. 2018, §3.1–3.2): nets of the tasks, frozen; for each task readouts of every
    net, fitted to few labels, and of sets of the best nets. Beside them stand full supervision, a whole net fitted to the same
    few labels, a readout of the untrained net, and one of several independent nets of the task itself. The outcome of every
    validation row is logged (`cl_engine.results.transfers`), so that affinities, and which tasks to label, follow from the log.

    After each experience is tried what has become possible: all nets for its task, its net for all earlier tasks; after that of
    the last task also sets of nets, and how alike nets and labels are. A task that comes back is not learned again.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("views_digits", "taxonomy", **{"order": 3})
    >>> experiment.resolved["strategy"]["order"]
    3
    """

    settings = ("task",)
    cost: ClassVar[Literal["flat", "growing"]] = "growing"
    needs_validation = True

    labels: int = option(400, "training rows with labels that a transfer is fitted to", ge=1)
    order: int = option(2, "most nets that a readout reads side by side", ge=1)
    beam: int = option(4, "best single sources of a task that sets of several are made of", ge=1)
    copies: int = option(1, "further nets of each task, for readouts of as many nets that know nothing else", ge=0)
    random_source: bool = option(True, "whether a readout of the untrained net is tried too")
    readout: ReadoutOptions

    def start(self) -> State:
        first = self.net.init(self.seeds)
        return {"first": first, "nets": empty_banks(first, without=self.net.frozen)}

    @property
    def rounded(self) -> bool:
        return True  # readouts of all seeds are fitted side by side

    def learn(self, experience: Experience) -> Learning:
        task, first = experience.task_id, self.state["first"]
        if task < len(self._any_bank):
            return
        net = yield from self.fit(first, self.loss, experience)
        self._keep(experience, net)
        yield self._whole_net("full", net, experience, len(experience.train))
        few = self._rows(task)
        train = self.readout.of_few(self.train, len(few))
        scratch = yield from self.fit(first, self.loss, experience, rows=(few.x, few.y), train=train)
        yield self._whole_net("scratch", scratch, experience, len(few))
        if self.random_source:
            yield from self._probe("untrained", task, {-1: first}, self._of_all_seeds((-1,)), experience)
        same = {0: net}
        for number in range(1, self.copies + 1):
            drawn = self.net.init([rng.derive(seed, "copy", number, experience.key) for seed in self.seeds])
            same[number] = yield from self.fit(drawn, self.loss, experience)
            yield from self._probe("copies", task, same, self._of_all_seeds(tuple(same)), experience)
        nets = {source: self._net(source) for source in range(task + 1)}
        singles = self._of_all_seeds(*((source,) for source in nets))
        errors: dict[str, Bank] = self.state.setdefault("errors", {})
        errors[str(task)] = yield from self._probe("transfer", task, nets, singles, experience)
        for earlier in range(task):
            found = yield from self._probe("transfer", earlier, nets, self._of_all_seeds((task,)), experience)
            errors[str(earlier)].put(task, found[0])
        if self.n_tasks == task + 1:
            for target in nets:
                yield from self._probe_sets(target, nets, experience)
            yield from self._compare(nets, experience)

    @property
    def looks_ahead(self) -> bool:
        return True  # after the last task, sets of all are probed

    def check_stream(self, stream: Stream) -> None:
        if stream.n_tasks is not None and self.order > stream.n_tasks:
            raise UsageError(
                f"strategy.order: found {self.order}; the stream has {stream.n_tasks} tasks, and as many nets can be read at most"
            )

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self._net(task_id), x)

    def fingerprint(self, task_id: int | None) -> int | None:
        return None if task_id is None else self._any_bank.writes(task_id)

    @cached_property
    def _readout(self) -> Readout:
        return Readout(self.net, self.readout)

    @property
    def _any_bank(self) -> Bank:
        bank: Bank = next(iter(self.state["nets"].values()))
        return bank

    def _net(self, task_id: int | None) -> Params:
        known = task_id is not None and task_id < len(self._any_bank)
        own = {name: bank[task_id] for name, bank in self.state["nets"].items()} if known else {}
        return {**self.state["first"], **own}

    def _of_all_seeds(self, *sets: Sources) -> list[tuple[Sources, ...]]:
        """Return sets of sources as those of each seed."""
        return [(sources,) * len(self.seeds) for sources in sets]

    def _keep(self, experience: Experience, net: Params) -> None:
        """Keep the net, the rows that transfers to the task are fitted to, and its validation rows."""
        task, train, aside = experience.task_id, experience.train, experience.validation
        for name, bank in self.state["nets"].items():
            bank.put(task, net[name])
        drawn = torch.randperm(len(train), generator=rng.tensors(0, "labels", experience.key))[: self.labels]
        name = group_name("kept", group_of(self.target_of, task))
        for rows, picked in ((train, drawn), (aside, torch.arange(len(aside)))):
            index = torch.full((len(rows),), -1) if rows.index is None else rows.index
            told = torch.tensor([task, int(rows is aside)]).expand(len(picked), -1)
            new = {"x": rows.x, "y": rows.y, "index": index.to(rows.y.device)}
            new = {part: tensor[picked.to(tensor.device)] for part, tensor in new.items()}
            new["of"] = told.to(rows.y.device)
            held = self.state.get(name)
            self.state[name] = {
                part: tensor[None] if held is None else torch.cat([held[part], tensor[None]], dim=1)
                for part, tensor in new.items()
            }

    def _rows(self, task: int, aside: bool = False) -> Data:
        """Return the rows that transfers to a task are fitted to, or its validation rows."""
        held = {part: rows[0] for part, rows in self.state[group_name("kept", group_of(self.target_of, task))].items()}
        own = (held["of"] == torch.tensor([task, int(aside)], device=held["of"].device)).all(dim=1)
        return Data(held["x"][own], held["y"][own], index=held["index"][own])

    def _whole_net(self, kind: Kind, net: Params, experience: Experience, labels: int) -> Transferred:
        """Return the outcome of a whole net of the task at hand."""
        outcomes = Outcomes(self.target, self._rows(experience.task_id, aside=True), lambda x: self.net.all(net, x))
        return outcomes.told(0, self._of_all_seeds(())[0], experience, experience.task_id, kind, labels)

    def _probe(
        self,
        kind: Kind,
        task: int,
        nets: Mapping[int, Params],
        sets: Sequence[tuple[Sources, ...]],
        experience: Experience,
    ) -> Generator[Event, None, Bank]:
        """Fit readouts of ``sets`` of ``nets``, told by seed, to few rows of a task; return the errors ``[S, sets, N]``."""
        seeds, few, target = len(self.seeds), self._rows(task), self.target_of(task)
        used = sorted({source for of_seeds in sets for sources in of_seeds for source in sources})
        read = [nets[source] for source in used]
        rows = [[used.index(one) * seeds + s for one in own] for of_seeds in sets for s, own in enumerate(of_seeds)]
        sources = torch.tensor(rows, device=self.net.device)
        start = repeated([self._readout.start(self.seeds, len(rows[0]), task)] * len(sets))
        params = yield from self._readout.fit(
            self, target, start, self._readout.features(read, few.x), sources, few.y, experience, side_by_side=True
        )

        def answer(x: Tensor) -> Tensor:
            return self._readout.answer(params, self._readout.features(read, x), sources)

        outcomes = Outcomes(target, self._rows(task, aside=True), answer)
        for place, of_seeds in enumerate(sets):
            named = {"untrained": (), "copies": (task,) * len(used)}.get(kind)
            told = of_seeds if named is None else (named,) * seeds
            yield outcomes.told(place, told, experience, task, kind, len(few))
        errors = torch.from_numpy(outcomes.errors).to(self.net.device)
        return Bank(errors.unflatten(0, (-1, seeds)).transpose(0, 1))

    def _probe_sets(self, target: int, nets: Mapping[int, Params], experience: Experience) -> Iterator[Event]:
        """Probe sets of several nets, of those that serve a task best alone."""
        errors = self.state["errors"][str(target)].rows.cpu().numpy()
        for order in range(2, self.order + 1):
            of_seeds = [sets_of_sources(own, target, order, self.beam) for own in errors]
            if of_seeds[0]:
                yield from self._probe("transfer", target, nets, list(zip(*of_seeds, strict=True)), experience)

    def _compare(self, nets: Mapping[int, Params], experience: Experience) -> Iterator[Event]:
        """Compare nets on some validation rows of every task, and the labels of rows that tasks share."""
        aside = [self._rows(task, aside=True) for task in nets]
        x = torch.cat([rows.x[: max(1, COMPARED // len(nets))] for rows in aside])
        if len(x) < 3:  # a single pair of rows, which correlates with nothing
            return
        features = [self.net.all_features(net, x).flatten(2) for net in nets.values()]
        by_seed = list(zip(*features, strict=True))
        found = {
            name: np.stack([how(list(own)) for own in by_seed]) for name, how in (("rsa", rsa), ("cka", linear_cka))
        }
        labels = [groups_of(self.target_of(task), rows.y) for task, rows in zip(nets, aside, strict=True)]
        for one, other in combinations(nets, 2):
            where = {"step": experience.step, "task_id": one, "other": other}
            for name, values in found.items():
                yield NetsCompared(part=name, value=tuple(values[:, one, other].tolist()), **where)
            mine, theirs = (rows.index.cpu().numpy() for rows in (aside[one], aside[other]) if rows.index is not None)
            shared, at, there = np.intersect1d(mine, theirs, return_indices=True)
            if len(shared) and shared[0] >= 0:
                value = shared_information(labels[one][at], labels[other][there])
                yield NetsCompared(part="labels", value=(value,) * len(self.seeds), **where)
