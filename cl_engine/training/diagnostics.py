"""Diagnostics of a net before it learns a task: what its units still do, and where its weights have gone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.events import UnitsDiagnosed
from cl_engine.nn.hooks import watching
from cl_engine.nn.net import Net
from cl_engine.nn.units import module_name
from cl_engine.training.fit_job import FitJob
from cl_engine.training.one_seed import OneSeed

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
SQUASHING = (nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardsigmoid, nn.Softsign)
OF_WEIGHTS = ("weight_mean", "weight_norm", "gradient_norm", "distance")
ALWAYS = 0.9  # share of rows for which a linearised unit is on
MOST = 0.99  # share that the singular values counted make up
ROWS_AT_ONCE = 256
OF_UNITS = ("dead", "dormant", "linearised", "effective_rank", "stable_rank", "rank_99", "rank_99_squares")


def diagnosed(job: FitJob) -> Iterator[UnitsDiagnosed]:
    """Yield what is found of each layer of a net, seed by seed, on rows of the job that is about to begin.

    The net answers in evaluation mode, and gradients are those of the job's loss there. Nothing is yielded of a job whose loss
    does not ask the net for anything.
    """
    handed = [
        replace(more, augmented=False) for more in job.beside if more.loss is None
    ]  # the loss asks for these rows
    bare = replace(
        job, memory=None, upkeep=None, online=None, observer=None, beside=handed, rehearsal=None, resample=None
    )
    seeds = len(job.seeds) // job.candidates
    of_seeds = [_Looked(OneSeed(bare, place)).found() for place in range(seeds)]
    one, *_ = of_seeds
    for layer in one:
        sizes = {name: int(one[layer][name]) for name in ("units", "weights")}
        numbers: dict[str, Any] = {name: tuple(own[layer][name] for own in of_seeds) for name in one[layer]}
        yield UnitsDiagnosed(step=job.step, task_id=job.task_id, part=layer, **{**numbers, **sizes})


@dataclass
class _Layer:
    """What was seen of a layer in forward passes: its weights, and the units that it reads."""

    weight: Tensor | None = None
    gradient: Tensor | None = None
    zero: Tensor | None = None  # units that were 0 on all rows so far
    magnitude: Tensor | float = 0.0  # sums over rows, by unit
    on: Tensor | float = 0.0
    rows: int = 0
    means: list[Tensor] = field(default_factory=list)  # over places ``[B, U]``

    def read(self, h: Tensor) -> None:
        """Take in what was read ``[B, U, P]``."""
        zero = (h == 0).all(dim=2).all(dim=0)
        self.zero = zero if self.zero is None else self.zero & zero
        self.magnitude = self.magnitude + h.abs().mean(dim=2).sum(dim=0)
        self.on = self.on + (h > 0).float().mean(dim=2).sum(dim=0)
        self.rows += len(h)
        self.means.append(h.mean(dim=2))


class _Looked:
    """A look at the net of one seed."""

    def __init__(self, group: OneSeed) -> None:
        self._group, self._job, self._net = group, group.job, group.job.net
        self._layers: dict[str, _Layer] = {}
        self._last: nn.Module | None = None
        self._heard: set[str] = set()  # layers, in the forward pass at hand: other rows may come after the task's own

    def found(self) -> dict[str, dict[str, float]]:
        """Return the numbers of each layer, by its name."""
        job, net, group = self._job, self._net, self._group
        wanted = job.diagnostics
        assert wanted is not None
        order = torch.randperm(len(job.rows[0]), generator=group.generator(group.seeds[0], "diagnostics", 0))
        order = order[: wanted.rows].to(net.device)
        batches = job.batches
        numbers = [torch.tensor(n, device=net.device) for n in job.loss_inputs(0, 0, batches)]
        for more in group.handed:
            more.start_epoch(0, batches)
        handed = [part for more in group.handed for part in more.batch_of(0)]
        hooks = {module_name(net, name): partial(self._called, name) for name in layers_of(net)}
        with net.evaluating(), watching(hooks):
            for index in order.split(ROWS_AT_ONCE):
                self._last = None
                self._heard.clear()
                loss = job.loss(group.params, group.frozen, *self._batch(index.unsqueeze(0)), *handed, *numbers)
                self._differentiate(loss * (len(index) / len(order)))
        first = {name: tensor[0] for name, tensor in net.init(group.seeds).items()}
        linear = not any(isinstance(net.owner(f"{layer}._"), SQUASHING) for layer in net.layers if layer)
        return {
            name: {**_of_units(seen, wanted.dormant, linear), **_of_weights(seen, first[f"{name}.weight"])}
            for name, seen in self._layers.items()
        }

    def _batch(self, index: Tensor) -> list[Tensor]:
        """Return the rows with these indices ``[1, B]``, as the net takes them, none of them changed at random."""
        group, net = self._group, self._net
        own = () if self._job.of_seeds is None else group.of_seeds(index)
        rows = [*own, *(group.pick(rows, index) for rows in group.rows[len(own) :])]
        return [net.laid_out(net.prepare(rows[0])), *rows[1:]]

    def _called(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if name in self._heard:
            return
        self._heard.add(name)
        seen = self._layers.setdefault(name, _Layer())
        seen.weight = getattr(
            module, "weight", None
        )  # the one of this call; None: the head, of a net that is asked for features
        if self._last is not None:  # the first layer reads the inputs
            seen.read(_by_unit(inputs[0].detach(), module, self._last))
        self._last = module

    def _differentiate(self, loss: Tensor) -> None:
        asked = [seen for seen in self._layers.values() if seen.weight is not None and seen.weight.requires_grad]
        if loss.requires_grad and asked:
            weights = [seen.weight for seen in asked if seen.weight is not None]
            for seen, gradient in zip(asked, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                if gradient is not None:
                    seen.gradient = gradient if seen.gradient is None else seen.gradient + gradient


def layers_of(net: Net) -> list[str]:
    """Return the names, among weights, of the linear and convolution layers of a net."""
    names = (name.rpartition(".")[0] for name in net.shapes if name.endswith(".weight"))
    return [name for name in names if isinstance(net.owner(f"{name}.weight"), LAYERS)]


def ranks(features: Tensor) -> dict[str, float]:
    """Return ranks of features ``[N, U]``, as each is defined by who introduced it.

    ``effective_rank`` is exp of the entropy of σ/Σσ (Roy & Vetterli 2007), ``stable_rank`` Σσ²/max σ² (Rudelson & Vershynin
    2007), ``rank_99`` the least number of singular values that make up 99 % of their sum (Kumar et al. 2021, as srank), and
    ``rank_99_squares`` the same of their squares (approximate rank: Dohare et al. 2024).

    >>> {name: round(rank, 3) for name, rank in ranks(torch.diag(torch.tensor([2.0, 2.0, 0.0]))).items()}
    {'effective_rank': 2.0, 'stable_rank': 2.0, 'rank_99': 2.0, 'rank_99_squares': 2.0}
    """
    if not bool(torch.isfinite(features).all()) or not bool(features.any()):
        nothing = 0.0 if bool(torch.isfinite(features).all()) else math.nan
        return dict.fromkeys(("effective_rank", "stable_rank", "rank_99", "rank_99_squares"), nothing)
    values = torch.linalg.svdvals(features.double().cpu())
    share = values / values.sum()
    entropy = -torch.xlogy(share, share).sum()
    return {
        "effective_rank": float(entropy.exp()),
        "stable_rank": float(values.square().sum() / values.max().square()),
        "rank_99": _least(values),
        "rank_99_squares": _least(values.square()),
    }


def _least(values: Tensor) -> float:
    """Return how many of the values, the greatest first, make up 99 % of their sum."""
    return float((values.cumsum(0) < MOST * values.sum()).sum() + 1)


def _of_units(seen: _Layer, dormant: float, linear: bool) -> dict[str, float]:
    if not seen.means:
        return {"units": 0, **dict.fromkeys(OF_UNITS, math.nan)}
    features, (zero, magnitude, on) = torch.cat(seen.means), (seen.zero, seen.magnitude, seen.on)
    assert isinstance(zero, Tensor) and isinstance(magnitude, Tensor) and isinstance(on, Tensor)
    return {
        "units": len(zero),
        "dead": float(zero.float().mean()),
        "dormant": float((magnitude <= dormant * magnitude.mean()).float().mean()),
        "linearised": float((on >= ALWAYS * seen.rows).float().mean()) if linear else math.nan,
        **ranks(features),
    }


def _of_weights(seen: _Layer, first: Tensor) -> dict[str, float]:
    if seen.weight is None:
        return {"weights": 0, **dict.fromkeys(OF_WEIGHTS, math.nan)}
    weight = seen.weight.detach()
    same = weight.numel() == first.numel()
    return {
        "weights": weight.numel(),
        "weight_mean": float(weight.abs().mean()),
        "weight_norm": float(weight.norm()),
        "gradient_norm": math.nan if seen.gradient is None else float(seen.gradient.norm()),
        "distance": float((weight.flatten() - first.flatten()).norm()) if same else math.nan,
    }


def _by_unit(h: Tensor, reader: nn.Module, before: nn.Module) -> Tensor:
    """Return what a layer reads as ``[N, U, P]``: units are channels, also of maps that were flattened; P are places."""
    if isinstance(reader, nn.modules.conv._ConvNd):
        return h.flatten(2)
    if h.ndim > 2:  # tokens
        return h.flatten(1, -2).transpose(1, 2)
    channels: Sequence[int] = [before.out_channels] if isinstance(before, nn.modules.conv._ConvNd) else []
    return h.reshape(len(h), channels[0], -1) if channels and h.shape[1] % channels[0] == 0 else h.unsqueeze(2)
