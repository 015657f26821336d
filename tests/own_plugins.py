"""Targets and label functions such as users write them, good and bad, named ``tests.own_plugins:Class``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.measure import Measure
from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays
from cl_engine.metrics.sums import ratio
from cl_engine.nn.target import Target, of_rows

ME = "tests.own_plugins"


class Sign(Target):
    """Whether a number is above zero, by the sign of one output."""

    measure, outputs, sum_names = Measure("agreement"), 1, ("right", "all")

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-of_rows(outputs, 1)[:, 0] * y)

    def sums(self, outputs: Tensor, y: Tensor) -> Tensor:
        right = (of_rows(outputs, 1)[:, 0] * y > 0).sum()
        return torch.stack([right, torch.full_like(right, len(y))]).double()

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        return {"agreement": ratio(sums[..., 0], sums[..., 1])}

    def guess(self, y: Tensor) -> Tensor:
        return y.double().mean().reshape(1)


class Margin(Sign):
    """The same with another loss, in the same file."""

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (1 - of_rows(outputs, 1)[:, 0] * y).relu()


class NoOutputs(Sign):
    outputs = 0


class OneNameTooFew(Sign):
    sum_names = ("right",)


class MeanLoss(Sign):
    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        return super().losses(outputs, y).mean()


class OtherMeasure(Sign):
    measure = Measure("accord")


class LongGuess(Sign):
    def guess(self, y: Tensor) -> Tensor:
        return torch.zeros(2)


class FifthOutput(Sign):
    outputs = 3

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        return outputs[:, 4]


class Light(LabelFunction):
    """Whether an image is light."""

    asks: ClassVar[tuple[str, dict[str, Any]]] = f"{ME}:Sign", {}

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        return self.asks

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x, (x.float().flatten(1).mean(1) > 127).long() * 2 - 1


class Margins(Light):
    asks = f"{ME}:Margin", {}


def asking(target: str, **options: Any) -> type[Light]:
    return type(target, (Light,), {"asks": (target, options)})


AsksNoOutputs, AsksOneNameTooFew, AsksMeanLoss, AsksOtherMeasure, AsksLongGuess, AsksFifthOutput, AsksNowhere = (
    asking(f"{ME}:{name}")
    for name in ("NoOutputs", "OneNameTooFew", "MeanLoss", "OtherMeasure", "LongGuess", "FifthOutput", "Nowhere")
)
AsksAbstract = asking("cl_engine.nn.target:Target")
AsksTooMany = asking("classes", clases=2)


class AsksName(Light):
    def prepare(self, arrays: Arrays) -> Any:
        return "classes"


class FailsToPrepare(Light):
    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        raise ValueError("not this source")


class FailsToAsk(Light):
    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        raise KeyError("light")


class Beyond(Light):
    asks = "classes", {"classes": 2}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x, torch.arange(len(x)) // 4


class NoNumber(Light):
    asks = "numbers", {"numbers": 1}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x, torch.full((len(x), 1), torch.nan)


class Fewer(Light):
    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x, y[1:]


class Smaller(Light):
    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x[..., 1:], y
