"""Radio: the modulation of signals, received in environments that come and go."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, Field

from cl_engine.core import rng
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.options import STRICT, option
from cl_engine.signals.channel import Channel, drawn_frames
from cl_engine.signals.modulation import MODULATIONS


class Environment(BaseModel):
    """Where signals are received: a table of ``stream.environments``.

    >>> Environment(snr=[0.0, 6.0]).taps
    1
    """

    model_config = STRICT

    snr: list[Annotated[float, Field(ge=-100, le=100)]] = option(
        ..., "least and greatest ratio of signal to noise, in dB", min_length=2, max_length=2
    )
    offset: float = option(0.0, "greatest offset of the carrier, in cycles a sample", ge=0, le=0.5)
    taps: int = option(1, "paths that the signal takes, a sample apart", ge=1)


class Radio(Stream):
    """Radio: which of eight modulations a frame of a radio signal has, in environments that come back (RadioML done anew).

    BPSK, QPSK, 8PSK, PAM4, QAM16 and QAM64 with a root raised cosine, CPFSK and GFSK, eight samples a symbol, received through
    Rayleigh fading, with an offset of the carrier and noise, and scaled to a root mean square of 1. All is generated from
    the stream's seed. An environment is a task; a segment is an experience of it, with frames of its own, some of whose labels
    may be random. Frames whose labels can be trusted come as validation rows.

    >>> stream = Radio(segments=[0, 1, 0], frames=80, feedback=16)
    >>> stream[2].task_id, stream[2].train.x.shape, len(stream[2].validation), stream.name_of(1)
    (0, torch.Size([80, 2, 128]), 16, '0 to 6 dB')
    """

    environments: list[Environment] = option(
        [
            Environment(snr=[12.0, 18.0]),
            Environment(snr=[0.0, 6.0]),
            Environment(snr=[10.0, 18.0], offset=0.01),
            Environment(snr=[10.0, 18.0], taps=4),
        ],
        "where signals are received: tables of snr, offset and taps",
        min_length=1,
    )
    segments: list[int] = option([], "environments in the order in which they come; none: each once", max_length=10**6)
    frames: int = option(1200, "training frames of a segment, as many of each modulation", ge=len(MODULATIONS))
    test_frames: int = option(800, "test frames of an environment", ge=len(MODULATIONS))
    feedback: int = option(
        150, "frames of a segment, beside those, that come with their true label as validation rows", ge=0
    )
    noise: list[Annotated[float, Field(ge=0, lt=1)]] = option(
        [], "share of the training labels of each segment that are drawn at random; none: 0 of all"
    )
    samples: int = option(128, "samples of a frame", ge=8, le=2**16)
    seed: int = option(0, "seed of all that is drawn; the learners' seeds do not change the stream", ge=0)

    def __init__(self, /, device: torch.device | str = "cpu", **options: object) -> None:
        """Build the stream, its tensors on ``device``.

        Raises:
            UsageError: for options that do not exist or do not fit each other.
        """
        self.configure(options, "stream")
        self.device = torch.device(device)
        if self.setting == "class":
            raise UsageError(
                "stream.setting: environments share their classes, the modulations; use 'task' or 'domain'"
            )
        known = [Channel(**dict(table)) for table in self.environments]  # as tables, once they are checked
        if self.n is not None and self.n > len(known):
            raise UsageError(f"stream.n: {self.n} tasks, and stream.environments has {len(known)}")
        known = known[: self.n]
        for place, channel in enumerate(known):
            self._check(place, channel)
        self._steps = self.segments or list(range(len(known)))
        odd = next((kind for kind in self._steps if not 0 <= kind < len(known)), None)
        if odd is not None:
            raise UsageError(f"stream.segments: there is no environment {odd}; allowed are 0 to {len(known) - 1}")
        if self.noise and len(self.noise) != len(self._steps):
            raise UsageError(
                f"stream.noise: {len(self.noise)} shares for {len(self._steps)} segments; give one for each"
            )
        self._kinds = list(dict.fromkeys(self._steps))
        self._channels = [known[kind] for kind in self._kinds]
        self.n_tasks, self.n_steps = len(self._kinds), len(self._steps)
        self.input_shape, self.outputs, self.mean, self.std = (2, self.samples), len(MODULATIONS), (0.0,), (1.0,)

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return self._kinds.index(self._steps[step])

    def __getitem__(self, step: int) -> Experience:
        task = self.task_id(step)
        train = self._drawn(task, self.frames, "train", step)
        if self.noise:
            draw = rng.arrays(self.seed, "labels", step)
            wrong = torch.from_numpy(draw.permutation(self.frames)[: round(self.noise[step] * self.frames)])
            anew = torch.from_numpy(draw.integers(self.outputs, size=len(wrong)))
            train.y[wrong.to(self.device)] = anew.to(self.device)
        return Experience(
            step=step,
            task_id=task,
            train=train,
            validation=self._drawn(task, self.feedback, "feedback", step),
            classes=self.outputs,
        )

    def train_rows(self, step: int) -> int:
        return self.frames

    def test(self, task_id: int) -> Data:
        return self._drawn(task_id, self.test_frames, "test", 0)

    def describe(self) -> dict[str, str | int]:
        return {"modulations": "; ".join(MODULATIONS)}

    def name_of(self, task_id: int) -> str:
        channel = self._channels[task_id]
        low, high = (f"{level:g}".replace("-", "−") for level in channel.snr)
        said = [f"{low} dB" if low == high else f"{low} to {high} dB"]
        said += [f"offset {channel.offset:g}"] * (channel.offset > 0) + [f"{channel.taps} taps"] * (channel.taps > 1)
        return ", ".join(said)

    def _check(self, place: int, channel: Channel) -> None:
        low, high = channel.snr
        if low > high:
            raise UsageError(
                f"stream.environments: the SNR of environment {place} goes from {low:g} to {high:g} dB; the least comes first"
            )
        if self.samples < channel.taps:
            raise UsageError(
                f"stream.samples: a frame of {self.samples} samples is shorter than the {channel.taps} taps of environment "
                f"{place}; allowed are {channel.taps} or more"
            )

    def _drawn(self, task: int, frames: int, purpose: str, step: int) -> Data:
        draw = rng.arrays(self.seed, "frames", purpose, self._kinds[task], step)
        x, y = drawn_frames(self._channels[task], frames, self.samples, draw)
        return Data(torch.from_numpy(x).to(self.device), torch.from_numpy(y.astype(np.int64)).to(self.device))
