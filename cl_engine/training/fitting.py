"""A fit that a strategy asks for, and what is said to one that asks for it in a way that cannot work."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob
from cl_engine.training.optimizer_memory import OptimizerMemory
from cl_engine.training.optimizers import Train
from cl_engine.training.rates import follows_validation
from cl_engine.training.weight_memory import WeightMemory

OPTIMIZER = "optimizer"  # the part of a state that holds what optimisers remember …
UPKEEP = "upkeep"  # … and the one that holds what upkeep does


@dataclass
class FitsAsked:
    """The fits that a strategy has asked for while it learns an experience.

    >>> FitsAsked().judged
    False

    Attributes:
        waiting: those that are not run yet.
        run: whether any was run.
        judged: whether one was tested on validation rows.
    """

    waiting: list[Fitting] = field(default_factory=list)
    run: bool = False
    judged: bool = False


class Fitting(Generator[Event, None, Tree]):
    """A fit to be run by ``yield from``, which returns the trained tree.

    >>> def loop():
    ...     yield Event(step=0)
    ...     return {"w": 1}
    >>> fitting = Fitting(loop(), asked := FitsAsked())
    >>> len(asked.waiting), len(list(fitting)), len(asked.waiting)
    (1, 1, 0)
    """

    def __init__(self, loop: Generator[Event, None, Tree], asked: FitsAsked) -> None:
        """Stand among those that were ``asked`` for, waiting to be run."""
        self._loop, self._asked = loop, asked
        asked.waiting.append(self)

    def send(self, value: None) -> Event:
        """Go on to the next event."""
        self._asked.run = True
        if self in self._asked.waiting:
            self._asked.waiting.remove(self)
        return self._loop.send(value)

    def throw(self, *error: Any) -> Event:
        """Raise an error where the fit is."""
        return self._loop.throw(*error)

    def close(self) -> None:
        """End the fit where it is."""
        self._loop.close()


def heeded(learner: Any, experience: Experience) -> Generator[Event, None, None]:
    """Learn an experience: yield what `learn` of a strategy yields.

    Raises:
        UsageError: if it is no generator, yields what is no event, or leaves a fit that it never runs.
    """
    strategy, waiting = learner.name(), learner.fits_asked.waiting
    learned: Any = ()
    try:
        learned = learner.learn(experience)
        if not isinstance(learned, Iterator):
            raise UsageError(
                f"the strategy '{strategy}': `learn` returned {_said(learned)} and has no `yield` in it: let it run fits as in "
                "`params = yield from self.fit(…)`, or write `yield from ()` where it has none"
            )
        thrown: Exception | None = None
        told: Any = learned
        while True:
            try:
                event = next(told) if thrown is None else told.throw(thrown)  # as `yield from` hands it on
            except StopIteration:
                break
            thrown = None
            if waiting and not isinstance(event, Event):
                raise _forgotten(strategy)
            if not isinstance(event, Event):
                raise UsageError(f"the strategy '{strategy}': `learn` yields {_said(event)}; events alone are allowed")
            try:
                yield event
            except Exception as error:
                if not isinstance(learned, Generator):
                    raise
                thrown = error
    except Exception as error:
        if waiting and not isinstance(error, UsageError):  # what came of the fit was taken for what it returns
            raise _forgotten(strategy) from error
        raise
    finally:
        if isinstance(learned, Generator):
            learned.close()  # what it changed for a while it puts back now
    if waiting:
        raise _forgotten(strategy)


def judged(job: FitJob, experience: Experience) -> FitJob:
    """Return a fit that the validation rows decide on as ``train.patience`` and a plateau ask, if it can be tested on them.

    That is a fit of the experience's own rows, or one that has validation rows of its own.

    Raises:
        UsageError: if there are no such rows.
    """
    train = job.train
    if not asks_for_validation(train):
        return job
    if job.validation is None:
        if job.rows[0] is not experience.train.x or job.logits is None:
            return job
        rows = experience.validation.x, experience.validation.y
        if not len(rows[1]):
            raise nothing_to_follow(train)
        job = replace(job, validation=rows, keep_best=train.patience is not None)
    return job if job.patience is not None else replace(job, patience=train.patience)


def asks_for_validation(train: Train) -> bool:
    """Return whether training is to follow the validation rows."""
    return train.patience is not None or follows_validation(train)


def asked_by(train: Train) -> str:
    """Return the option that asks for validation rows."""
    return "train.patience" if train.patience is not None else "train.schedule = 'plateau'"


def nothing_to_follow(train: Train) -> UsageError:
    """Return the error for an option that follows validation rows where there are none."""
    return UsageError(
        f"{asked_by(train)}: it follows validation rows, and the stream sets none aside: let stream.validation say which share "
        "of the training rows it shall, such as 0.2"
    )


def check_judged(strategy: Any, asked: FitsAsked | None = None) -> None:
    """Refuse an option that follows validation rows where none of the fits that a strategy ran could be tested on them.

    Where it has not asked for any yet, its class says whether they can be.

    Raises:
        UsageError: naming the option and the strategy.
    """
    told = strategy.validates if asked is None else asked.judged or not asked.run
    if strategy.trains and not told and asks_for_validation(strategy.train):
        raise UsageError(
            f"{asked_by(strategy.train)}: it follows the validation rows of the task at hand, and no fit of the strategy "
            f"'{strategy.name()}' is of that task's rows alone: leave it out"
        )


def _forgotten(strategy: str) -> UsageError:
    return UsageError(
        f"the strategy '{strategy}': `learn` calls self.fit(…) and never runs it: write `params = yield from self.fit(…)`"
    )


def _said(found: object) -> str:
    return "None" if found is None else f"a {type(found).__name__}"


def remembering(job: FitJob, state: State) -> Generator[Event, None, Tree]:
    """Run a fit that goes on with what optimisers and upkeep remember in a state, and keeps there what they do at its end."""
    if job.candidates > 1:  # of several candidates none is the one before
        return (yield from fit(job))
    upkept = WeightMemory(state.get(UPKEEP))
    memory = OptimizerMemory(state.get(OPTIMIZER)) if job.train.keep_optimizer else None
    trained = yield from fit(replace(job, memory=memory, upkeep_memory=upkept))
    if memory is not None:
        state[OPTIMIZER] = memory.state
    if upkept.state:
        state[UPKEEP] = upkept.state
    return trained
