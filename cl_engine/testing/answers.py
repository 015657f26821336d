"""The contract of a strategy's answers, and what every class of tests of a strategy begins with."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from cl_engine.data.stream import Data, Stream
from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.runs.scenario import Scenario
from cl_engine.strategy import Strategy
from cl_engine.testing import small
from cl_engine.testing.walking import after_each_task, answers, contents, different, told

Seen = dict[tuple[int, int], torch.Tensor]  # answers by task and fingerprint


class StrategyUnderTest:
    """Names the strategy that a class of tests is about, and what it is tested on.

    >>> class Replayed(StrategyUnderTest):
    ...     strategy = "replay"
    >>> Replayed().experiment(**{"stream.n": 2}).resolved["stream"]["n"]
    2

    Attributes:
        strategy: the strategy's name, or ``module:Class``.
        options: its options, and others by dotted name (``{"train.lr": 0.1}``).
        scenario: the scenario it runs; small tasks of digits unless another is given, by name, file or `Scenario`.
    """

    strategy: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    scenario: ClassVar[str | Path | Scenario] = small.scenario()

    def experiment(self, seeds: tuple[int, ...] = (0, 1), /, **overrides: Any) -> Experiment:
        """Return the experiment under test, with changes."""
        return Experiment.of(self.scenario, self.strategy, seeds, **{**self.needed(), **overrides})

    @classmethod
    def needed(cls) -> dict[str, Any]:
        """Return the options under test, with validation rows where the strategy cannot do without."""
        return {**({"stream.validation": 0.25} if cls.kind().needs_validation else {}), **cls.options}

    @classmethod
    def kind(cls) -> type[Strategy]:
        """Return the class under test."""
        found: type[Strategy] = plugins.load("strategies", cls.strategy)
        return found

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run what depends on the setting in each setting that the strategy can serve."""
        if "setting" in metafunc.fixturenames:
            metafunc.parametrize("setting", self.kind().settings)

    @pytest.fixture(autouse=True)
    def _same_global_random_state(self) -> Iterator[None]:
        _read(type(self))  # type: ignore[arg-type]  # classes can be hashed
        before = _global_random_states()
        yield
        drawn = [f"{name}'s" for name, state in _global_random_states().items() if state != before[name]]
        assert not drawn, (
            f"{self.strategy} drew from {' and '.join(drawn)} global generator: draw from "
            "cl_engine.core.rng.tensors(seed, purpose, step), so that a seed's numbers depend on nothing else"
        )


class AnswersContract(StrategyUnderTest):
    """Holds a strategy to what is promised of its answers: a part of `StrategyContract`.

    >>> issubclass(AnswersContract, StrategyUnderTest)
    True
    """

    def test_answers_are_finite_logits_for_every_seed_also_for_tasks_not_yet_met(self, setting: str) -> None:
        _held(type(self), setting, "finite")

    def test_predicting_changes_nothing_and_gives_the_same_again(self, setting: str) -> None:
        _held(type(self), setting, "unchanged")

    def test_rows_in_another_order_get_the_same_answers_in_that_order(self, setting: str) -> None:
        *_, (stream, strategy) = after_each_task(self.experiment(**{"stream.setting": setting, "stream.n": 2}))
        if strategy.order_matters:
            return
        for task in range(2):
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

    def test_the_same_fingerprint_promises_the_same_answers(self, setting: str) -> None:
        _held(type(self), setting, "fingerprint")

    def test_a_module_of_a_task_answers_as_the_strategy_does(self, setting: str) -> None:
        _held(type(self), setting, "module")

    def test_a_rowwise_strategy_answers_a_row_the_same_whatever_is_beside_it(self, setting: str) -> None:
        _held(type(self), setting, "rowwise")


def _unchanged(stream: Stream, strategy: Strategy, seen: Seen) -> None:
    before = contents(strategy.state)
    for task in range(stream.n_tasks or 3):
        x, asked = stream.test(task).x, told(stream, task)
        rows = x.clone()
        first, again = strategy.predict(x, asked), strategy.predict(x, asked)
        assert torch.equal(first, again), "predict gives other answers when it is asked again: it must draw nothing"
        assert torch.equal(x, rows), "predict changed the rows it was asked about: it must work on a copy"
    changed = different(before, contents(strategy.state))
    assert not changed, f"predict changed the state ({', '.join(changed)}): only learn may"


def _finite(stream: Stream, strategy: Strategy, seen: Seen) -> None:
    for task in range(stream.n_tasks or 3):
        logits = answers(stream, strategy, task)
        wanted = (len(strategy.seeds), len(stream.test(task)), stream.outputs)
        assert logits.shape == wanted, (
            f"predict returned logits of shape {tuple(logits.shape)} on task {task}; [seeds, rows, outputs] = "
            f"{wanted} are wanted, also for a task not yet met"
        )
        assert logits.isfinite().all(), f"predict returned numbers that are not finite on task {task}"


def _fingerprint(stream: Stream, strategy: Strategy, seen: Seen) -> None:
    for task in range(stream.n_tasks or 3):
        fingerprint = strategy.fingerprint(told(stream, task))
        if fingerprint is None:
            continue
        logits = answers(stream, strategy, task)
        assert torch.equal(seen.setdefault((task, fingerprint), logits), logits), (
            f"fingerprint({task}) is the same as before and the answers are not: it must change with every part of "
            "the state that predict reads (Bank.writes counts), or be None"
        )


def _rowwise(stream: Stream, strategy: Strategy, seen: Seen) -> None:
    if stream.setting == "task" or not strategy.rowwise:
        return
    parts = [stream.test(task).x for task in range(stream.n_tasks or 3)]
    apart = torch.cat([strategy.predict(x, None) for x in parts], dim=1)
    torch.testing.assert_close(
        strategy.predict(torch.cat(parts), None),
        apart,
        msg=lambda text: f"rowwise is True, and rows are answered otherwise beside other rows: {text}",
    )


def _module(stream: Stream, strategy: Strategy, seen: Seen) -> None:
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


# the first before anything else asks
PROMISES = {
    "unchanged": _unchanged,
    "finite": _finite,
    "fingerprint": _fingerprint,
    "rowwise": _rowwise,
    "module": _module,
}


def _held(tests: type[StrategyUnderTest], setting: str, promise: str) -> None:
    """Raise what was wrong with a promise, if anything was."""
    error = _broken(tests, setting).get(promise)  # type: ignore[arg-type]  # classes can be hashed
    if error is not None:
        raise error


@functools.cache
def _broken(tests: type[StrategyUnderTest], setting: str) -> dict[str, Exception]:
    """Return the first error of each promise that is broken along the stream, whose first task comes back.

    One walk for all of them, as most of the time goes into learning.
    """
    broken: dict[str, Exception] = {}
    seen: Seen = {}
    own: dict[str, Any] = {"stream.setting": setting, "stream.revisit": [0]}
    try:
        for stream, strategy in after_each_task(tests().experiment(**own)):
            for name in [name for name in PROMISES if name not in broken]:
                try:
                    PROMISES[name](stream, strategy, seen)
                except Exception as error:
                    broken[name] = error
    except Exception as error:  # of learning, which all of them need
        return {**dict.fromkeys(PROMISES, error), **broken}
    return broken


@functools.cache
def _read(tests: type[StrategyUnderTest]) -> None:
    """Read the data once, and so import what that takes: some libraries draw random numbers when they are imported."""
    tests().experiment().stream()


def _global_random_states() -> dict[str, object]:
    """Return what the generators hold that code draws from where it is given none."""
    numpys = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  the one to be left alone
    return {
        "torch": torch.get_rng_state().tolist(),
        "NumPy": (numpys["key"].tolist(), numpys["pos"]),
        "Python": random.getstate(),
    }
