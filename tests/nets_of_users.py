"""Nets as a user would bring them: plain modules that know nothing of the engine."""

from __future__ import annotations

from torch import nn


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
