"""Strategies in closed form over frozen features: any order of rows and tasks, and what their equations say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.strategies.ranpac import RIDGES, _solved
from cl_engine.strategy import Strategy

CLOSED = ["nearest_mean", "slda", "ranpac"]
SMALL: dict[str, Any] = {"stream.samples_per_class": 12}


def learned(strategy: str, **options: Any) -> tuple[Strategy, list[torch.Tensor]]:
    """Return a strategy that has learned the five pairs of digits, and its answers to their test rows, by class of the source."""
    own = {"projection": 60} if strategy == "ranpac" else {}
    experiment = Experiment.of("split_digits_class", strategy, (0, 1), **{**SMALL, **own, **options})
    stream = experiment.stream()
    built = experiment.build_strategy(stream)
    for _ in simulate(stream, built, plan(stream, experiment.agenda)):
        pass
    tests = sorted((stream.test(task) for task in range(5)), key=lambda rows: int(rows.y.min()))
    return built, [built.predict(rows.x, None) for rows in tests]


@pytest.mark.parametrize("strategy", CLOSED)
@pytest.mark.parametrize("other", [{"stream.task_order": [3, 0, 4, 2, 1]}, {"stream.pieces": 7}])
def test_the_order_of_tasks_and_of_their_rows_makes_no_difference_but_that_of_rounding(
    strategy: str, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cl_engine.strategies.ranpac.RIDGES", (10.0,))  # the last task's rows choose it
    (_, one), (_, another) = learned(strategy), learned(strategy, **other)
    for answers, others in zip(one, another, strict=True):
        torch.testing.assert_close(answers, others, rtol=2e-3, atol=2e-3)


def test_a_mean_is_that_of_all_rows_of_a_class():
    built, _ = learned("nearest_mean")
    stream = Experiment.of("split_digits_class", "nearest_mean", (0, 1), **SMALL).stream()
    rows = stream[2].train
    of_four = built.net.all_features(built.state["net"], rows.x[rows.y == 4]).mean(dim=1)
    torch.testing.assert_close(built.classes.means()[:, 4], of_four, rtol=1e-4, atol=1e-4)  # type: ignore[attr-defined]
    assert built.state["counts"].rows.flatten().tolist() == [12.0] * 10


def test_linear_discriminant_analysis_is_by_the_covariance_within_classes():
    built, _ = learned("slda", shrinkage=0.01)
    stream = Experiment.of("split_digits_class", "slda", (0, 1), **SMALL).stream()
    rows = [stream[task].train for task in range(5)]
    x, y = torch.cat([part.x for part in rows]), torch.cat([part.y for part in rows]).numpy()
    seen, tested = (built.net.all_features(built.state["net"], of)[0].double().numpy() for of in (x, stream.test(0).x))
    means = np.array([seen[y == label].mean(axis=0) for label in range(10)])
    within = seen - means[y]
    inverse = np.linalg.inv(0.99 * within.T @ within / len(y) + 0.01 * np.eye(seen.shape[1]))
    wanted = tested @ inverse @ means.T - np.einsum("cd,de,ce->c", means, inverse, means) / 2
    np.testing.assert_allclose(built.predict(stream.test(0).x, None)[0], wanted, rtol=1e-3, atol=1e-3)


def test_a_ridge_is_solved_as_the_normal_equations_say():
    draw = torch.Generator().manual_seed(0)
    h, y = torch.randn(1, 30, 8, generator=draw), torch.randn(30, 3, generator=draw)
    found = _solved(h.mT @ h, y.mT @ h, torch.tensor([0.5]))[0]
    both = torch.cat([h[0], 0.5**0.5 * torch.eye(8)]), torch.cat([y, torch.zeros(8, 3)])
    torch.testing.assert_close(found.mT, torch.linalg.lstsq(*both).solution, rtol=1e-4, atol=1e-4)
    assert len(RIDGES) == 17


def test_validation_rows_choose_the_ridge_where_there_are_some(tmp_path: Path):
    options = {**SMALL, "stream.validation": 0.25, "projection": 60}
    run = open_run(Experiment.of("split_digits_class", "ranpac", (0,), **options).run(tmp_path, device="cpu"))
    assert float(run.results["acc"].values[-1].mean()) > 0.5


@pytest.mark.parametrize("strategy", CLOSED)
def test_a_task_that_is_told_has_classes_of_its_own_and_forgets_nothing_by_others(strategy: str, tmp_path: Path):
    own = {"projection": 60} if strategy == "ranpac" else {}
    options = {"stream.n": 3, "stream.samples_per_class": 12, **own}
    run = open_run(Experiment.of("permuted_digits", strategy, (0, 1), **options).run(tmp_path, device="cpu"))
    scores = run.results["score"].values
    last = [scores[-1, task].mean() for task in range(3)]
    assert min(last) > 0.4
    if strategy == "nearest_mean":
        after = scores[1:, 0]
        assert np.ptp(after[~np.isnan(after)].reshape(-1, 2), axis=0).max() == 0
