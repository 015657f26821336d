"""The contract of metrics: sums that add up over rows and seeds, or functions of R; logged, and compared by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from cl_engine.analysis.scores.measures import measured
from cl_engine.experiment import Experiment
from cl_engine.metrics.plugin import MatrixMetric, PluginMetric
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.nn.target import Target
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.targets.classes import Classes
from cl_engine.testing import small
from cl_engine.testing.waiting import NeverWaiting

ROWS, CLASSES, SEEDS = 12, 4, (0, 3)


class MetricContract:
    """Holds a metric, of answers or of R, to all that the engine's own are held to; each failure says what is broken.

    >>> class TestMine(MetricContract):
    ...     metric = "my_module:Mine"

    Attributes:
        metric: its name, or ``module:Class``.
        options: its options.
        scenario_options: options of a small scenario whose tasks it can be told of; left out: three tasks of classes.
    """

    metric: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    scenario_options: ClassVar[Mapping[str, Any]] = {}

    @property
    def name(self) -> str:
        """The metric with its options, as an agenda names it."""
        behind = "&".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.metric}?{behind}" if behind else self.metric

    def kind(self) -> type[PluginMetric]:
        found: type[PluginMetric] = plugins.load("metrics", self.metric)
        return found

    def target(self) -> Target:
        """Return a target that it can be told of: one class a row, unless overridden."""
        return Classes.of(classes=CLASSES)

    def labels(self) -> Tensor:
        """Return labels ``[N, …]`` of that target."""
        return torch.randint(CLASSES, (ROWS,), generator=torch.Generator().manual_seed(0))

    def of_answers(self) -> AnswerMetric:
        """Return the metric, or skip where it is of R."""
        metric = self.kind().of(**self.options)
        if not isinstance(metric, AnswerMetric):
            pytest.skip("it is no metric of answers")
        assert not metric.fault(self.target()), f"override target() and labels(): {metric.fault(self.target())}"
        return metric

    def of_scores(self) -> MatrixMetric:
        """Return the metric, or skip where it is of answers."""
        metric = self.kind().of(**self.options)
        if not isinstance(metric, MatrixMetric):
            pytest.skip("it is no metric of R")
        return metric

    def outputs(self, rows: int, more: int = 0) -> Tensor:
        """Return random outputs ``[N, O, …]``, and ``more`` beyond those of the target."""
        maps = (3, 3) if self.target().places else ()
        draw = torch.Generator().manual_seed(1)
        return torch.randn(rows, self.target().outputs + more, *maps, generator=draw)

    def test_sums_of_parts_of_the_rows_add_up_to_those_of_all(self) -> None:
        metric, target, y = self.of_answers(), self.target(), self.labels()
        outputs = self.outputs(len(y))
        before = outputs.clone()
        whole = metric.sums(outputs, y, target)
        assert whole.ndim == 1 and whole.dtype == torch.float64, (
            f"sums are {whole.dtype} of shape {tuple(whole.shape)}, not [K], float64"
        )
        assert torch.equal(outputs, before), "`sums` changed the outputs that R is measured by"
        for cut in (1, len(y) // 2):
            parts = metric.sums(outputs[:cut], y[:cut], target) + metric.sums(outputs[cut:], y[cut:], target)
            torch.testing.assert_close(parts, whole, msg=lambda text: f"a sum is over rows, not a mean: {text}")

    def test_the_sums_of_seeds_side_by_side_are_those_of_each_alone_and_wait_for_no_device(self) -> None:
        metric, target, y = self.of_answers(), self.target(), self.labels()
        outputs = torch.stack([self.outputs(len(y)), self.outputs(len(y)) * 2 + 1])
        together = metric.sums_by_seed(outputs, y, target)
        np.testing.assert_allclose(together, [metric.sums(own, y, target).numpy() for own in outputs], rtol=1e-9)
        with NeverWaiting():
            metric.sums(outputs[0], y, target)

    def test_outputs_beyond_those_of_the_target_are_not_looked_at(self) -> None:
        metric, target, y = self.of_answers(), self.target(), self.labels()
        wide = self.outputs(len(y), more=2)
        own = wide[:, : target.outputs]
        assert torch.equal(metric.sums(wide, y, target), metric.sums(own, y, target)), "heads may have more outputs"

    def test_its_value_is_a_number_for_each_leading_place_and_nan_where_nothing_was_measured(self) -> None:
        metric, y = self.of_answers(), self.labels()
        sums = metric.sums(self.outputs(len(y)), y, self.target()).numpy()
        one, many = metric.value(sums), metric.value(np.stack([sums, sums])[None])
        assert np.isfinite(one), f"the value of these answers is {one}"
        assert np.shape(many) == (1, 2) and np.allclose(many, one), "`value` reads the last axis alone"
        assert np.isnan(metric.value(sums * 0)), "where nothing was measured a value is NaN (metrics.sums.ratio)"

    def test_of_r_each_seed_has_its_value_whatever_stands_beside_it_and_r_stays_as_it_is(self) -> None:
        metric = self.of_scores()
        R = np.random.default_rng(0).random((4, 3, 2))
        R[0, 1:] = R[1, 2] = np.nan
        steps, learned = np.array([-1, 0, 1, 2]), np.array([0, 1, 2])
        before = R.copy()
        both = np.asarray(metric.values(R, steps, learned), dtype=float)
        assert both.shape == (2,), f"its values have shape {both.shape}, not one a seed (2,)"
        np.testing.assert_array_equal(R, before, "it changed R")
        alone = [metric.values(R[:, :, k : k + 1], steps, learned) for k in range(2)]
        np.testing.assert_allclose(both, np.concatenate(alone), rtol=1e-12)

    def test_it_is_logged_and_runs_are_compared_by_it(self, tmp_path: Path) -> None:
        options = {"stream.n": 2, "train.epochs": 1, **self.scenario_options, "agenda.metrics": [self.name]}
        run = open_run(
            Experiment.of(small.scenario(), "finetune", SEEDS, **options).run(tmp_path / "run", device="cpu")
        )
        values = run.metric(self.name)
        assert values.shape[-1] == len(SEEDS)
        if run.metrics[self.name].of == "answers":
            tested = np.isfinite(run.results["score"].values)
            assert (np.isfinite(values) == tested).all(), "a task that was tested has no value"
        [compared] = measured(run, [self.name]).values()
        assert compared.shape == (len(SEEDS),)

    def test_every_option_says_what_it_means_and_it_has_a_title(self) -> None:
        kind = self.kind()
        silent = [name for name, info in kind.Options.model_fields.items() if not info.description]
        assert not silent, f"say what these options mean, option(default, 'meaning'): {', '.join(silent)}"
        assert kind.title, "it has no title: what is it called in tables and pictures?"
