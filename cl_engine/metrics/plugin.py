"""The contract of metrics of one's own: what each is called, which way is better, and, of those of R, how it is computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from cl_engine.metrics.catalogue import Metric
from cl_engine.options import Configured


class PluginMetric(Configured, ABC):
    """A metric that is found by its name: a `MatrixMetric`, or an `AnswerMetric` (`cl_engine.nn.answer_metric`).

    >>> issubclass(MatrixMetric, PluginMetric)
    True

    Attributes:
        title: its name in tables and pictures; empty: the name that it was asked for by.
        meaning: its definition in a sentence, with its source.
        higher: whether more is better.
        signed: whether it is a difference, shown with its sign.
        unit: its unit; empty for a share.
    """

    title: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    higher: ClassVar[bool] = True
    signed: ClassVar[bool] = False
    unit: ClassVar[str] = ""

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Return the metric with these options.

        Raises:
            UsageError: for options that do not exist or are out of bounds.
        """
        made = cls()
        made.configure(options, "agenda.metrics")
        return made

    def about(self, name: str) -> Metric:
        """Return what is said of it where it was asked for by ``name``; options in the name stand in the title too."""
        _, _, options = name.partition("?")
        title = f"{self.title} ({options.replace('&', ', ')})" if self.title and options else self.title or name
        return Metric(
            name=name, title=title, meaning=self.meaning, higher=self.higher, signed=self.signed, unit=self.unit
        )


class MatrixMetric(PluginMetric):
    """A function of R and of when tasks were learned: it can be computed from any log, also of runs that did not ask for it.

    >>> class Worst(MatrixMetric):
    ...     title = "worst task"
    ...     def values(self, R, steps, learned):
    ...         return R[-1][learned >= 0].min(axis=0)
    >>> Worst().values(np.array([[[0.9], [0.4]]]), np.array([1]), np.array([0, 1]))
    array([0.4])
    """

    @abstractmethod
    def values(self, R: np.ndarray, steps: np.ndarray, learned: np.ndarray) -> np.ndarray:
        """Return the metric of each seed ``[S]``, NaN where it is undefined.

        Args:
            R: scores ``[E, T, S]`` of each evaluation on each task, NaN where there was no test, as in `cl_engine.metrics`; the
                last row is that of the last evaluation that tested all tasks met.
            steps: the experience learned last before each evaluation ``[E]``, −1 for the untrained learner.
            learned: the experience at which each task was learned first ``[T]``, −1 if never.
        """
