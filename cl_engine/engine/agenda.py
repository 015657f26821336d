"""The agenda of a run as data: learn, evaluate and save, in order. A run's cursor in it is one integer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from pydantic import BaseModel, field_validator

from cl_engine.core import rng
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.options import STRICT, option
from cl_engine.training.fit_job import Curve, Diagnostics


@dataclass(frozen=True, slots=True)
class Learn:
    """Learn the experience at ``step``.

    >>> Learn(step=3).step
    3
    """

    step: int


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Test the tasks; ``step`` is the experience learned last, −1 for the untrained learner.

    >>> Evaluate(step=1, task_ids=[0, 1]).task_ids
    [0, 1]
    """

    step: int
    task_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Save:
    """Put the log and a checkpoint on disk; ``last`` saves are never put off to save time.

    >>> Save(step=1).last
    False
    """

    step: int
    last: bool = False


Item = Learn | Evaluate | Save


class AgendaOptions(BaseModel):
    """The table ``[agenda]`` of a scenario.

    >>> AgendaOptions(evaluate_every=2).evaluate_every
    2
    """

    model_config = STRICT
    evaluate_every: int = option(
        1, "test all tasks met so far after every k-th experience; 0: after the last only", ge=0
    )
    window: int | None = option(
        None,
        "where all tasks met would be tested, test the last k of them alone, and all after the last experience; left out: all",
        ge=1,
        before=None,
    )
    window_sampled: int = option(
        0, "with a window: test this many earlier tasks too, drawn anew each time", ge=0, before=0
    )
    evaluate_ahead: int = option(
        0, "test this many tasks not yet met as well (1 or more for forward transfer)", ge=0, le=10**4
    )
    validation: bool = option(
        True,
        "wherever tasks are tested, score those met on their validation rows too, where the stream sets some aside: what "
        "settings are chosen by",
        before=True,  # runs that were begun without go on with them, as the same experiments
    )
    metrics: list[str] = option(
        [],
        "what is measured of answers beside the score, wherever tasks are tested (`list metrics`), and metrics of R of one's "
        "own, at the end; with options, as ece?bins=10; a list, or names with spaces between them",
        before=[],
    )
    spot_checks: float | None = option(
        None,
        "share of the scores taken over as unchanged that are measured again, to be sure; left out: one in a hundred, and "
        "no more than are tested anyway",
        ge=0,
        le=1,
    )
    save_every: int = option(1, "save after every k-th experience; 0: after the last only", ge=0)
    save_every_epochs: int = option(
        0, "save after every k-th epoch too, in the middle of an experience; 0: never", ge=0
    )
    save_share: float = option(
        0.05, "put a save off while saving has taken more than this share of the run", gt=0, le=1
    )
    curve_batches: int = option(0, "test the current task after each of its first k batches (LCA@k)", ge=0)
    curve_epochs: int = option(0, "test the current task after every k-th epoch; 0: never", ge=0)
    curve_tasks: int = option(
        0, "wherever the current task is tested so, test the first k tasks met too (stability gap)", ge=0
    )
    online: bool = option(
        False,
        "score every batch by the forward pass that trains on it (online, or prequential, accuracy)",
        before=False,
    )
    online_batches: int = option(
        0, "tell the online score after every k batches too; 0: of whole epochs alone", ge=0, before=0
    )
    diagnose_every: int = option(
        0, "look at the net's units and weights before every k-th experience, on its rows; 0: never", ge=0, before=0
    )
    diagnose_rows: int = option(2000, "rows it is looked at on, at most", ge=1, before=2000)
    dormant: float = option(
        0.1, "share of the mean magnitude of its layer's units below which a unit counts as dormant", ge=0, before=0.1
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @property
    def watched(self) -> dict[str, Any]:
        """What is measured while learning, as `cl_engine.engine.loop.simulate` takes it."""
        return {
            "curve": Curve(self.curve_batches, self.curve_epochs, self.curve_tasks),
            "online": self.online_batches if self.online else None,
            "diagnostics": Diagnostics(self.diagnose_rows, self.dormant),
            "diagnose_every": self.diagnose_every,
            "validation": self.validation,
        }


def check_agenda(options: AgendaOptions) -> None:
    """Refuse options that would do nothing, as what they belong to is off.

    Raises:
        UsageError: naming the first of them.
    """
    if options.online_batches and not options.online:
        raise UsageError(
            f"agenda.online_batches: found {options.online_batches}, and agenda.online is off, so that no batch is scored: set "
            "agenda.online = true, or leave it out"
        )
    if options.curve_tasks and not (options.curve_batches or options.curve_epochs):
        raise UsageError(
            f"agenda.curve_tasks: found {options.curve_tasks}, and nothing is tested in the middle of learning: set "
            "agenda.curve_batches or agenda.curve_epochs, or leave it out"
        )


def plan(stream: Stream, options: AgendaOptions) -> Iterator[Item]:
    """Yield the agenda of a stream, lazily: one without end has an agenda without end.

    After each experience at least its own task is tested, and ``evaluate_ahead`` tasks not yet met; after every
    ``evaluate_every``-th, all tasks met so far, or those of the ``window``, and at the end all. With ``evaluate_ahead`` the
    untrained learner is tested on each task too (step −1): at the start, or, in a stream without end, when the task comes into
    view.
    """
    ahead, limit = options.evaluate_ahead, stream.n_tasks
    met = untested = 0
    if ahead and limit is not None:
        yield Evaluate(-1, range(limit))
        untested = limit
    for step in count() if stream.n_steps is None else range(stream.n_steps):
        task = stream.task_id(step)
        met = max(met, task + 1)
        view = met + ahead if limit is None else min(met + ahead, limit)
        if ahead and view > untested:
            yield Evaluate(-1, range(untested, view))
            untested = view
        yield Learn(step)
        last = step + 1 == stream.n_steps
        full = last or _due(step, options.evaluate_every)
        if full and not last and options.window is not None:
            yield Evaluate(step, _windowed(step, task, met, view, stream.seed, options))
        else:
            yield Evaluate(step, range(view) if full else [task, *range(met, view)])
        if last or _due(step, options.save_every):
            yield Save(step, last)


def _windowed(step: int, task: int, met: int, view: int, seed: int, options: AgendaOptions) -> Sequence[int]:
    """Return the tasks tested where a window holds: the last ones met, some drawn of those before, and the one learned."""
    begin = max(0, met - (options.window or met))
    drawn = rng.arrays(seed, "tasks tested", step).permutation(begin)[: options.window_sampled].tolist()
    found = sorted({task, *drawn, *range(begin, view)})
    return range(view) if len(found) == view else found


def _due(step: int, every: int) -> bool:
    return every > 0 and (step + 1) % every == 0
