"""The contract of a strategy on a GPU, or on one that is pretended (`cl_engine.testing.pretend_gpu`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch

from cl_engine.checkpoints.store import Store, saved
from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Event, Saved
from cl_engine.experiment import Experiment
from cl_engine.strategy import Strategy
from cl_engine.testing import pretend_gpu
from cl_engine.testing.answers import StrategyUnderTest
from cl_engine.testing.on_gpu import OnGpu
from cl_engine.testing.walking import answers

# two tasks; saved and tested in the middle of each
SHORT: dict[str, Any] = {
    **{"stream.n": 2, "agenda.save_every_epochs": 1},
    **{"agenda.evaluate_ahead": 0, "agenda.curve_batches": 0, "agenda.curve_epochs": 1},
}


class DevicesContract(OnGpu, StrategyUnderTest):
    """Holds a strategy to what is promised of it on a GPU; skipped where there is none: a part of `StrategyContract`.

    >>> issubclass(DevicesContract, StrategyUnderTest)
    True

    Attributes:
        steps_wait: whether steps may wait for a GPU: of a strategy whose next step depends, in Python, on what it has computed.
    """

    steps_wait: ClassVar[bool] = False

    def test_on_a_gpu_and_moved_between_it_and_the_cpu_it_learns_what_it_learns_on_the_cpu(
        self, setting: str, on_gpu: str, tmp_path: Path
    ) -> None:
        experiment = self.experiment(**{"stream.setting": setting, **SHORT})
        waited = pretend_gpu.SEEN.waits.copy()
        found = moved(experiment, on_gpu, tmp_path)
        new = pretend_gpu.SEEN.waits - waited
        waits = [f"{place} ({kind})" for place, kind, stepping in new if stepping and place]
        assert not waits or self.steps_wait, (
            f"a training step waits for the GPU: ask for no numbers in it, and copy none to it: {waits}"
        )
        for task, (there, here) in enumerate(zip(found, whole(experiment), strict=True)):
            why = f"what is learned on a GPU answers task {task} otherwise: "
            torch.testing.assert_close(there, here, rtol=1e-2, atol=1e-2, msg=why.__add__)


def whole(experiment: Experiment) -> list[torch.Tensor]:
    """Return the answers on all tasks after a run on the CPU."""
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    for _ in simulate(stream, strategy, plan(stream, experiment.agenda)):
        pass
    return answers_of(stream, strategy)


def moved(experiment: Experiment, other: str, folder: Path) -> list[torch.Tensor]:
    """Return the same after a run that goes on on the CPU in the middle of the second experience, and back again soon after.

    So the first is learned from a state that was made there, and the second ends from one that was read.
    """
    store = Store(folder / "state")
    here = experiment.stream()
    strategy = experiment.build_strategy(here)
    there = experiment.stream(other)
    twin = experiment.build_strategy(there)

    def events(stream: Stream, strategy: Strategy) -> Iterator[Event]:
        how: dict[str, Any] = {"save_to": store, "save_every_epochs": 1, **experiment.agenda.watched}
        return simulate(stream, strategy, plan(stream, experiment.agenda), resume=saved(store, stream.device), **how)

    for event in events(there, twin):
        if isinstance(event, Saved) and event.midway and event.step:
            break
    for event in events(here, strategy):
        if isinstance(event, Saved):
            break
    for _ in events(there, twin):
        pass
    found = store.load(here.device)
    assert found is not None
    strategy.state = found["strategy"]
    return answers_of(here, strategy)


def answers_of(stream: Stream, strategy: Strategy) -> list[torch.Tensor]:
    """Return the answers of a strategy for the test rows of all tasks."""
    return [answers(stream, strategy, task) for task in range(stream.n_tasks or 3)]
