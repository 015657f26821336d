"""Trial runs of a module: whether it can serve as a net, and what must be known of it before it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_engine.core import rng
from cl_engine.errors import UsageError, is_out_of_memory
from cl_engine.nn.building import plain_tensors
from cl_engine.nn.head import possible_heads, reads_places


@dataclass(frozen=True)
class _Answer:
    logits: Tensor
    given: dict[str, Tensor]  # the tensors it was computed with
    written: frozenset[str]  # those that it changed in place
    assigned: frozenset[str]  # those that it put another tensor in the place of
    drew: bool
    changed_inputs: bool


@dataclass(frozen=True)
class Traits:
    """What trial runs showed of a module; names are the module's own.

    >>> traits_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout()), torch.rand(2, 1, 2, 2)).stochastic
    True

    Attributes:
        head: the last layer that can be a head and whose output is the module's; None: there is none.
        outputs: number of logits.
        places: whether there are as many at each place of a map.
        stochastic: whether training draws random numbers, from any global generator.
        noisy: whether answering draws random numbers too.
        changes_inputs: whether inputs are written over.
        updated: buffers, and weights that do not learn, that a training step changes.
        assigned: those of them that it does not write into but replaces.
        written: tensors that answering changes.
        carried: plain attributes that hold what later answers depend on.
    """

    head: str | None
    outputs: int
    places: bool
    stochastic: bool
    noisy: bool
    changes_inputs: bool
    updated: frozenset[str]
    assigned: frozenset[str]
    written: frozenset[str]
    carried: tuple[str, ...]


def example(shape: Sequence[int], vocabulary: int | None, device: torch.device) -> Tensor:
    """Return inputs ``[*shape]`` to try a module with: from 0 to 1, or tokens, the greatest of the vocabulary among them."""
    generator = rng.tensors(0, "trial")
    if vocabulary is None:
        return torch.rand(*shape, generator=generator).to(device)
    drawn = torch.randint(vocabulary, tuple(shape), generator=generator)
    drawn[..., 0] = vocabulary - 1
    return drawn.to(device)


def traits_of(module: nn.Module, x: Tensor) -> Traits:
    """Run the module in training and in evaluation, on the rows ``x [2, …]``, and return what was seen.

    Raises:
        UsageError: in a sentence, if the module cannot serve as a net for such inputs.
    """
    return _Trial(module, x).traits()


def refusal(error: Exception, shape: Sequence[int], training: bool = False) -> Exception:
    """Return what a module raised on inputs of this shape as a sentence; errors of memory that is used up as they are."""
    if isinstance(error, UsageError) or is_out_of_memory(error):
        return error
    said = (str(error).strip() or "no reason given").splitlines()[0][:300]
    kind = "" if isinstance(error, RuntimeError | ValueError) else f"{type(error).__name__}: "
    mode = " in training mode" if training else ""
    return UsageError(
        f"net.name: the net does not accept inputs of shape {tuple(shape)}{mode}: {kind}{said}; "
        "it must take inputs [N, …] alone and return logits [N, classes]"
    )


class _Trial:
    def __init__(self, module: nn.Module, x: Tensor) -> None:
        _refuse_wrapped(module)
        self.possible = possible_heads(module)
        self.module, self.x, self.shape, self.device = module, x, tuple(x.shape[1:]), x.device
        self.tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self.learned = [name for name, weight in module.named_parameters() if weight.requires_grad]
        odd = next((name for name in self.learned if self.tensors[name].dtype != torch.float32), None)
        if odd is not None:
            raise UsageError(
                f"net.name: the net's weight '{odd}' is {_kind(self.tensors[odd])}, and weights that learn must be "
                "float32: leave them so (train.precision = 'bfloat16' computes with less)"
            )
        self.head: str | None = None

    def traits(self) -> Traits:
        kept = {name: (tensor, tensor.clone()) for name, tensor in plain_tensors(self.module).items()}
        with torch.no_grad():
            first, _ = self._answer(False), self._answer(False, rows=1)
        learning, again = self._answer(True), self._answer(True)
        self._check_gradients(learning)
        with torch.no_grad():
            last = self._answer(False)
        carried: tuple[str, ...] = ()
        if not _close(first.logits, last.logits) or not _close(learning.logits, again.logits):
            carried = self._carried(kept)
        return Traits(
            head=self.head,
            outputs=first.logits.shape[1],
            places=first.logits.ndim > 2,
            stochastic=learning.drew,
            noisy=first.drew,
            changes_inputs=first.changed_inputs or learning.changed_inputs,
            updated=learning.written | learning.assigned,
            assigned=learning.assigned,
            written=first.written,
            carried=carried,
        )

    def _answer(self, training: bool, rows: int = 2) -> _Answer:
        given = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        for name in self.learned:
            given[name].requires_grad_(torch.is_grad_enabled())
        own, x = dict(given), self.x[:rows].clone()
        self.module.train(training)
        seen: list[tuple[str, Any]] = []
        hooks = [
            self.module.get_submodule(name).register_forward_hook(
                lambda part, inputs, output, name=name: seen.append((name, output))
            )
            for name in self.possible
        ]
        try:
            with rng.ambient(0, "trial", device=self.device):
                before = rng.states(self.device)
                logits = functional_call(self.module, own, (x,), strict=True, tie_weights=True)
                drew = rng.drawn(before, rng.states(self.device))
        except Exception as error:  # a module of somebody else's may fail in any way
            raise refusal(error, self.shape, training) from None
        finally:
            for hook in hooks:
                hook.remove()
        ends = [name for name, output in seen if output is logits]
        self.head = "head" if "head" in ends else ends[-1] if ends else None
        self._check_logits(logits, rows, training)
        assigned = frozenset(name for name, tensor in given.items() if own[name] is not tensor)
        for name in assigned:
            self._check_assigned(name, own[name])
        written = (name for name, tensor in given.items() if not _same(tensor, self.tensors[name]))
        return _Answer(logits, given, frozenset(written), assigned, drew, not _same(x, self.x[:rows]))

    def _check_logits(self, logits: Any, rows: int, training: bool) -> None:
        if not isinstance(logits, Tensor):
            found = f"a {type(logits).__name__}"
        elif logits.ndim not in (2, 4) or len(logits) != rows or logits.dtype != torch.float32:
            found = f"{_kind(logits)} of shape {tuple(logits.shape)} for {rows} rows"
        elif logits.ndim == 4 and not (self.head and reads_places(self.module.get_submodule(self.head))):
            raise UsageError(
                f"net.name: the net returns maps of shape {tuple(logits.shape)} for {rows} rows that no 1×1 nn.Conv2d inside "
                "gives: end the net with its head, a 1×1 nn.Conv2d; answers are brought to the labels' size without the net"
            )
        else:
            return
        mode = " in training mode" if training else ""
        raise UsageError(
            f"net.name: the net returns {found}{mode}: let it return logits [N, classes], or [N, classes, h, w] of a 1×1 "
            "nn.Conv2d, float32, alone"
        )

    def _check_assigned(self, name: str, tensor: Tensor | None) -> None:
        before = self.tensors[name]
        if tensor is None or tensor.shape != before.shape or tensor.dtype != before.dtype:
            now = "nothing" if tensor is None else f"{_kind(tensor)} of shape {tuple(tensor.shape)}"
            raise UsageError(
                f"net.name: the net's buffer '{name}' is {_kind(before)} of shape {tuple(before.shape)} at first and "
                f"{now} after a call: let it keep its type and shape"
            )

    def _check_gradients(self, learning: _Answer) -> None:
        """Refuse a module whose training does not follow the weights that it is handed."""
        known = {id(tensor) for tensor in learning.given.values()}
        if any(id(leaf) not in known for leaf in _leaves(learning.logits)):
            raise UsageError(
                "net.name: the net computes with weights that are not among its parameters, or not read where they are: "
                "register layers as attributes or in nn.ModuleList, and use weights as self.layer.weight"
            )
        if not learning.logits.requires_grad:
            raise UsageError(
                "net.name: no gradient reaches the net's weights: compute its output without torch.no_grad"
            )
        weights = [learning.given[name] for name in self.learned]
        try:
            gradients = torch.autograd.grad(learning.logits.sum(), weights, allow_unused=True)
        except Exception as error:
            raise refusal(error, self.shape, training=True) from None
        for name, gradient in zip(self.learned, gradients, strict=True):
            if gradient is not None and gradient.layout != torch.strided:
                raise UsageError(
                    f"net.name: gradients of the net's weight '{name}' are sparse: build it with sparse=False"
                )

    def _carried(self, kept: dict[str, tuple[Tensor, Tensor]]) -> tuple[str, ...]:
        """Return the plain attributes that were changed, which later answers depend on."""
        now = plain_tensors(self.module)
        changed = {name for name, (tensor, copy) in kept.items() if name in now and not _same(now[name], copy)}
        fits = {
            name
            for name in changed
            if now[name].shape == kept[name][1].shape and now[name].dtype == kept[name][1].dtype
        }
        if not changed or fits != changed:
            raise UsageError(
                "net.name: the net's answer depends on calls before, through something that is not a tensor of a constant "
                "shape: keep what changes from call to call in buffers (register_buffer)"
            )
        return tuple(sorted(changed))


def _refuse_wrapped(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule):
            how = "compiled by torch.jit"
        elif isinstance(part, nn.DataParallel | nn.parallel.DistributedDataParallel):
            how = f"wrapped in {type(part).__name__}"
        elif hasattr(part, "_orig_mod"):
            how = "compiled by torch.compile"
        else:
            continue
        raise UsageError(
            f"net.name: the net, or a part of it, is {how}: return the plain module, which is run by itself"
        )


def _leaves(output: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that a gradient of the output would be accumulated in."""
    seen: set[Any] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable
        waiting += [before for before, _ in node.next_functions]


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6, equal_nan=True)


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
