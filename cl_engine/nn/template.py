"""The module that a net runs all weights through, and a second one without its head; both are tried out here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.core import rng
from cl_engine.errors import UsageError
from cl_engine.nn.building import Builder
from cl_engine.nn.fast_linear import quick
from cl_engine.nn.head import apply_head, head_names, kind_of, take_off
from cl_engine.nn.head_reasons import why_not
from cl_engine.nn.trial import refusal, traits_of


class Template:
    """A module in evaluation mode whose own weights are never used, with all that a net has to know of it.

    >>> Template(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(2, 1, 2, 2)).width
    4

    Attributes:
        build: builds such a module, with the weights that the global generators give it.
        device: where it is.
        module: the module.
        body: another, which gives what the head would read.
        head_names: the names of the head's weight and bias in the module, and ours for them.
        traits: what trial runs showed.
        width: number of features the head reads.
        frozen: weights that do not learn because the module itself says so (``requires_grad = False``).
        tied: whether a tensor has several names in the module.
    """

    def __init__(self, build: Callable[[], nn.Module], x: Tensor) -> None:
        """Build the module and try it out on the rows ``x [2, …]``.

        Raises:
            UsageError: in a sentence, if it cannot serve as a net for such inputs.
        """
        self.device = x.device
        self.build = Builder(build, x)
        self.module, self.body = self._two()
        self.traits = traits_of(self.module, x)
        if self.traits.carried:
            self.build = Builder(build, x, buffers=self.traits.carried)
            self.module, self.body = self._two()
            self.traits = traits_of(self.module, x)
        self.frozen = frozenset(name for name, weight in self.module.named_parameters() if not weight.requires_grad)
        self.head_names = head_names(self.module, self.traits.head)
        head = next(iter(self.head_names)).rpartition(".")[0]
        self.width = self._tried_without_head(head, x)
        every, once = (
            [*self.module.named_parameters(remove_duplicate=each), *self.module.named_buffers(remove_duplicate=each)]
            for each in (False, True)
        )
        self.tied = len(once) < len(every)

    def _two(self) -> tuple[nn.Module, nn.Module]:
        """Return two modules with the same weights that share nothing."""
        built = []
        for _ in range(2):
            with rng.ambient(0, "template"):
                built.append(self.build())
        module, other = built
        if {*module.modules()} & {*other.modules()}:  # the builder hands out what it has
            module, other = copy.deepcopy(module), copy.deepcopy(other)
        others = _tensors(other)
        for name, tensor in _tensors(module).items():
            if name not in others or not _same(tensor, others[name]):
                raise UsageError(
                    f"net.name: the net's '{name}' is another each time it is built, though the global generators are "
                    "seeded: draw first weights from torch's, NumPy's or Python's own, and leave none unset"
                )
        return quick(module.to(self.device)), quick(other.to(self.device))

    def _tried_without_head(self, head: str, x: Tensor) -> int:
        """Take the head off the body, and return how many features it gives, from which the head must make the logits."""
        for part in (self.module, self.body):
            part.eval().requires_grad_(False)
        take_off(self.body, head)
        logits = self._tried(self.module, x)
        layer: Any = self.module.get_submodule(head)
        weight = layer.weight.flatten(1)
        try:
            features = self._tried(self.body, x)
        except UsageError:  # what comes behind the layer takes nothing else than what it gives
            raise self._no_head(head, x) from None
        plain = isinstance(features, Tensor) and features.ndim == logits.ndim and features.shape[1] == weight.shape[1]
        again = apply_head(features, weight, layer.bias) if plain else features
        if not plain or again.shape != logits.shape or not torch.allclose(again, logits, rtol=1e-4, atol=1e-5):
            raise self._no_head(head, x)
        return int(weight.shape[1])

    @staticmethod
    def _tried(part: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad(), rng.ambient(0, "trial", device=x.device):
            try:
                found: Tensor = part(x.clone())
            except Exception as error:  # a module of somebody else's may fail in any way
                raise refusal(error, x.shape[1:]) from None
        return found

    def _no_head(self, head: str, x: Tensor) -> UsageError:
        which = "1×1 convolution" if kind_of(self.module.get_submodule(head)) != "nn.Linear" else "Linear layer"
        return UsageError(
            f"net.name: the net's last {which} does not give its output ('{head}'): {why_not(self.module, head, x)}; end the net "
            "with a plain nn.Linear that reads features [N, width], or with a 1×1 nn.Conv2d that reads maps [N, width, h, w]"
        )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
