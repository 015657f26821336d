"""What is promised of a strategy after every task: all of it is held along one walk, as most of the time goes into learning."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

from cl_engine.checkpoints import store as checkpoint_store
from cl_engine.checkpoints.file import load
from cl_engine.checkpoints.store import Store
from cl_engine.core.bank import Bank
from cl_engine.core.state import Memory, bytes_by_part, check_state
from cl_engine.core.tree import leaves_with_path
from cl_engine.data.stream import Data, Stream
from cl_engine.experiment import Experiment
from cl_engine.strategy import Strategy
from cl_engine.testing.walking import after_each_task, answers, contents, different, told


class UnderTest(Protocol):
    """A class of tests of a strategy.

    >>> hasattr(UnderTest, "experiment")
    True
    """

    def experiment(self, seeds: tuple[int, ...] = ..., /, **overrides: Any) -> Experiment:
        """Return the experiment under test, with changes."""


@dataclass
class AfterTask:
    """A strategy after an experience, and what is needed to hold it to its promises.

    >>> [field for field in AfterTask.__dataclass_fields__ if field != "seen"]
    ['stream', 'strategy', 'fresh', 'store']

    Attributes:
        stream: what it is walked along.
        strategy: the strategy.
        fresh: makes another one, as it is before the first experience.
        store: where its state is saved, after every experience.
        seen: answers by task and fingerprint, of this experience and those before.
    """

    stream: Stream
    strategy: Strategy
    fresh: Callable[[], Strategy]
    store: Store
    seen: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    @functools.cached_property
    def drawn(self) -> Memory:
        """Return what counts as memory beside what follows from the seeds."""
        return Memory(self.strategy.drawn().state)


def _unchanged(at: AfterTask) -> None:
    stream, strategy = at.stream, at.strategy
    before = contents(strategy.state)
    for task in range(stream.n_tasks or 3):
        x, asked = stream.test(task).x, told(stream, task)
        rows = x.clone()
        first, again = strategy.predict(x, asked), strategy.predict(x, asked)
        assert torch.equal(first, again), "predict gives other answers when it is asked again: it must draw nothing"
        assert torch.equal(x, rows), "predict changed the rows it was asked about: it must work on a copy"
    changed = different(before, contents(strategy.state))
    assert not changed, f"predict changed the state ({', '.join(changed)}): only learn may"


def _finite(at: AfterTask) -> None:
    stream, strategy = at.stream, at.strategy
    for task in range(stream.n_tasks or 3):
        logits = answers(stream, strategy, task)
        wanted = (len(strategy.seeds), len(stream.test(task)), stream.outputs)
        assert logits.shape == wanted, (
            f"predict returned logits of shape {tuple(logits.shape)} on task {task}; [seeds, rows, outputs] = "
            f"{wanted} are wanted, also for a task not yet met"
        )
        assert logits.isfinite().all(), f"predict returned numbers that are not finite on task {task}"


def _fingerprint(at: AfterTask) -> None:
    stream, strategy = at.stream, at.strategy
    for task in range(stream.n_tasks or 3):
        fingerprint = strategy.fingerprint(told(stream, task))
        if fingerprint is None:
            continue
        logits = answers(stream, strategy, task)
        assert torch.equal(at.seen.setdefault((task, fingerprint), logits), logits), (
            f"fingerprint({task}) is the same as before and the answers are not: it must change with every part of "
            "the state that predict reads (Bank.writes counts), or be None"
        )


def _rowwise(at: AfterTask) -> None:
    stream, strategy = at.stream, at.strategy
    if stream.setting == "task" or not strategy.rowwise:
        return
    parts = [stream.test(task).x for task in range(stream.n_tasks or 3)]
    apart = torch.cat([strategy.predict(x, None) for x in parts], dim=1)
    torch.testing.assert_close(
        strategy.predict(torch.cat(parts), None),
        apart,
        msg=lambda text: f"rowwise is True, and rows are answered otherwise beside other rows: {text}",
    )


def _module(at: AfterTask) -> None:
    stream, strategy = at.stream, at.strategy
    place = len(strategy.seeds) - 1
    for task in {0, (stream.n_tasks or 3) - 1}:  # one that was met, and, until the last, one that was not
        module = strategy.module(told(stream, task), place)
        assert not any(part.training for part in module.modules()), "module gives one in training mode: call its eval()"
        x = stream.test(task).x
        with torch.no_grad():
            found = module(x)
            for weight in module.parameters():  # it is to be trained further by whoever wants that
                weight.add_(1.0)
        torch.testing.assert_close(
            found,
            answers(stream, strategy, task)[place],
            rtol=1e-3,
            atol=1e-4,
            msg=functools.partial(_answers_otherwise, task),
        )


def _answers_otherwise(task: int, text: str) -> str:
    return (
        f"module({task}) answers otherwise than predict: where the default does not serve, override it, and copy what it is made "
        f"of: {text}"
    )


def _order(at: AfterTask) -> None:
    stream, strategy = at.stream, at.strategy
    if strategy.order_matters:
        return
    for task in range(stream.n_tasks or 3):
        x = stream.test(task).x
        moved = Data(x, torch.arange(len(x), device=x.device)).shuffled()
        torch.testing.assert_close(
            strategy.predict(moved.x, told(stream, task)),
            answers(stream, strategy, task)[:, moved.y],
            msg=lambda text: (
                f"predict gives rows other answers in another order: where an option says so, order_matters must be True: "
                f"{text}"
            ),
        )


def _saved(at: AfterTask) -> None:
    check_state(at.strategy.state, len(at.strategy.seeds), at.strategy.name())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_store, "SMALL", 1)
        patch.setattr(checkpoint_store, "LARGE", 1)  # every row changed, and none other, is written again
        at.store.save(at.strategy.state)
    found = load(at.store.path)
    changed = different(contents(at.strategy.state), contents(found))
    assert not changed, f"what is loaded is not what was saved: {', '.join(changed)}"
    another = at.fresh()
    another.state = found
    for task in range(at.stream.n_tasks or 3):
        assert torch.equal(answers(at.stream, at.strategy, task), answers(at.stream, another, task)), (
            f"the answers on task {task} depend on something outside of self.state, which a resumed run does not "
            "have: put it there"
        )


def _memory(at: AfterTask) -> None:
    state, total = at.strategy.state, 0
    check_state(state, len(at.strategy.seeds), at.strategy.name())
    for _, leaf in leaves_with_path(state):
        tensor = leaf.rows if isinstance(leaf, Bank) else leaf
        if isinstance(tensor, torch.Tensor):
            total += tensor.numel() * tensor.element_size() // len(tensor)
        else:
            total += 8
    assert sum(bytes_by_part(state).values()) == total, "the bytes of the parts are not those of the state"
    counted, apart = at.drawn.by_part(state)
    assert sum(counted.values()) + sum(apart.values()) == total, "bytes are neither counted nor told apart"


# the first before anything else asks
PROMISES = {
    "unchanged": _unchanged,
    "finite": _finite,
    "fingerprint": _fingerprint,
    "rowwise": _rowwise,
    "module": _module,
    "order": _order,
    "saved": _saved,
    "memory": _memory,
}


def held(tests: UnderTest, setting: str, promise: str) -> None:
    """Raise what was wrong with a promise, if anything was.

    >>> sorted(PROMISES)[0]
    'fingerprint'
    """
    error = _broken(type(tests), setting).get(promise)
    if error is not None:
        raise error


@functools.cache
def _broken(tests: type[UnderTest], setting: str) -> dict[str, Exception]:
    """Return the first error of each promise that is broken along the stream, whose first task comes back."""
    broken: dict[str, Exception] = {}
    try:
        experiment = tests().experiment(**{"stream.setting": setting, "stream.revisit": [0]})
        with tempfile.TemporaryDirectory() as folder:
            at: AfterTask | None = None
            for stream, strategy in after_each_task(experiment):
                fresh = functools.partial(experiment.build_strategy, stream)
                at = at or AfterTask(stream, strategy, fresh, Store(Path(folder) / "state"))
                for name in [name for name in PROMISES if name not in broken]:
                    try:
                        PROMISES[name](at)
                    except Exception as error:
                        broken[name] = error
    except Exception as error:  # of learning, which all of them need
        return {**dict.fromkeys(PROMISES, error), **broken}
    return broken
