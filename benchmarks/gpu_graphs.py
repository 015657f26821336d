"""Steps recorded on a GPU and replayed, strategy by strategy, held to steps that are launched."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu_needs import PRETEND
from benchmarks.shaped import answers, reason, short
from cl_engine.core import gpu
from cl_engine.runs import plugins
from cl_engine.runs.determinism import float32_products
from cl_engine.training import cuda_graphs


class Said(logging.Handler):
    """What the engine says of steps that are not replayed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


def recorded(until: float) -> Iterator[tuple[str, str]]:
    """Every strategy with its steps recorded and replayed: the answers of launched ones within rounding, or why not."""
    if PRETEND:
        yield "strategies replayed as launched", "skipped: a GPU that is none records no graphs"
        return
    own, least, said, counted = cuda_graphs.recorded, cuda_graphs.LEAST, Said(), list[torch.device]()

    def noted(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
        replay = own(step, device)
        counted.append(device)
        return replay

    cuda_graphs.recorded, cuda_graphs.LEAST = noted, 1
    logging.getLogger("cl_engine").addHandler(said)
    alike, others, left_out = 0, [], []
    try:
        for name in plugins.names("strategies"):
            if time.perf_counter() > until:
                left_out.append(name)
                continue
            said.told.clear()
            counted.clear()
            cuda_graphs._SAID.clear()
            try:
                gap = _gap(name)
                why = [f"{gap:.1e} from launched"] * (gap > 1e-2) + said.told + ["no step recorded"] * (not counted)
            except Exception as error:  # told, and the others are looked at
                why = [reason(error)]
            alike += not why
            others += [f"{name}: {'; '.join(why)}"] * bool(why)
    finally:
        cuda_graphs.recorded, cuda_graphs.LEAST = own, least
        logging.getLogger("cl_engine").removeHandler(said)
        os.environ.pop(cuda_graphs.SWITCH, None)
    yield "strategies replayed as launched", str(alike)
    yield "strategies that were not, or in part", " | ".join(others) or "none"
    yield "strategies not recorded for want of time", ", ".join(left_out) or "none"


def _gap(name: str) -> float:
    """Return how far the answers of a run of replayed steps are from those of launched ones."""
    experiment, found = short(name, **{"train.epochs": 3, "train.batch": 7}), []
    with float32_products():
        for asked in ("0", "1"):
            os.environ[cuda_graphs.SWITCH] = asked
            found.append(answers(experiment, gpu.KIND))
    return max(float((a - b).abs().max() / (1 + a.abs().max())) for a, b in zip(*found, strict=True))
