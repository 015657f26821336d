"""Nearest class mean over the features of a frozen net."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.modules.class_statistics import ClassStatistics, Normalised, only_classes
from cl_engine.nn.feature_cache import FrozenFeatures
from cl_engine.nn.target import Target
from cl_engine.nn.task_module import TaskModule
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy


class NearestMean(Strategy):
    """Nearest mean: a row is of the class whose mean features are nearest to its own (Mensink et al. 2013), the net frozen.

    Nothing is trained: means are running sums, so that the order of rows and tasks makes no difference but that of rounding.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("split_digits_class", "nearest_mean", normalised=True)
    >>> experiment.resolved["strategy"]["normalised"]
    True
    """

    rowwise = True
    takes_arrivals = True
    needs_boundaries = False
    trains = False
    classes = ClassStatistics()

    normalised: bool = option(False, "bring the features of each row to length 1 first (Rebuffi et al. 2017, iCaRL)")

    def start(self) -> State:
        return self.classes.start()

    def check_targets(self, targets: Sequence[Target]) -> None:
        only_classes(targets, self.name())

    def learn(self, experience: Experience) -> Learning:
        self.classes.add(experience, self._read(self.net.all_features(self.state["net"], experience.train.x)))
        yield from ()

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        features = self._read(self._features.features(self.state["net"], x))
        return self.classes.answers(features, *self._readout(), task_id)

    def module(self, task_id: int | None, place: int = 0) -> TaskModule:
        return self.classes.module(*self._readout(), task_id, place, Normalised() if self.normalised else None)

    def fingerprint(self, task_id: int | None) -> int | None:
        return None if task_id is None else self.state["counts"].writes(self.classes.of_task(task_id).start)

    def _readout(self) -> tuple[Tensor, Tensor]:
        """Return weights and biases of a linear layer that gives −‖f − m‖² + ‖f‖²."""
        means = self.classes.means()
        return 2 * means, -means.square().sum(dim=-1)

    def _read(self, features: Tensor) -> Tensor:
        return torch.nn.functional.normalize(features, dim=-1) if self.normalised else features

    @cached_property
    def _features(self) -> FrozenFeatures:
        return FrozenFeatures(self.net)
