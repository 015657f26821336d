"""Nets as a user would bring them: plain modules that know nothing of the engine."""

from __future__ import annotations

from torch import nn


def with_batchnorm(num_classes: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, hidden, 3, stride=2),
        *(nn.BatchNorm2d(hidden), nn.ReLU()),
        *(nn.Conv2d(hidden, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU()),
        *(nn.Conv2d(hidden, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(hidden * 9, num_classes),
    )


def with_dropout(num_classes: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
        nn.Linear(hidden, num_classes),
    )


def without_linear_end(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.LogSoftmax(dim=1))


class Plain(nn.Module):
    """A module with a head of another name, and a parameter that is no layer's."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(nn.init.ones_(nn.Linear(1, 1).weight.detach()))
        self.body = nn.Linear(64, 6)
        self.classifier = nn.Linear(6, num_classes)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.classifier((self.scale * self.body(x.flatten(1))).tanh())
