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

from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.runs.scenario import Scenario
from cl_engine.strategy import Strategy
from cl_engine.testing import small
from cl_engine.testing.promises import held


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
        held(self, setting, "finite")

    def test_predicting_changes_nothing_and_gives_the_same_again(self, setting: str) -> None:
        held(self, setting, "unchanged")

    def test_rows_in_another_order_get_the_same_answers_in_that_order(self, setting: str) -> None:
        held(self, setting, "order")

    def test_saving_and_loading_the_state_gives_the_same_state_and_answers(self, setting: str) -> None:
        held(self, setting, "saved")

    def test_the_same_fingerprint_promises_the_same_answers(self, setting: str) -> None:
        held(self, setting, "fingerprint")

    def test_a_module_of_a_task_answers_as_the_strategy_does(self, setting: str) -> None:
        held(self, setting, "module")

    def test_a_rowwise_strategy_answers_a_row_the_same_whatever_is_beside_it(self, setting: str) -> None:
        held(self, setting, "rowwise")


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
