"""Flip: regression whose inputs change slowly, bit by bit."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.rows_of_seeds import Added, ChosenRows, Half, Lens
from cl_engine.data.seeded_stream import SeededStream
from cl_engine.errors import UsageError
from cl_engine.nn.target import Target
from cl_engine.options import option
from cl_engine.targets.numbers import Numbers

MOST_RANDOM = 16


class Flip(SeededStream):
    """Flip: slowly-changing regression, where some bits of the inputs change between tasks alone (Dohare et al. 2024).

    Inputs are ``bits``, each 0 or 1, of which the first ones are the same in all rows of a task and the last ``random`` are drawn
    row by row. The number asked for is what a net of ``hidden`` linear threshold units with weights of ±1 gives, the same in all
    tasks. A unit is on where its sum exceeds a share ``beta`` of the greatest there could be. Without ``n`` there is no end.

    >>> stream = Flip(n=3, rows=50)
    >>> stream[1].train.x.shape, stream[1].train.y.shape, stream.target(0).name()
    (torch.Size([50, 20]), torch.Size([50, 1]), 'numbers')
    """

    held_out = False  # there are only so many inputs, and all of them are learned

    rows: int = option(10_000, "training rows of a task", ge=1)
    test_rows_drawn: int = option(1_000, "test rows of a task", ge=1)
    bits: int = option(20, "bits of an input", ge=2, le=1024)
    random: int = option(5, "of these, how many are drawn for each row", ge=1, le=MOST_RANDOM)
    change: Literal["all", "one"] = option(
        "all", "between tasks all other bits are drawn anew, or one of them is flipped"
    )
    hidden: int = option(100, "linear threshold units of the net that is to be learned", ge=1)
    beta: float = option(0.7, "share of its greatest sum above which a unit is on", ge=0, le=1)

    def __init__(self, /, device: torch.device | str = "cpu", **options: object) -> None:
        """Build the stream, its tensors on ``device``.

        Raises:
            UsageError: for options that do not exist or do not fit each other.
        """
        self.configure(options, "stream")
        if self.random >= self.bits:
            raise UsageError(
                f"stream.random: {self.random} of {self.bits} bits are drawn for each row: none is left to change slowly"
            )
        self.device = torch.device(device)
        self.n_tasks = self.n_steps = self.n
        self.input_shape, self.outputs, self.mean, self.std = (self.bits,), 1, (0.0,), (1.0,)
        drawn = np.arange(2**self.random)[:, None] >> np.arange(self.random) & 1  # every pattern there is
        held = np.zeros((len(drawn), self.bits), dtype=np.float32)
        held[:, self.bits - self.random :] = drawn
        self._held = torch.from_numpy(held).to(self.device)
        self._target = Numbers.of(numbers=1, measured_by="mse")
        self.decide()

    def decide(self) -> None:
        draw = rng.arrays(self.seed, "net to be learned")
        signs = draw.integers(0, 2, size=(self.hidden, self.bits + 1)) * 2 - 1
        self._weights, self._bias = signs[:, :-1], signs[:, -1]
        # sums lie between minus and plus (bits + 1); a threshold is so far above the number of weights of −1, below 0
        least = (self.bits - self._weights.sum(axis=1) + self._bias) / 2
        self._thresholds = self.beta * (self.bits + 1) - least
        self._readout = draw.integers(0, 2, size=self.hidden) * 2 - 1

    def target(self, task_id: int) -> Target:
        return self._target

    def slow_bits(self, kind: int) -> np.ndarray:
        """Return the bits that all rows of a task share, ``[bits − random]``."""
        count = self.bits - self.random
        if self.change == "all":
            return rng.arrays(self.seed, "slow bits", kind).integers(0, 2, size=count)
        first = rng.arrays(self.seed, "slow bits", 0).integers(0, 2, size=count)
        flipped = [rng.derive(self.seed, "flip", place) % count for place in range(kind)]
        return (first + np.bincount(flipped, minlength=count)) % 2

    def lens(self, kind: int, half: Half = "train") -> Lens:
        slow = torch.zeros(self.bits, device=self.device)
        slow[: self.bits - self.random] = torch.from_numpy(self.slow_bits(kind)).to(slow)
        return Added(slow)

    def rows_learned(self, task_id: int) -> tuple[ChosenRows, ChosenRows]:
        return self._drawn(task_id, self.rows, "train"), self._drawn(task_id, 0, "validation")

    def rows_tested(self, task_id: int) -> ChosenRows:
        return self._drawn(task_id, self.test_rows_drawn, "test")

    def train_rows(self, step: int) -> int:
        return self.rows

    def test_rows(self, task_id: int) -> int:
        return self.test_rows_drawn

    def name_of(self, task_id: int) -> str:
        return f"bits {''.join(map(str, self.slow_bits(task_id)))}"

    def asked(self, x: Tensor) -> Tensor:
        """Return the number asked for inputs ``[N, bits]``, ``[N, 1]``."""
        sums = x.cpu().numpy() @ self._weights.T + self._bias
        found = (sums > self._thresholds) @ self._readout
        return torch.from_numpy(found.astype(np.float32)[:, None]).to(self.device)

    def _drawn(self, task: int, rows: int, purpose: str) -> ChosenRows:
        index = torch.from_numpy(rng.arrays(self.seed, "rows", purpose, task).integers(0, len(self._held), size=rows))
        every = self.asked(self.lens(task)(self._held))
        return ChosenRows(self._held, index.to(self.device), every[index.to(self.device)])
