"""Rows that note which net is asked about them, with which weights, and whether anything else was done with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

# what may be asked of rows whose numbers play no part in the answer
HARMLESS = {
    *(getattr(Tensor, name).__get__ for name in ("shape", "device", "dtype", "ndim")),
    *(Tensor.__len__, Tensor.size, Tensor.dim, Tensor.is_floating_point),
}


@dataclass(frozen=True)
class Asked:
    """One call of a net about some rows.

    >>> Asked(None, print, {}, torch.zeros(1)).hooks
    {}

    Attributes:
        net: the `cl_engine.nn.net.Net` that was asked.
        function: what gives the answer of one seed, from its weights and rows as the net takes them.
        params: the weights: a tree of tensors ``[S, …]``, or of one seed where it was asked itself.
        answer: what it said.
        gates: factors of the outputs of layers, by the layer's name in the module.
        hooks: further functions that changed what layers give.
        training: whether it was asked in training mode.
    """

    net: Any
    function: Callable[[Any, Tensor], Tensor]
    params: Mapping[str, Any]
    answer: Tensor
    gates: Mapping[str, Tensor] | None = None
    hooks: Mapping[str, Any] | None = None
    training: bool | None = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "gates", self.gates or {})
        object.__setattr__(self, "hooks", self.hooks or {})


class Question(Tensor):
    """Rows ``[N, …]`` that are answered as any, and know afterwards who answered.

    Where nothing but one call of a net has seen them (`only`), and what it gave is the whole answer, its weights cannot depend
    on the rows: that net with these weights gives the answer for any other rows too.

    >>> question = Question.about(torch.zeros(2, 3))
    >>> len(question), question.used
    (2, False)
    >>> _ = question + 1
    >>> question.used
    True

    Attributes:
        rows: the rows as a plain tensor.
        calls: calls of nets.
        used: whether anything else read the numbers.
    """

    rows: Tensor
    calls: list[Asked]
    used: bool

    @classmethod
    def about(cls, rows: Tensor) -> Question:
        """Return these rows as a question that nobody was asked yet."""
        made = rows.as_subclass(cls)
        made.rows, made.calls, made.used = rows, [], False
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        def plain(value: Any) -> Any:
            if not isinstance(value, Question):
                return value
            value.used = value.used or func not in HARMLESS
            return value.rows

        with torch._C.DisableTorchFunctionSubclass():
            return func(*tree_map(plain, args), **tree_map(plain, dict(kwargs or {})))

    def note(
        self, net: Any, function: Callable[[Any, Tensor], Tensor], params: Any, answer: Tensor, **how: Any
    ) -> Tensor:
        """Note a call of a net, and return what it said."""
        self.calls.append(Asked(net, function, params, answer, **how))
        return answer

    def only(self, answer: Tensor) -> Asked | None:
        """Return the call that gave this answer; None: others took part, or something else was done with the rows."""
        alone = not self.used and len(self.calls) == 1 and self.calls[0].answer is answer
        return self.calls[0] if alone else None
