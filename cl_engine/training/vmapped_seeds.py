"""Seeds of a fit that train as one, under `torch.vmap`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.tree import Tree, tree_map
from cl_engine.errors import UsageError, is_out_of_memory
from cl_engine.training.cuda_graphs import named
from cl_engine.training.fit_job import FitJob
from cl_engine.training.seed_group import SeedGroup

# what torch says of functions that cannot run so, and what they do
REASONS = {
    ".item()": "reads a number out of a tensor, as .item(), float() and int() do",
    "data-dependent control flow": "asks whether a tensor is true, as `if` does",
    "dynamic shape": "makes a tensor whose shape depends on values, as x[mask] and nonzero do",
    "in-place": "writes in place into a tensor that all seeds share",
}


class VmappedSeeds(SeedGroup):
    """Seeds of a fit, as one `torch.vmap` over their axis; each agrees with itself alone within rounding.

    >>> VmappedSeeds.rows_axis  # a batch is [S, B, …]
    1
    """

    rows_axis = 1

    def __init__(self, job: FitJob, places: range) -> None:
        """Take the seeds of the job at these places."""
        self._places = slice(places.start, places.stop)
        # what the seeds share is not batched
        self._frozen_axes: Any = None if job.frozen is None else tree_map(_axis, job.frozen)
        super().__init__(job, list(job.seeds[self._places]))
        if job.frozen is not None:
            self.frozen = tree_map(lambda leaf: self.part(leaf) if len(leaf) > 1 else leaf[0], job.frozen)
        self._of_seeds = None if job.of_seeds is None else job.of_seeds.part(self._places)

    def part(self, leaf: Tensor) -> Tensor:
        return leaf if len(leaf) == 1 else leaf[self._places]

    def of_each(self, loss: Callable[..., Tensor], tensors: int) -> Callable[..., Tensor]:
        numbers = [None] * len(self.job.loss_inputs(0, 0, 1))
        together = torch.vmap(loss, in_dims=(0, self._frozen_axes, *[0] * tensors, *numbers))
        return partial(_explained, together, named(self.job.loss))

    def of_one(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        mapped: Callable[..., Tree] = torch.vmap(function, in_dims=(0, self._frozen_axes))
        return mapped

    def _placed(self, leaf: Tensor) -> Tensor:
        return leaf

    def pick(self, rows: Tensor, index: Tensor) -> Tensor:
        return rows[index]

    def pick_own(self, rows: Tensor, index: Tensor) -> Tensor:
        return torch.stack([own.index_select(0, i) for own, i in zip(rows, index, strict=True)])

    def of_seeds(self, index: Tensor) -> tuple[Tensor, Tensor]:
        assert self._of_seeds is not None
        return self._of_seeds.of_all(index)

    def _own_rows(self, of_each: list[Tensor]) -> Tensor:
        return torch.stack(of_each)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Return logits ``[S, N, C]``."""
        assert self.job.logits is not None
        net, together = self.job.net, torch.vmap(self.job.logits, in_dims=(0, self._frozen_axes, None))
        batched = partial(_explained, together, named(self.job.logits))
        pieces = net.chunks(x, len(self.seeds))
        parts = [batched(self.answering, self.frozen, net.laid_out(net.prepare(part))) for part in pieces]
        return torch.cat(parts, dim=1)

    def whole(self) -> Tree:
        """Return the tree as it answers now, tensors ``[S, …]``."""
        return tree_map(lambda leaf: leaf.detach(), self.answering)


def _explained(together: Callable[..., Any], name: str, *given: Any) -> Any:
    """Return what a function gives that runs for all seeds at once; what it cannot do so is said in a sentence."""
    try:
        return together(*given)
    except RuntimeError as error:
        said = str(error)
        if "vmap" not in said or is_out_of_memory(error):
            raise
        what = next((why for sign, why in REASONS.items() if sign in said), said.strip().splitlines()[0][:200])
        raise UsageError(
            f"{name}: several seeds run as one (torch.vmap), and it {what}; compute with tensors alone, as torch.where does, or "
            "let seeds run in turn: self.fit(…, side_by_side=False)"
        ) from error


def _axis(leaf: Tensor) -> int | None:
    return 0 if len(leaf) > 1 else None
