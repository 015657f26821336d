"""What the tests share: a tiny scenario, the plug-ins found by folder, and reading logs without their times."""

from __future__ import annotations

import gc
import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_engine.data.source import Arrays
from cl_engine.data.stream import Setting
from cl_engine.experiment import Experiment
from cl_engine.loggers import recorder
from cl_engine.runs import plugins

TINY = Path(__file__).parent / "tiny.toml"
SETTINGS: tuple[Setting, ...] = ("task", "domain", "class")
STRATEGIES = plugins.names("strategies")
STRATEGIES_IN_SETTINGS = [
    (name, setting) for name in STRATEGIES for setting in plugins.load("strategies", name).settings
]

# tiny nets gain nothing from more threads, and tests, and the processes they start, run beside each other
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# a tiny run waits for the disk six times, and nothing here need outlive a power cut
os.fsync = lambda file: None
# ten thousand tests are a million objects that stay: none is looked at while they are made, nor whenever garbage is collected
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again, among what tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def tiny() -> Callable[..., Experiment]:
    """Return a function that makes the tiny experiment of a strategy, with changes."""

    def make(strategy: str, seeds: tuple[int, ...] = (0, 1), **overrides: Any) -> Experiment:
        needs = strategy in STRATEGIES and plugins.load("strategies", strategy).needs_validation
        return Experiment.of(TINY, strategy, seeds, **{**({"stream.validation": 0.25} if needs else {}), **overrides})

    return make


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages have empty pictures, where a test is about their texts: drawing takes nearly all of the time."""
    monkeypatch.setattr("cl_engine.analysis.report.document.inline", lambda fig, title, letters: "<svg></svg>")


@dataclass(frozen=True)
class Given:
    """Sources that a function gives."""

    load: Callable[[str], Arrays]
    root: Path = Path("nowhere")

    def plugin(self, kind: str, name: str) -> type[Any]:
        return plugins.load(kind, name)  # type: ignore[arg-type]


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let every fit of several seeds that run in turn fork two processes with a thread each; return their numbers."""
    forked: list[int] = []
    fork = os.fork

    def noted() -> int:
        forked.append(fork())
        return forked[-1]

    monkeypatch.setattr(os, "fork", noted)
    monkeypatch.setattr("cl_engine.training.workers.FORK_FROM", 0)
    torch.set_num_threads(2)
    yield forked
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return where the real data sets are, or skip."""
    root = Path(os.environ.get("CL_DATA_ROOT", "/nowhere"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(
            "needs MNIST, Fashion-MNIST and CIFAR-10: get them with `python run.py fetch mnist --data-root DIR` "
            "(and fashion_mnist, cifar10) and set CL_DATA_ROOT=DIR"
        )
    return root


def old_log(version: str, folder: Path) -> Path:
    """Put the archived log of a format version into a folder, as a run's, and return its path."""
    packed = Path(__file__).parent / "logs" / f"format-{version}.h5.gz"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "log.h5"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


def published_always(patch: pytest.MonkeyPatch) -> None:
    """Let logs be published at every save."""
    patch.setattr(recorder, "PUBLISHED", 1e9)
    patch.setattr(recorder, "AT_MOST", 1e9)
