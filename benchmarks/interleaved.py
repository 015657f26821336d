"""Contestants timed in turn, round by round, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Times = dict[str, list[float]]


def timed(contestants: Mapping[str, Callable[[], object]], rounds: int = 9, warm_up: bool = True) -> Times:
    """Return the seconds of each contestant in each round; with ``warm_up`` after one round that is not counted."""
    found: Times = {name: [] for name in contestants}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, contestant in contestants.items():
            began = time.perf_counter()
            contestant()
            if number:
                found[name].append(time.perf_counter() - began)
    return found


def table(title: str, times: Times, steps: int, against: str) -> list[str]:
    """Return lines: milliseconds a step and the ratio to one contestant, medians of rounds with their quartiles."""
    lines = [title, f"{'':<38}{'ms a step':>12}{'times ' + against:>30}{'quartiles':>18}"]
    for name, seconds in times.items():
        ratios = [own / base for own, base in zip(seconds, times[against], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 2 else (min(ratios), 0, max(ratios))
        step = statistics.median(seconds) / steps * 1e3
        lines.append(f"{name:<38}{step:>12.3f}{statistics.median(ratios):>30.2f}{low:>10.2f} – {high:.2f}")
    return lines


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    model = next((line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": os.getloadavg()[0],
    }


def saved(name: str, content: Mapping[str, Any]) -> Path:
    """Write what was measured, with the machine, as JSON beside the other outputs."""
    path = Path(__file__).parent / "output" / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **content}, indent=1) + "\n")
    return path


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
