"""The contract of a strategy on tasks that ask for different things: a class, numbers, classes and numbers at places, boxes."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from cl_engine.checkpoints.file import load
from cl_engine.checkpoints.store import Store
from cl_engine.core.state import check_state
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.runs.scenario import Scenario
from cl_engine.strategy import Strategy
from cl_engine.testing import small
from cl_engine.testing.answers import StrategyUnderTest
from cl_engine.testing.walking import after_each_task, answers, contents, different

BESIDE = (3, 7)  # the last of them learns alone too
AGAIN: dict[str, Any] = {"stream.revisit": [0]}
Seen = dict[tuple[int, int], torch.Tensor]  # answers by task and fingerprint


class TargetsContract(StrategyUnderTest):
    """Holds a strategy to what is promised on tasks of every kind: a part of `StrategyContract`.

    >>> issubclass(TargetsContract, StrategyUnderTest)
    True

    Attributes:
        views: the scenario it runs: five questions about the same pictures.
    """

    views: ClassVar[str | Path | Scenario] = small.views()

    def asked(self, seeds: tuple[int, ...] = (0, 1), /, **overrides: Any) -> Experiment:
        """Return the experiment under test; skip where the strategy says, in a sentence, that its method has no meaning there."""
        experiment = Experiment.of(self.views, self.strategy, seeds, **{**self.needed(), **overrides})
        if self.kind().check_targets is not Strategy.check_targets:
            try:
                experiment.build_strategy(experiment.stream())
            except UsageError as error:
                pytest.skip(str(error))
        return experiment

    def test_tasks_of_every_kind_are_learned_and_answered_and_what_is_saved_answers_the_same(self) -> None:
        self.asked()
        error, _ = _walked(type(self))  # type: ignore[arg-type]  # classes can be hashed
        if error is not None:
            raise error

    def test_a_seed_learns_tasks_of_every_kind_alone_as_beside_others(self) -> None:
        experiment = self.asked(BESIDE[-1:], **AGAIN)
        error, beside = _walked(type(self))  # type: ignore[arg-type]
        if not beside:
            raise error or AssertionError("the stream has no tasks")
        stream, strategy = _after_the_last_task(experiment)
        for one, several in zip(_answered(stream, strategy), beside, strict=True):
            torch.testing.assert_close(one[0], several[-1], rtol=1e-3, atol=1e-3)


@functools.cache
def _walked(tests: type[TargetsContract]) -> tuple[Exception | None, list[torch.Tensor]]:
    """Return the first thing wrong along the stream, and the answers on all tasks when each has been met once.

    One walk for both tests, as most of the time goes into learning.
    """
    wrong: Exception | None = None
    met_once: list[torch.Tensor] = []
    seen: Seen = {}
    experiment = tests().asked(BESIDE, **AGAIN)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "state")
        try:
            for step, (stream, strategy) in enumerate(after_each_task(experiment)):
                if step == (stream.n_tasks or 3) - 1:
                    met_once = _answered(stream, strategy)
                try:
                    if wrong is None:
                        _held(experiment, stream, strategy, store, seen)
                except Exception as error:
                    wrong = error
        except Exception as error:  # of learning
            return error, met_once
    return wrong, met_once


def _held(experiment: Experiment, stream: Stream, strategy: Strategy, store: Store, seen: Seen) -> None:
    check_state(strategy.state, len(strategy.seeds), experiment.strategy)
    store.save(strategy.state)
    another = experiment.build_strategy(stream)
    another.targets = strategy.targets
    another.state = load(store.path)
    changed = different(contents(strategy.state), contents(another.state))
    assert not changed, f"what is loaded is not what was saved: {', '.join(changed)}"
    for task in range(stream.n_tasks or 3):
        outputs, target = answers(stream, strategy, task), stream.target(task)
        asked = stream.name_of(task)
        assert outputs.shape[:3] == (len(strategy.seeds), len(stream.test(task)), stream.outputs), asked
        assert outputs.isfinite().all(), f"predict returned numbers that are not finite about {asked}"
        sums = target.sums_by_seed(outputs, stream.test(task).y)
        assert sums.shape == (len(strategy.seeds), len(target.sum_names)), asked
        assert torch.equal(outputs, answers(stream, another, task)), f"answers about {asked} need more than the state"
        fingerprint = strategy.fingerprint(task)
        if fingerprint is not None:
            assert torch.equal(seen.setdefault((task, fingerprint), outputs), outputs), (
                f"fingerprint({task}) is the same as before and the answers about {asked} are not"
            )


def _after_the_last_task(experiment: Experiment) -> tuple[Stream, Strategy]:
    """Return the stream and the strategy when each task has been met once."""
    for step, (stream, strategy) in enumerate(after_each_task(experiment)):
        if step == (stream.n_tasks or 3) - 1:
            return stream, strategy
    raise AssertionError("the stream ends before each task has been met")


def _answered(stream: Stream, strategy: Strategy) -> list[torch.Tensor]:
    return [answers(stream, strategy, task) for task in range(stream.n_tasks or 3)]
