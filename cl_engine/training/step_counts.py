"""Operations of steps that were counted: a step like one before it is not counted again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from types import MethodType
from weakref import WeakKeyDictionary

from torch import Tensor

from cl_engine.core.tree import Tree, leaves_with_path
from cl_engine.nn.learner import Learner
from cl_engine.nn.shared_net import SharedNet
from cl_engine.training.fit_job import FitJob

# of each strategy, as long as it lives: counting takes a step of a small net several times as long as taking it
COUNTED: WeakKeyDictionary[object, dict[Hashable, int]] = WeakKeyDictionary()


class StepCount:
    """The operations of a fit's step, looked up by all that they depend on, or kept when they have been counted.

    A strategy's own loss, which is a method, takes as many operations again for the same names and shapes of what it is given.
    Any other function may hold something that makes a difference, and one that cannot run for all seeds side by side may look at
    values: these are counted in every fit.

    Attributes:
        total: the operations, of all seeds of the step; None: they have to be counted.

    >>> from types import SimpleNamespace
    >>> job = SimpleNamespace(loss=len, logits=None, beside=(), target=None)
    >>> StepCount(job, {}, None, []).total is None
    True
    """

    def __init__(self, job: FitJob, params: Tree, frozen: Tree | None, given: Sequence[Tensor]) -> None:
        """Look up the step that ``job`` takes with tensors of the shapes of these."""
        self.total: int | None = None
        self._known: dict[Hashable, int] = {}
        self._key: Hashable = None
        owner = _owner(job.loss)
        if owner is not None and job.side_by_side is not False and not job.beside:
            self._known = COUNTED.setdefault(owner, {})
            rows = tuple(tensor.shape for tensor in given)
            method, target = job.loss.__func__, job.target and job.target.key  # type: ignore[attr-defined]
            self._key = (method, target, _shapes(params), _shapes(frozen), rows)
            self.total = self._known.get(self._key)

    def keep(self, total: int) -> None:
        """Keep what was counted."""
        self.total = total
        if self._key is not None:
            self._known[self._key] = total


def _owner(loss: object) -> Learner | None:
    """Return the strategy whose method a loss is, or its shared net's."""
    held = loss.__self__ if isinstance(loss, MethodType) else None
    held = held.learner if isinstance(held, SharedNet) else held
    return held if isinstance(held, Learner) else None


def _shapes(tree: Tree | None) -> Hashable:
    return (
        None if tree is None else tuple((path, leaf.shape, leaf.requires_grad) for path, leaf in leaves_with_path(tree))
    )
