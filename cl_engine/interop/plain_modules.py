"""Modules of Avalanche that grow with the tasks, as plain ones: one head with all outputs, for `Net` to take."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.interop.lazy_import import quietly

with quietly():
    from avalanche.models.dynamic_modules import (
        DynamicModule,
        IncrementalClassifier,
        MultiHeadClassifier,
        MultiTaskModule,
    )


class OneHead(nn.Module):
    """A head in the place of one that grows, or of several: a Linear layer, whatever the task.

    >>> import torch
    >>> OneHead(4, 3)(torch.zeros(2, 4), task_labels=0).shape
    torch.Size([2, 3])
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, x: Tensor, task_labels: Any = None) -> Tensor:
        """Return logits ``[N, C]``; the task does not matter."""
        return self.linear(x)  # type: ignore[no-any-return]


class OneTask(nn.Module):
    """A multi-task module as one of inputs alone.

    >>> import torch
    >>> from avalanche.models import MTSimpleMLP
    >>> plain(MTSimpleMLP(input_size=6), outputs=3)(torch.zeros(2, 6)).shape
    torch.Size([2, 3])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, C]``."""
        return self.module(x, 0)  # type: ignore[no-any-return]


def plain(module: nn.Module, outputs: int) -> nn.Module:
    """Return the module with one head of all outputs where it has one that grows with classes or tasks; others as they are.

    Raises:
        UsageError: for a module that grows otherwise.
    """
    several = isinstance(module, MultiTaskModule)
    module = _replaced(module, outputs)
    odd = next((part for part in module.modules() if isinstance(part, DynamicModule) and not _is_multitask(part)), None)
    if odd is not None:
        raise UsageError(
            f"the net has a part that grows as experiences come, {type(odd).__name__}, which our strategies do not adapt: "
            "give a module that ends in nn.Linear, or in Avalanche's IncrementalClassifier or MultiHeadClassifier"
        )
    return OneTask(module) if several else module


def _replaced(module: nn.Module, outputs: int) -> nn.Module:
    if isinstance(module, IncrementalClassifier):
        return OneHead(module.classifier.in_features, outputs)
    if isinstance(module, MultiHeadClassifier):
        return OneHead(module.in_features, outputs)
    for name, part in module.named_children():
        found = _replaced(part, outputs)
        if found is not part:
            module._modules[name] = found
    return module


def _is_multitask(part: nn.Module) -> bool:
    """Return whether a module merely hands on the task to heads, which have been replaced."""
    return isinstance(part, MultiTaskModule) and any(isinstance(own, OneHead) for own in part.modules())
