"""Calls of a module with tensors that are handed to it, which leave nothing behind but what a training step may change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_engine.core import rng
from cl_engine.nn.hooks import Hook, watchers
from cl_engine.nn.listening import hooks_for
from cl_engine.nn.mode import Mode, explained
from cl_engine.nn.template import Template


class Caller:
    """Runs one module of a template, whole or without its head, as a function of tensors by the module's own names.

    >>> import torch
    >>> template = Template(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(2, 1, 2, 2))
    >>> Caller(template, template.module)(dict(template.module.named_parameters()), torch.zeros(5, 1, 2, 2), False).shape
    torch.Size([5, 3])
    """

    def __init__(self, template: Template, module: nn.Module) -> None:
        """Run this module of the template: its whole one, or the body."""
        self._module, self._device, self._traits = module, template.device, template.traits
        self._mode = Mode(module)
        self._dtypes = {name: own.dtype for name, own in (*module.named_parameters(), *module.named_buffers())}
        self._places = {name: _place(module, name) for name in self._dtypes}
        self._tied = template.tied
        # of what training changes, BatchNorm's own keeps still where it is told to (`Mode`)
        self._loose = frozenset(
            name
            for name in self._traits.updated & self._dtypes.keys()
            if not isinstance(module.get_submodule(name.rpartition(".")[0]), nn.modules.batchnorm._NormBase)
        )

    def __call__(
        self,
        tensors: Mapping[str, Tensor],
        x: Tensor,
        training: bool,
        statistics: bool | Collection[str] = True,
        hooks: Mapping[str, Hook] | None = None,
        drawing: bool = False,
    ) -> Tensor:
        """Return what the module gives for inputs as it takes them.

        Names that the module does not have are left out. ``statistics`` and ``hooks`` are those of `Net.one`; ``drawing``
        says that the global generators are seeded for this call.
        """
        self._mode.put(training, statistics)
        # a weight that a product made is in the type of products, and a layer's weights are of one type
        own = {
            name: tensor.to(self._dtypes[name]) if tensor.dtype == torch.bfloat16 else tensor
            for name, tensor in tensors.items()
            if name in self._dtypes
        }
        if self._traits.changes_inputs:
            x = x.clone()
        for name in self._kept(training, statistics) & own.keys():
            own[name] = own[name].clone()
        given = {name: own[name] for name in self._traits.assigned & own.keys()}
        with ExitStack() as around:
            if self._traits.noisy and not drawing:  # the same call is answered the same
                around.enter_context(rng.ambient(0, "answer", device=self._device))
            for layer, hook in (*watchers(), *(hooks or {}).items()):
                around.callback(self._module.get_submodule(layer).register_forward_hook(hook).remove)
            for removed in hooks_for(self._module, own):
                around.callback(removed)
            # then torch looks into it, by a walk through the module
            odd = self._tied or own.keys() != self._dtypes.keys()
            try:
                output = functional_call(self._module, own, (x,), strict=True) if odd else self._put_in(own, x)
            except ValueError as error:
                raise explained(error, len(x)) from None
        for name, tensor in given.items():  # left in `own` is what the module put in their places
            if own[name] is not tensor:
                tensor.copy_(own[name].detach())
        return output

    def _put_in(self, own: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return what the module gives with all of its tensors replaced: `functional_call` in a fifth of its time."""
        before = [holder[name] for holder, name in self._places.values()]
        for name, (holder, leaf) in self._places.items():
            holder[leaf] = own[name]
        try:
            output: Tensor = self._module(x)
        finally:
            for (name, (holder, leaf)), tensor in zip(self._places.items(), before, strict=True):
                own[name], holder[leaf] = holder[leaf], tensor  # type: ignore[assignment]
        return output

    def _kept(self, training: bool, statistics: bool | Collection[str]) -> frozenset[str]:
        """Return the tensors that stay as they are though the module changes them: all, or those of layers not tracked."""
        if not training:
            return self._traits.written
        if statistics is True or not self._loose:
            return frozenset()
        tracking = statistics or ()
        return frozenset(name for name in self._loose if name.rpartition(".")[0] not in tracking)


def _place(module: nn.Module, name: str) -> tuple[dict[str, Tensor | None], str]:
    """Return where a module holds the tensor of this name: the parameters or the buffers of its part, and the name there."""
    part, _, leaf = name.rpartition(".")
    owner = module.get_submodule(part)
    holder: Any = owner._parameters if leaf in owner._parameters else owner._buffers
    return holder, leaf
