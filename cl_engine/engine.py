"""The loop: an agenda goes in, events come out, and nobody else calls the strategy."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from cl_engine import checkpoint, events
from cl_engine.agenda import Evaluate, Item, Learn, Save
from cl_engine.events import Event
from cl_engine.flops import Flops
from cl_engine.job import Curve, Midway
from cl_engine.ledger import Ledger, Measured
from cl_engine.memory import bytes_by_part, check_state
from cl_engine.strategy import Strategy
from cl_engine.stream import Data, Experience, Stream

TEST_CACHE_BYTES = 512 * 2**20


def simulate(
    stream: Stream,
    strategy: Strategy,
    agenda: Iterable[Item],
    *,
    resume: dict[str, Any] | None = None,
    save_to: Path | None = None,
    save_share: float | None = None,
    curve: Curve | None = None,
    mark: str = "",
) -> Iterator[Event]:
    """Walk the agenda and yield what happens. To stop a run, stop reading.

    Args:
        stream: what is learned and tested on.
        strategy: what learns; its state is set here.
        agenda: all that is to be done, from the start (`cl_engine.agenda.plan`).
        resume: what `cl_engine.checkpoint.load` returned, to go on from there.
        save_to: where `Save` writes the checkpoint; None: nothing is saved.
        save_share: put a save off while saving has taken more than this share of the run; None: never.
        curve: when to test in the middle of learning.
        mark: says in the checkpoint which experiment it is of.

    Raises:
        UsageError: if the strategy's first state is not one that can be saved.
        RunFailed: if learning cannot go on.
    """
    return _Simulation(stream, strategy, save_to, save_share, curve or Curve(), mark).events(agenda, resume)


class _Simulation:
    """One walk along an agenda."""

    def __init__(
        self,
        stream: Stream,
        strategy: Strategy,
        save_to: Path | None,
        save_share: float | None,
        curve: Curve,
        mark: str,
    ) -> None:
        self.stream, self.strategy = stream, strategy
        self.save_to, self.save_share, self.mark = save_to, save_share, mark
        strategy.curve = curve
        self.ledger = Ledger(len(strategy.seeds))
        self.place = 0
        self.tests: OrderedDict[int, Data] = OrderedDict()
        self.cached = 0
        self.untrained: Strategy | None = None
        self.began = time.perf_counter()
        self.saving = 0.0

    def events(self, agenda: Iterable[Item], resume: dict[str, Any] | None) -> Iterator[Event]:
        step = -1
        if resume is None:
            self.strategy.state = self.strategy.start()
            check_state(self.strategy.state, len(self.strategy.seeds), self.strategy.name())
        else:
            self.strategy.state = resume["strategy"]
            self.ledger = Ledger.restored(resume["ledger"])
            self.place, step = resume["place"], resume["step"]
        n_steps, n_tasks = self.stream.n_steps, self.stream.n_tasks
        yield events.StreamStarted(step=step, place=self.place, n_steps=n_steps, n_tasks=n_tasks)
        for item in islice(iter(agenda), self.place, None):
            step = max(step, item.step)
            if isinstance(item, Learn):
                yield from self._learn(item)
            elif isinstance(item, Evaluate):
                yield from self._evaluate(item)
            else:
                yield from self._save(item)
            self.place += 1
        yield events.StreamEnded(step=step, seconds=time.perf_counter() - self.began)

    def _learn(self, item: Learn) -> Iterator[Event]:
        experience = self.stream.arrival(item.step)
        task = experience.task_id
        yield events.TaskStarted(step=item.step, task_id=task, rows=len(experience.train))
        began = time.perf_counter()
        for event in self.strategy.learning(experience):
            if isinstance(event, Midway):
                yield self._curve_point(event, task)
                yield from self._earlier(event, task)
            else:
                yield event
        self.ledger.learned(item.step, task)
        check_state(self.strategy.state, len(self.strategy.seeds), self.strategy.name())
        yield events.TaskLearned(
            step=item.step,
            task_id=task,
            memory=bytes_by_part(self.strategy.state),
            flops=self._flops(experience),
            seconds=time.perf_counter() - began,
        )

    def _flops(self, experience: Experience) -> float:
        """Return the operations of answering one row of the experience, those of one seed."""
        told = experience.task_id if self.stream.setting == "task" else None
        with Flops() as counted:
            self.strategy.predict(experience.train.x[:1], told)
        flops: int = counted.total
        return flops / len(self.strategy.seeds)

    def _curve_point(self, event: Midway, task: int) -> Event:
        began = time.perf_counter()
        test = self._test(task)
        n_correct = _correct(event.predict(test.x), test)
        return events.CurvePoint(
            step=event.step,
            task_id=task,
            batch=event.batch,
            epoch=event.epoch,
            n_correct=n_correct,
            n_total=len(test),
            seconds=time.perf_counter() - began,
        )

    def _earlier(self, event: Midway, task: int) -> Iterator[Event]:
        """Test the first tasks met with the weights as they are now, where the strategy can say what they answer."""
        wanted = range(min(self.strategy.curve.tasks, len(self.ledger.first_learned)))
        met = [other for other in wanted if other != task and self.ledger.first_learned[other] >= 0]
        params = event.params() if met else {}
        for other in met:
            began = time.perf_counter()
            test, told = self._test(other), other if self.stream.setting == "task" else None
            logits = self.strategy.predict_midway(params, test.x, told)
            if logits is None:
                return
            yield events.EarlierTested(
                step=event.step,
                task_id=other,
                batch=event.batch,
                epoch=event.epoch,
                n_correct=_correct(logits, test),
                n_total=len(test),
                seconds=time.perf_counter() - began,
            )

    def _evaluate(self, item: Evaluate) -> Iterator[Event]:
        began = time.perf_counter()
        row = self.ledger.row(item.step)
        for task in item.task_ids:
            measured, reused = self._measure(task, trained=item.step >= 0)
            self.ledger.put(task, measured.n_correct, measured.n_total)
            yield events.Evaluated(
                step=item.step,
                evaluation=row,
                task_id=task,
                n_correct=measured.n_correct,
                n_total=measured.n_total,
                reused=reused,
            )
        scores = {name: tuple(values.tolist()) for name, values in self.ledger.scores().items()}
        yield events.Scored(step=item.step, evaluation=row, seconds=time.perf_counter() - began, **scores)

    def _measure(self, task: int, trained: bool) -> tuple[Measured, bool]:
        """Test a task, or return its last score where the strategy promises the same answers."""
        learner = self.strategy
        if not trained:
            self.untrained = learner = self.untrained or self.strategy.untrained()
        told = task if self.stream.setting == "task" else None
        fingerprint = learner.fingerprint(told)
        known = self.ledger.measured.get(task)
        if trained and known is not None and fingerprint is not None and known.fingerprint == fingerprint:
            return known, True
        test = self._test(task)
        measured = Measured(fingerprint, _correct(learner.predict(test.x, told), test), len(test))
        if trained and fingerprint is not None:
            self.ledger.measured[task] = measured
        return measured, False

    def _test(self, task: int) -> Data:
        """Return a task's test rows, from a cache of bounded size."""
        if task in self.tests:
            self.tests.move_to_end(task)
            return self.tests[task]
        self.tests[task] = test = self.stream.test(task)
        self.cached += _bytes(test)
        while self.cached > TEST_CACHE_BYTES and len(self.tests) > 1:
            self.cached -= _bytes(self.tests.popitem(last=False)[1])
        return test

    def _save(self, item: Save) -> Iterator[Event]:
        if self.save_to is None or (not item.last and self._behind()):
            return
        began = time.perf_counter()
        yield events.Saving(step=item.step, place=self.place)
        content = {
            "strategy": self.strategy.state,
            "ledger": self.ledger.state(),
            "place": self.place + 1,
            "step": item.step,
            "experiment": self.mark,
        }
        size = checkpoint.save(self.save_to, content)
        seconds = time.perf_counter() - began
        self.saving += seconds
        yield events.Saved(step=item.step, place=self.place, bytes=size, seconds=seconds)

    def _behind(self) -> bool:
        elapsed = time.perf_counter() - self.began
        return self.save_share is not None and self.saving > self.save_share * elapsed


def _bytes(data: Data) -> int:
    return data.x.numel() * data.x.element_size() + data.y.numel() * data.y.element_size()


@torch.inference_mode()
def _correct(logits: torch.Tensor, test: Data) -> tuple[int, ...]:
    return tuple((logits.argmax(dim=-1) == test.y).sum(dim=-1).tolist())
