"""The model of one of Avalanche's strategies as a module of one task."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.training import UNSEEN, answered

with quietly():
    from avalanche.models.dynamic_modules import MultiHeadClassifier, MultiTaskModule
    from avalanche.models.packnet import PackNetModel


class GuestModule(nn.Module):
    """A model of Avalanche's, asked for one task; logits of classes that it has no place for are `UNSEEN`.

    >>> GuestModule(nn.Linear(4, 2), task_label=0, outputs=3)(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, model: nn.Module, task_label: int, outputs: int) -> None:
        super().__init__()
        self.model, self._task, self._outputs = model, task_label, outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, outputs]``."""
        model: Any = self.model
        logits: Tensor = model.forward_single_task(x, self._task) if isinstance(model, MultiTaskModule) else model(x)
        logits = logits.nan_to_num(nan=UNSEEN)[:, : self._outputs]
        return nn.functional.pad(logits, (0, self._outputs - logits.shape[1]), value=UNSEEN)


class Heads(MultiHeadClassifier):  # type: ignore[misc]
    """Avalanche's head a task, with outputs of no class masked in a way that ONNX has too: theirs writes by a mask.

    >>> Heads(4).forward_single_task(torch.zeros(2, 4), 0)
    tensor([[-1000., -1000.],
            [-1000., -1000.]], grad_fn=<MaskedFillBackward0>)
    """

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Return the outputs ``[N, O]`` of the head of a task."""
        out: Tensor = self.classifiers[str(task_label)](x)
        if not self.masking:
            return out
        active = self._buffers[f"active_units_T{task_label}"]
        active = nn.functional.pad(active, (0, out.shape[-1] - len(active)))
        return out.masked_fill(active == 0, self.mask_value)


def guest_module(
    strategy: Any, x: Tensor, answer: Tensor, task_label: int, classes: list[int], seed: int
) -> GuestModule | None:
    """Return the strategy's model as a module; None if it alone does not give the ``answer`` that the strategy gives for ``x``.

    Some strategies answer by more than their model: then they are asked themselves.
    """
    with torch.no_grad():
        answered(strategy, x, task_label, classes, answer.shape[1], seed)  # grows the heads that the task needs
        try:
            module = GuestModule(
                _of_task(copy.deepcopy(strategy.model), task_label), task_label, answer.shape[1]
            ).eval()
            same = torch.allclose(module(x), answer, rtol=1e-4, atol=1e-5)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError):  # it takes more than inputs
            return None
    return module if same else None


def _of_task(model: nn.Module, task_label: int) -> nn.Module:
    """Return the net inside of PackNet, the weights of other tasks switched off; of other models the heads alone are changed."""
    for part in model.modules():
        if type(part) is MultiHeadClassifier:
            part.__class__ = Heads  # its weights and their names stay
    if not isinstance(model, PackNetModel):
        return model
    model.activate_task(min(task_label, int(model.task_count)))
    inside: nn.Module = model.wrappee
    return inside
