"""Retraining an autoencoder on recollections and new skills until both can be recalled.

The second training loop of the house, beside `cl_engine.training.fit`: that one fits a net to rows of data that all seeds share,
for a number of epochs fixed beforehand. Here the rows are the seeds' own weight vectors, there is no label and no
`Net`, the end is found by a stop rule that each seed meets on its own, and hard examples come twice.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.errors import RunFailed
from cl_engine.events import Event, Progress
from cl_engine.recall.autoencoder import Shape, Weights
from cl_engine.recall.closed_form import solve_last_layer
from cl_engine.recall.manifest import joined
from cl_engine.recall.stop import Newest, StopRule, agreement
from cl_engine.training.optimizers import optimizer_class

BREATH = 0.03  # seconds between two looks at whether anybody still reads


@dataclass(frozen=True)
class Passes:
    """How an autoencoder is trained: at most so many passes over all samples, with which steps.

    Attributes:
        most: cap on the passes.
        batch: samples a step; 0: all in one.
        contractive: weight of the contractive penalty; 0: none.
        resend: samples that count as hard and are sent again in the same pass: ``none``, those whose loss is at least
            ``hard`` (``loss``), those whose cosine is at most ``hard`` (``cosine``), or at most the mean (``mean``).
        check_every: passes between two looks at the stop rule.
        solve: before each look, the decoder's linear last layer is solved by least squares.
        gentle: the encoder's first matrix learns at ``lr`` divided by the root of its inputs. With inputs of mean square
            one a step of Adam would otherwise move a code by lr · inputs, far beyond where tanh is not flat.
    """

    most: int
    optimizer: str = "adam"
    lr: float = 1e-3
    batch: int = 0
    contractive: float = 0.0
    resend: str = "none"
    hard: float = 0.0
    check_every: int = 5
    solve: bool = False
    gentle: bool = False


@dataclass(frozen=True)
class Targets:
    """What is to be recalled: samples ``[S, n, C, D]`` of n skills in C chunks, scaled, and how to undo the scaling.

    Attributes:
        scales: ``[S, n, C]``.
        length: weights of a skill, without the padding of its last chunk.
        centre: what was taken away from every skill, ``[S, length]``.
    """

    samples: Tensor
    scales: Tensor
    length: int
    centre: Tensor
    newest: Newest | None = None


@dataclass
class Trained:
    """The autoencoders after a consolidation, and the passes each seed took."""

    encoder: Weights
    decoder: Weights
    passes: list[int] = field(default_factory=list)


def consolidate(
    shape: Shape,
    start: Trained,
    targets: Targets,
    rule: StopRule,
    how: Passes,
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
    together = how.batch == 0 and how.resend == "none"
    groups = [
        _Group(shape, start, targets, rule, how, members)
        for members in ([everyone] if together else [[s] for s in everyone])
    ]
    names = {s: (seeds[s], step, nth) for s in everyone}
    breath = time.perf_counter()
    for number in range(how.most + 1):
        for group in groups:
            if number % how.check_every == 0 or number == how.most:
                group.retire(number, last=number == how.most)
            if not group.members:
                continue
            for _ in group.steps(number, names):
                if time.perf_counter() - breath > BREATH:
                    yield Progress(step=step, done=number / how.most)
                    breath = time.perf_counter()
        groups = [group for group in groups if group.members]
        if not groups:
            break
    return start


class _Group:
    """Seeds that are trained as one, until each has met the stop rule."""

    def __init__(
        self, shape: Shape, start: Trained, targets: Targets, rule: StopRule, how: Passes, members: list[int]
    ) -> None:
        self.shape, self.result, self.targets, self.rule, self.how = shape, start, targets, rule, how
        if len(start.passes) < len(targets.samples):
            start.passes = [0] * len(targets.samples)
        self.members = members
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
        cls: Any = optimizer_class(self.how.optimizer)
        options = {"fused": True} if "fused" in inspect.signature(cls).parameters else {}
        wide = self.how.lr * self.shape.inputs**-0.5 if self.how.gentle else self.how.lr
        groups = [
            {"params": [tensor], "lr": wide if name == "e.w0" else self.how.lr} for name, tensor in self.weights.items()
        ]
        made: torch.optim.Optimizer = cls(groups, lr=self.how.lr, **options)
        return made

    def halves(self) -> tuple[Weights, Weights]:
        """Return encoder and decoder."""
        encoder = {name[2:]: tensor for name, tensor in self.weights.items() if name.startswith("e.")}
        return encoder, {name[2:]: tensor for name, tensor in self.weights.items() if name.startswith("d.")}

    def steps(self, number: int, names: dict[int, tuple[int, int, int]]) -> Iterator[None]:
        """Make one pass; yields after every step."""
        how, count = self.how, self.samples.shape[1]
        if how.batch == 0 or how.batch >= count:
            losses, cosines = self._step(None)
            yield
        else:
            seed, *where = names[self.members[0]]
            order = torch.randperm(count, generator=rng.tensors(seed, "code order", *where, number))
            losses, cosines = torch.empty(1, count), torch.empty(1, count)
            for index in order.split(how.batch):
                part, near = self._step(index.to(self.samples.device))
                losses[:, index], cosines[:, index] = part.cpu(), near.cpu()
                yield
        if how.resend != "none":
            limit = float(cosines.mean()) if how.resend == "mean" else how.hard
            hard = losses >= limit if how.resend == "loss" else cosines <= limit
            for index in hard[0].nonzero()[:, 0].split(how.batch or count):
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
        """Put away the autoencoders of the seeds that have met the stop rule, or of all after the last pass."""
        done = [last] * len(self.members)
        if not last or self.how.solve:
            encoder, decoder = self.halves()
            codes = self.shape.encode(encoder, self.samples)
            if self.how.solve:
                solve_last_layer(self.shape, decoder, codes, self.samples)
            given = self.shape.decode(decoder, codes)
            chunks = given.unflatten(1, self.scales.shape[1:]) * self.scales.unsqueeze(-1)
            recalled = joined(chunks, self.targets.length)
            if not math.isfinite(float(recalled.sum())):
                raise RunFailed(
                    f"the autoencoder's loss is not finite after {number} passes: lower code_lr, now {self.how.lr}"
                )
            reached = self.rule.reached(recalled, self.whole, self.centre, self.members, self.targets.newest)
            done = [last or yes for yes in reached]
        if not any(done):
            return
        encoder, decoder = self.halves()
        for position, member in enumerate(self.members):
            if done[position]:
                self.result.passes[member] = number
                for into, trained in ((self.result.encoder, encoder), (self.result.decoder, decoder)):
                    for name, tensor in trained.items():
                        into[name][member] = tensor[position]
        self._keep([position for position, finished in enumerate(done) if not finished])

    def _keep(self, positions: list[int]) -> None:
        """Go on with these members alone, the state of their optimiser included."""
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
