"""Consolidation: an autoencoder is retrained on recollections and new skills until both can be recalled.

The second training loop of the house, beside `cl_engine.training.fit`: that one fits a net to rows of data that all seeds share,
for a number of epochs fixed beforehand. Here the rows are the seeds' own weight vectors, there is no label and no
`Net`, the end is found by a stop rule that each seed meets on its own, and hard examples come twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.errors import RunFailed
from cl_engine.events import Event, Progress
from cl_engine.options import OptionGroup, option
from cl_engine.recall.autoencoder import Shape, Weights
from cl_engine.recall.closed_form import solve_last_layer
from cl_engine.recall.manifest import joined
from cl_engine.recall.stop import Newest, StopRule, agreement
from cl_engine.training.optimizer_steps import parameters_of
from cl_engine.training.optimizers import optimizer_class

BREATH = 0.03  # seconds between two looks at whether anybody still reads


class Consolidation(OptionGroup):
    """Options of the training of an autoencoder of skills.

    >>> Consolidation(max_passes=500, max_passes_later=50).later().max_passes
    50
    """

    contractive: float = option(0.0, "weight of the contractive penalty", ge=0)
    closed_form: bool = option(
        True, "principal directions instead of a random encoder (without hidden layers), last layer by least squares"
    )
    code_optimizer: str = option("adam", "optimiser of the autoencoder, new for each consolidation")
    code_lr: float = option(1e-3, "its learning rate", gt=0)
    code_lr_later: float | None = option(None, "its rate when it holds skills already; left out: the same", gt=0)
    code_batch: int = option(0, "samples a step; 0: all in one step, and the seeds side by side", ge=0)
    max_passes: int = option(500, "cap on the epochs of a consolidation", ge=1)
    max_passes_later: int | None = option(None, "the cap when it holds skills already; left out: the same", ge=1)
    check_every: int = option(5, "epochs between two looks at the stop rule", ge=1)
    resend: Literal["none", "loss", "cosine", "mean"] = option(
        "none", "samples sent twice an epoch: loss at least, cosine at most `hard`, or cosine at most the mean"
    )
    hard: float = option(1e-6, "what makes a sample hard")

    def later(self) -> Consolidation:
        """Return the options for an autoencoder that holds skills already."""
        lr, most = self.code_lr_later or self.code_lr, self.max_passes_later or self.max_passes
        return self.model_copy(update={"code_lr": lr, "max_passes": most})

    def solves(self, shape: Shape) -> bool:
        """Return whether the decoder's last layer is solved by least squares before each look at the stop rule."""
        return self.closed_form and shape.output == "linear" and self.code_batch == 0


@dataclass(frozen=True)
class Targets:
    """The skills to be recalled: samples ``[S, n, C, D]`` of n skills in C chunks, and how to undo their scaling.

    >>> samples = torch.zeros(1, 3, 1, 5)
    >>> Targets(samples, torch.ones(1, 3, 1), 5, torch.zeros(1, 5)).length
    5

    Attributes:
        scales: ``[S, n, C]``; 1 where samples are not scaled.
        scaled: whether samples have mean square one. The encoder's first matrix then learns at ``code_lr`` divided by the
            root of its inputs: a step of Adam would otherwise move a code by rate · inputs, far beyond where tanh is not flat.
        length: weights of a skill, without the padding of its last chunk.
        centre: what was taken away from every skill, ``[S, length]``.
    """

    samples: Tensor
    scales: Tensor
    length: int
    centre: Tensor
    newest: Newest | None = None
    scaled: bool = False


@dataclass
class Trained:
    """The autoencoders after a consolidation, and the number of epochs over the samples that each seed took.

    >>> Trained(encoder={}, decoder={}, epochs=[12]).epochs
    [12]
    """

    encoder: Weights
    decoder: Weights
    epochs: list[int] = field(default_factory=list)


def consolidate(
    shape: Shape,
    start: Trained,
    targets: Targets,
    rule: StopRule,
    how: Consolidation,
    seeds: Sequence[int],
    step: int,
    nth: int,
) -> Generator[Event, None, Trained]:
    """Train autoencoders (one a seed) to give their targets back; yields progress, at least every 50 ms or so.

    With all samples in one step, the seeds run as one batched matrix product; a seed that has met the stop rule leaves
    the batch. In small steps, or with hard examples, they run in turn. ``nth`` counts the consolidations of this step,
    for the randomness derived.

    Raises:
        RunFailed: if the loss of a seed is not finite.
    """
    everyone = list(range(len(seeds)))
    together = how.code_batch == 0 and how.resend == "none"
    groups = [
        _Group(shape, start, targets, rule, how, members)
        for members in ([everyone] if together else [[s] for s in everyone])
    ]
    names = {s: (seeds[s], step, nth) for s in everyone}
    breath = time.perf_counter()
    for number in range(how.max_passes + 1):
        for group in groups:
            if number % how.check_every == 0 or number == how.max_passes:
                group.retire(number, last=number == how.max_passes)
            if not group.members:
                continue
            for _ in group.steps(number, names):
                if time.perf_counter() - breath > BREATH:
                    yield Progress(step=step, done=number / how.max_passes)
                    breath = time.perf_counter()
        groups = [group for group in groups if group.members]
        if not groups:
            break
    return start


class _Group:
    """Seeds that are trained as one, until each has met the stop rule."""

    def __init__(
        self, shape: Shape, start: Trained, targets: Targets, rule: StopRule, how: Consolidation, members: list[int]
    ) -> None:
        self.shape, self.result, self.targets, self.rule, self.how = shape, start, targets, rule, how
        if len(start.epochs) < len(targets.samples):
            start.epochs = [0] * len(targets.samples)
        self.members, self._solves = members, how.solves(shape)
        index = torch.tensor(members)
        parts = {f"e.{k}": v for k, v in start.encoder.items()} | {f"d.{k}": v for k, v in start.decoder.items()}
        self.weights = {name: tensor[index].clone().requires_grad_(True) for name, tensor in parts.items()}
        self.optimizer = self._optimizer()
        self._take(index)

    def _take(self, index: Tensor) -> None:
        """Point at the targets of the members."""
        targets, device = self.targets, self.targets.samples.device
        index = index.to(device)
        self.samples = targets.samples[index].flatten(1, 2)
        self.scales, self.centre = targets.scales[index], targets.centre[index]
        self.whole = joined(targets.samples[index] * self.scales.unsqueeze(-1), targets.length)

    def _optimizer(self) -> torch.optim.Optimizer:
        cls: Any = optimizer_class(self.how.code_optimizer)
        options = {"fused": True} if "fused" in parameters_of(self.how.code_optimizer) else {}
        lr = self.how.code_lr
        wide = lr * self.shape.inputs**-0.5 if self.targets.scaled else lr
        groups = [{"params": [tensor], "lr": wide if name == "e.w0" else lr} for name, tensor in self.weights.items()]
        made: torch.optim.Optimizer = cls(groups, lr=lr, **options)
        return made

    def halves(self) -> tuple[Weights, Weights]:
        """Return encoder and decoder."""
        encoder = {name[2:]: tensor for name, tensor in self.weights.items() if name.startswith("e.")}
        return encoder, {name[2:]: tensor for name, tensor in self.weights.items() if name.startswith("d.")}

    def steps(self, number: int, names: dict[int, tuple[int, int, int]]) -> Iterator[None]:
        """Train for one epoch, yielding after every step."""
        how, count = self.how, self.samples.shape[1]
        if how.code_batch == 0 or how.code_batch >= count:
            losses, cosines = self._step(None)
            yield
        else:
            seed, *where = names[self.members[0]]
            order = torch.randperm(count, generator=rng.tensors(seed, "code order", *where, number))
            losses, cosines = torch.empty(1, count), torch.empty(1, count)
            for index in order.split(how.code_batch):
                part, near = self._step(index.to(self.samples.device))
                losses[:, index], cosines[:, index] = part.cpu(), near.cpu()
                yield
        if how.resend != "none":
            limit = float(cosines.mean()) if how.resend == "mean" else how.hard
            hard = losses >= limit if how.resend == "loss" else cosines <= limit
            for index in hard[0].nonzero()[:, 0].split(how.code_batch or count):
                self._step(index.to(self.samples.device))
                yield

    def _step(self, index: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take one optimiser step on some samples; return their losses and (where asked for) cosines ``[G, N]``."""
        x = self.samples if index is None else self.samples[:, index]
        encoder, decoder = self.halves()
        values = self.shape.encoder_values(encoder, x)
        given = self.shape.decode(decoder, values[-1])
        losses = (given - x).square().mean(dim=-1)
        if self.how.contractive:
            losses = losses + self.how.contractive * self.shape.contraction(encoder, values)
        losses.mean(dim=1).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        needed = self.how.resend in ("cosine", "mean")
        losses = losses.detach()
        return losses, agreement(given.detach(), x) if needed else losses

    @torch.no_grad()
    def retire(self, number: int, last: bool) -> None:
        """Put away the autoencoders of the seeds that have met the stop rule, or of all after the last epoch."""
        done = [last] * len(self.members)
        if not last or self._solves:
            encoder, decoder = self.halves()
            codes = self.shape.encode(encoder, self.samples)
            if self._solves:
                solve_last_layer(self.shape, decoder, codes, self.samples)
            given = self.shape.decode(decoder, codes)
            chunks = given.unflatten(1, self.scales.shape[1:]) * self.scales.unsqueeze(-1)
            recalled = joined(chunks, self.targets.length)
            if not math.isfinite(float(recalled.sum())):
                raise RunFailed(
                    f"the autoencoder's loss is not finite after {number} epochs: lower code_lr, now {self.how.code_lr}"
                )
            reached = self.rule.reached(recalled, self.whole, self.centre, self.members, self.targets.newest)
            done = [last or yes for yes in reached]
        if not any(done):
            return
        encoder, decoder = self.halves()
        for position, member in enumerate(self.members):
            if done[position]:
                self.result.epochs[member] = number
                for into, trained in ((self.result.encoder, encoder), (self.result.decoder, decoder)):
                    for name, tensor in trained.items():
                        into[name][member] = tensor[position]
        self._keep([position for position, finished in enumerate(done) if not finished])

    def _keep(self, positions: list[int]) -> None:
        """Continue with these members alone, the state of their optimiser included."""
        self.members = [self.members[position] for position in positions]
        if not positions:
            return
        index = torch.tensor(positions, device=self.samples.device)
        before = self.optimizer.state
        old, size = dict(self.weights), len(next(iter(self.weights.values())))
        self.weights = {name: tensor.detach()[index].clone().requires_grad_(True) for name, tensor in old.items()}
        self.optimizer = self._optimizer()
        for name, tensor in old.items():
            self.optimizer.state[self.weights[name]] = {
                key: value[index].clone() if isinstance(value, Tensor) and value.ndim and len(value) == size else value
                for key, value in before[tensor].items()
            }
        self._take(torch.tensor(self.members))
