"""Strategies that fail, die and take their time: what sweeps must live with."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from cl_engine.errors import RunFailed
from cl_engine.options import option
from cl_engine.strategies.finetune import Finetune


class Troubled(Finetune):
    """Fine-tuning that keeps a list of what it has learned, and meets with trouble at an experience of its choice."""

    trace: str = option(..., "a file: a line for each experience begun")
    at: int = option(1, "the experience at which there is trouble")
    times: int = option(1, "how often there is trouble, over all attempts")
    only: float = option(0.0, "the learning rate at which there is trouble; 0: any")
    trouble: str = option("none", "none, kill, stop, error, failed, slow")

    def learn(self, experience):
        path = Path(self.trace)
        with path.open("a") as file:
            file.write(f"{os.getpid()} {self.seeds} {self.train.lr} {experience.step}\n")
        met = path.with_suffix(f".{self.train.lr}.{self.trouble}")
        count = len(met.read_text()) if met.exists() else 0
        print(f"learning {experience.step}")
        meant = not self.only or self.train.lr == self.only
        if experience.step == self.at and count < self.times and meant:
            met.write_text("x" * (count + 1))
            if self.trouble == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "stop":
                os.kill(os.getpid(), signal.SIGTERM)
            if self.trouble == "error":
                raise ValueError("no\x1b[31m good")
            if self.trouble == "failed":
                raise RunFailed("as planned")
        if self.trouble == "slow":
            time.sleep(0.3)
        yield from super().learn(experience)
