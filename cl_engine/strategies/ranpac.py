"""Ridge regression over random non-linear features of a frozen net."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.modules.class_statistics import ClassStatistics, only_classes
from cl_engine.nn.feature_cache import FrozenFeatures
from cl_engine.nn.target import Target
from cl_engine.nn.task_module import TaskModule
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy

RIDGES = tuple(10.0**power for power in range(-8, 9))
ASIDE = 0.2  # share of a task's rows that the ridge is chosen on, where the stream sets none aside


class Ranpac(Strategy):
    """RanPAC (McDonnell et al. 2023): features through a fixed random layer with ReLU, then ridge regression; the net frozen.

    The Gram matrix of the random features and their sums by class are running sums, so that the order of tasks makes no
    difference but that of rounding and of the ridge, which is chosen anew with every task: that of 10⁻⁸ … 10⁸ whose squared
    error is least on its validation rows, or, without any, on the last fifth of its rows. The paper's first phase (adapting the
    net to the first task) is left out; its projection is 10,000 wide.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("split_digits_class", "ranpac", projection=500).resolved["strategy"]["projection"]
    500
    """

    rowwise = True
    takes_arrivals = True
    needs_boundaries = False
    trains = False
    classes = ClassStatistics()

    projection: int = option(2000, "random features", ge=1, le=10**5)

    def start(self) -> State:
        found, device = self.classes.start(), self.net.device
        drawn = [
            torch.randn(self.net.width, self.projection, generator=rng.tensors(seed, "projection"))
            for seed in self.seeds
        ]
        seeds, classes = len(self.seeds), len(found["counts"])
        return {
            **found,
            "projection": torch.stack(drawn).to(device),
            "gram": torch.zeros(seeds, self.projection, self.projection, device=device),
            "by_class": torch.zeros(seeds, classes, self.projection, device=device),
            "weight": torch.zeros(seeds, classes, self.projection, device=device),
        }

    def check_targets(self, targets: Sequence[Target]) -> None:
        only_classes(targets, self.name())

    def learn(self, experience: Experience) -> Learning:
        features = self.net.all_features(self.state["net"], experience.train.x)
        which = self.classes.add(experience, features)
        random = self._random(features)
        ridge = self._ridge(experience, random, which)
        before = self.state["by_class"]
        grown = F.pad(before, (0, 0, 0, which.shape[1] - before.shape[1]))
        gram = self.state["gram"] + random.transpose(1, 2) @ random
        by_class = grown + which.t() @ random
        self.state |= {"gram": gram, "by_class": by_class, "weight": _solved(gram, by_class, ridge)}
        yield from ()

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        weight = self.state["weight"]
        return self.classes.answers(
            self._random(self._features.features(self.state["net"], x)),
            weight,
            weight.new_zeros(weight.shape[:2]),
            task_id,
        )

    def module(self, task_id: int | None, place: int = 0) -> TaskModule:
        weight = self.state["weight"]
        drawn = nn.utils.skip_init(nn.Linear, self.net.width, self.projection, bias=False, device=self.net.device)
        drawn.weight.data.copy_(self.state["projection"][place].t())
        between = nn.Sequential(drawn, nn.ReLU())
        return self.classes.module(weight, weight.new_zeros(weight.shape[:2]), task_id, place, between)

    def _random(self, features: Tensor) -> Tensor:
        return torch.relu(features @ self.state["projection"])

    def _ridge(self, experience: Experience, random: Tensor, which: Tensor) -> Tensor:
        """Return the ridge of each seed ``[S]`` that a task's own rows ask for."""
        held = experience.validation
        if len(held):
            tested = self._random(self.net.all_features(self.state["net"], held.x))
            wanted = F.one_hot(held.y + self.classes.of_task(experience.task_id).start, which.shape[1]).to(random.dtype)
        else:
            kept = len(which) - max(1, round(ASIDE * len(which)))
            order = torch.from_numpy(rng.arrays(0, "ridge", experience.key).permutation(len(which))).to(which.device)
            random, which = random[:, order], which[order]
            tested, wanted = random[:, kept:], which[kept:]
            random, which = random[:, :kept], which[:kept]
        random, tested, which = random.double(), tested.double(), which.double()
        few = random.shape[1] < random.shape[2]  # then the products of rows are fewer than those of features
        values, basis = torch.linalg.eigh(random @ random.mT if few else random.mT @ random)
        left = tested @ (random.mT @ basis if few else basis)
        right = basis.mT @ (which if few else random.mT @ which)
        errors = [
            (left / (values.clamp(min=0) + ridge).unsqueeze(1) @ right - wanted).square().mean(dim=(1, 2))
            for ridge in RIDGES
        ]
        chosen: Tensor = values.new_tensor(RIDGES)[torch.stack(errors).argmin(dim=0)]
        return chosen

    @cached_property
    def _features(self) -> FrozenFeatures:
        return FrozenFeatures(self.net)


def _solved(gram: Tensor, by_class: Tensor, ridge: Tensor) -> Tensor:
    """Return readouts ``[S, C, M]`` of least squared error, with a ridge ``[S]``."""
    identity = torch.eye(gram.shape[-1], dtype=torch.float64, device=gram.device)
    square, sums = gram.double() + ridge.double()[:, None, None] * identity, by_class.double().mT
    factor, failed = torch.linalg.cholesky_ex(square)
    few = bool(failed.any())  # rows, and next to no ridge
    found: Tensor = torch.linalg.pinv(square, hermitian=True) @ sums if few else torch.cholesky_solve(sums, factor)
    return found.mT.float().contiguous()
