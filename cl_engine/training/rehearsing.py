"""Learning with a memory of past rows, some of which join every batch: for strategies that differ in what they make of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.pieced_stream import first_apart
from cl_engine.data.stream import Experience, Stream
from cl_engine.events import Event
from cl_engine.nn.net import Params
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.task_heads import head_of
from cl_engine.training.fit_job import Rows, RowsBeside
from cl_engine.training.optimizers import NOT_ELEMENTWISE, Train
from cl_engine.training.rehearsal import group_name, group_of, groups_in
from cl_engine.training.row_memory import Learner as KeepsRows
from cl_engine.training.row_memory import RowMemory, RowsKept

Fit = Callable[..., Generator[Event, None, Tree]]
Note = Callable[[int, Tensor], Tensor]


class Learner(KeepsRows, Protocol):
    """The attributes of a strategy that rehearses.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy has them, but for `shared` and `_fitted`
    'Strategy'
    """

    train: Train
    _fitted: Any

    @property
    def shared(self) -> SharedNet:
        """The net that all tasks share."""
        ...


class Fitting(Learner, Protocol):
    """The attributes of a strategy that fits what is rehearsed as `told_apart` does.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy has them, but for `shared` and `_fitted`
    'Strategy'
    """

    @property
    def fit(self) -> Fit:
        """Train weights on an experience, as `Strategy.fit` does."""
        ...


class Rehearsal:
    """The learning of a strategy whose batches are joined by rows of a memory of fixed size, which takes in what was learned.

    Each seed keeps rows of its own choice. Where tasks ask for different things, memory and rehearsed rows are divided evenly
    among these. The memory is the part ``memory`` of the strategy's state.

    >>> Rehearsal.start()
    {'memory': {'seen': 0}}
    """

    def __init__(self, learner: Learner, options: RowMemory) -> None:
        """Rehearse for a strategy, which keeps the state, and what is being fitted in ``_fitted``."""
        self._learner, self._memory = learner, RowsKept(learner, options, options.selection)

    @staticmethod
    def start() -> State:
        """Return the part of a state before the first experience."""
        return RowsKept.start()

    def check_stream(self, stream: Stream) -> None:
        """Raise a `UsageError` if the memory cannot choose among the rows of a stream as its options say."""
        self._memory.check_stream(stream)

    def learn(self, experience: Experience, fit: Fit, note: Note | None = None) -> Generator[Event, None, None]:
        """Learn an experience, and take its rows into the memory.

        Args:
            experience: what is learned.
            fit: ``fit(params, experience, tasks=, known=, **options)`` fits `SharedNet.of_tasks` as `Strategy.fit` does, with the
                rows ``(x, y, place among the tasks)`` and rehearsed ones alike; those have what was noted of them behind it.
                In pieces it is given ``noted [S, M + N, …]`` instead, the notes of the memory and of the rows to come, which it
                fills in and returns among what it fitted; rehearsed rows then have their places in it behind them.
            note: ``note(place of the seed, x)`` returns what is kept of rows ``[N, …]`` beside them, once they are learned.
        """
        group = group_of(self._learner.target_of, experience.task_id)
        empty = "x" not in self._learner.state.get(group_name("memory", group), {})
        parts = first_apart(experience) if experience.pieces and empty else [experience]  # the first has none beside it
        for part in parts:
            yield from self._learn(part, fit, note)

    def _learn(self, experience: Experience, fit: Fit, note: Note | None) -> Generator[Event, None, None]:
        state, seeds, shared = self._learner.state, self._learner.seeds, self._learner.shared
        x, y, task = experience.train.x, experience.train.y, experience.task_id
        t = torch.full((len(y),), task, dtype=torch.int64, device=y.device)
        group = group_of(self._learner.target_of, task)
        new = [{"x": x, "y": y, "t": t} for x, y in map(experience.train.of, range(len(seeds)))]
        room = self._memory.make_room(experience.step, group, self._noted(new, group)) if experience.pieces else 0
        held = groups_in(state, "memory")
        kept = {g: state[name] for g, name in held.items() if "x" in state[name]}
        remembered = torch.cat([t.new_empty(len(seeds), 0), *(memory["t"] for memory in kept.values())], dim=1)
        tasks = self._answered_with(remembered, task)
        place = int(torch.searchsorted(tasks, task))
        params = shared.of_tasks(tasks)
        own = torch.zeros(len(seeds), len(tasks), dtype=torch.bool, device=t.device)
        own.scatter_(1, torch.searchsorted(tasks, remembered), True)
        own[:, place] = True
        self._learner._fitted = tasks.tolist(), own, params.get("heads")
        rows = {g: _with_places(m, tasks) for g, m in kept.items()}
        share = max(1, self._learner.train.batch // max(1, len(rows)))
        drawn: Tensor | None = None
        noting: dict[str, Tensor] = {}
        if experience.pieces:
            every = self._memory.with_new(group, new)
            drawn, kept_rows = self._memory.as_rows_arrive(
                experience.key,
                group,
                every,
                rows=len(y),
                arrival=experience.pieces,
                visits=self._learner.train.epochs,
                share=share,
                room=room,
            )
            rows[group] = _with_places(every, tasks)
            if note is not None:
                old = kept[group]["z"]
                noting["noted"] = torch.cat([old, old.new_zeros(len(old), len(y), *old.shape[2:])], dim=1)
                places = torch.arange(noting["noted"].shape[1], device=t.device)
                rows[group] = (*rows[group], places.expand(len(old), -1))
        trained = yield from fit(
            params,
            experience,
            tasks=tasks,
            known=own,
            rows=(x, y, torch.full_like(t, place)),
            rehearsal=rows.pop(group, None),
            rehearsal_batch=share,
            beside=[
                RowsBeside(more[:3], shared.loss_of(self._learner.target_of(g)), share) for g, more in rows.items()
            ],
            logits=shared.logits_at(place),
            drawn=drawn,
            **noting,
        )
        if noting:
            every["z"] = trained.pop("noted")
        if "heads" in trained:
            trained["heads"] = self._own(trained["heads"])
        shared.keep_tasks(tasks, trained)
        if experience.pieces:
            self._memory.keep(group, every, kept_rows, len(y))
        else:
            if note is not None:
                for number, own_rows in enumerate(new):
                    own_rows["z"] = note(number, own_rows["x"])
            self._memory.take_in(experience.step, group, new)
        yield self._memory.updated(experience.step, task, group)

    def _noted(self, new: list[dict[str, Tensor]], group: int) -> list[dict[str, Tensor]]:
        """Return rows that arrive with what will be noted of them, where the memory has that of others: it counts as well."""
        old = self._learner.state[group_name("memory", group)].get("z")
        return new if old is None else [{**own, "z": old.new_empty(len(own["y"]), *old.shape[2:])} for own in new]

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        """Return logits ``[S, N, C]`` on a task met before, while ``params`` are being fitted."""
        net: Params = params["net"]
        tasks = self._learner._fitted[0]
        if "heads" in params and task_id in tasks:
            return self._learner.net.all({**net, **head_of(self._own(params["heads"])[:, tasks.index(task_id)])}, x)
        return self._learner.net.all(self._learner.shared.params_midway(net, task_id), x)

    def _answered_with(self, remembered: Tensor, task_id: int) -> Tensor:
        """Return the tasks whose heads are fitted: those that any seed remembers rows ``[S, M]`` of, and this one.

        All there are, if the optimiser's step of one number depends on others: a seed's must not depend on what other
        seeds remember.
        """
        if self._learner.train.optimizer in NOT_ELEMENTWISE and "heads" in self._learner.state:
            return torch.arange(max(len(self._learner.state["heads"]), task_id + 1), device=remembered.device)
        tasks: Tensor = torch.cat([remembered.flatten(), remembered.new_tensor([task_id])]).unique()
        return tasks

    def _own(self, heads: Tensor) -> Tensor:
        """Return heads as they are fitted; of tasks that only other seeds remember as they were before."""
        _, own, before = self._learner._fitted
        return heads if before is None else torch.where(own[..., None, None], heads, before)


def told_apart(
    learner: Fitting,
    loss: Callable[..., Tensor],
    params: Tree,
    experience: Experience,
    *,
    tasks: Tensor,
    known: Tensor,
    rows: Rows,
    rehearsal: Rows | None,
    **options: Any,
) -> Generator[Event, None, Tree]:
    """Fit by a loss that is told, behind the tensors of a batch, which of its rows are new (1) and which remembered (0) ``[B]``.

    Without remembered rows it is the loss of the tasks alone. What is given is what `Rehearsal.learn` gives a fit.
    """
    if rehearsal is None:
        return learner.fit(params, learner.shared.task_loss, experience, rows=rows, **options)
    new, old = torch.ones_like(rows[2]), torch.zeros_like(rehearsal[2])
    return learner.fit(params, loss, experience, rows=(*rows, new), rehearsal=(*rehearsal, old), **options)


def _with_places(rows: Mapping[str, Tensor], tasks: Tensor) -> tuple[Tensor, ...]:
    """Return rows of a memory as a fit takes them: with the places of their tasks among those fitted."""
    noted = [rows["z"]] if "z" in rows else []
    return (rows["x"], rows["y"], torch.searchsorted(tasks, rows["t"]), *noted)
