"""Linear discriminant analysis over the features of a frozen net, from running sums."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.modules.class_statistics import ClassStatistics, only_classes
from cl_engine.nn.feature_cache import FrozenFeatures
from cl_engine.nn.target import Target
from cl_engine.nn.task_module import TaskModule
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy


class Slda(Strategy):
    """Streaming linear discriminant analysis (Hayes & Kanan 2020): class means and one covariance of features, the net frozen.

    The covariance is that within classes, (Σxxᵀ − Σ n_c m_c m_cᵀ) / N, and readouts follow from it after every experience:
    w_c = Λ m_c, b_c = −m_c·w_c / 2, with Λ = [(1 − ε)Σ + εI]⁻¹. The paper's running estimate sees each row against the mean of
    its class at that time, and depends on the order of rows; this one does not, but for rounding.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("split_digits_class", "slda").resolved["strategy"]["shrinkage"]
    0.0001
    """

    rowwise = True
    takes_arrivals = True
    needs_boundaries = False
    trains = False
    classes = ClassStatistics()

    shrinkage: float = option(1e-4, "ε: the share of the identity in the covariance", gt=0, le=1)

    def start(self) -> State:
        seeds, width, device = len(self.seeds), self.net.width, self.net.device
        found = self.classes.start()
        none = torch.zeros(seeds, len(found["counts"]), width, device=device)
        square = torch.zeros(seeds, width, width, device=device)
        return {**found, "squares": square, "weight": none, "bias": none[..., 0].clone()}

    def check_targets(self, targets: Sequence[Target]) -> None:
        only_classes(targets, self.name())

    def learn(self, experience: Experience) -> Learning:
        features = self.net.all_features(self.state["net"], experience.train.x)
        self.classes.add(experience, features)
        self.state["squares"] = self.state["squares"] + features.transpose(1, 2) @ features
        self._read_out()
        yield from ()

    def _read_out(self) -> None:
        means, counts = self.classes.means().double(), self.state["counts"].rows.double()
        within = self.state["squares"].double() - (means * counts).transpose(1, 2) @ means
        identity = torch.eye(self.net.width, dtype=torch.float64, device=means.device)
        covariance = (1 - self.shrinkage) * within / counts.sum() + self.shrinkage * identity
        weight = torch.linalg.solve(covariance, means.transpose(1, 2)).transpose(1, 2)
        self.state |= {"weight": weight.float().contiguous(), "bias": (-(means * weight).sum(dim=-1) / 2).float()}

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        features = self._features.features(self.state["net"], x)
        return self.classes.answers(features, self.state["weight"], self.state["bias"], task_id)

    def module(self, task_id: int | None, place: int = 0) -> TaskModule:
        return self.classes.module(self.state["weight"], self.state["bias"], task_id, place)

    @cached_property
    def _features(self) -> FrozenFeatures:
        return FrozenFeatures(self.net)
