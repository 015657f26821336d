"""One strategy of Avalanche at work for one seed: made, restored, trained as a generator, asked for answers."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.rng import derive
from cl_engine.data.stream import Data
from cl_engine.interop.callbacks import AnswerCallbacks, EpochDone, ProbePoint, TrainingCallbacks, TrainingProgress
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.randomness import Randomness, seeded
from cl_engine.interop.recipe import Recipe
from cl_engine.interop.restoring import put
from cl_engine.interop.snapshot import Snapshot
from cl_engine.interop.tensor_benchmark import Rows, TensorBenchmark
from cl_engine.interop.threaded_generator import ThreadedGenerator
from cl_engine.training.fit_job import Curve

UNSEEN = -1e9  # the logit of a class that an answer has no place for
Message = TrainingProgress | EpochDone | ProbePoint


def restored(recipe: Recipe, seed: int, snapshot: Snapshot | None) -> tuple[Any, list[str]]:
    """Return a strategy as it was when the snapshot was taken, and what of it could not be restored."""
    strategy = recipe.made(seed)
    with quietly():
        return strategy, put(strategy, snapshot) if snapshot is not None else []


def is_joint(strategy: Any) -> bool:
    """Return whether the strategy trains once, on all experiences together."""
    return hasattr(strategy, "_is_fitted") and hasattr(strategy, "_experiences")


def trained(
    strategy: Any, benchmark: TensorBenchmark, steps: list[int], number: int, curve: Curve
) -> Generator[Message, None, None]:
    """Train on experiences of the benchmark, telling how it goes; to stop, stop reading.

    ``number`` seeds the global generators, which are swapped with their own whenever the reader has its turn.
    """
    own = Randomness(number, strategy.device)

    def call(aside: ThreadedGenerator[Message]) -> None:
        def tell(message: Message) -> None:
            own.swap()
            try:
                aside.tell(message)
            finally:
                own.swap()

        strategy.plugins.append(TrainingCallbacks(tell, curve))
        own.swap()
        try:
            experiences = [benchmark.train_stream[step] for step in steps]
            strategy.train(experiences if len(steps) > 1 else experiences[0], eval_streams=[])
        finally:
            own.swap()
            strategy.plugins[:] = [plugin for plugin in strategy.plugins if not isinstance(plugin, TrainingCallbacks)]

    reader = ThreadedGenerator(call).read()
    try:
        while True:
            with quietly():  # not around the whole: several seeds are read in turn
                message = next(reader, None)
            if message is None:
                return
            yield message
    finally:
        reader.close()


def answered(strategy: Any, x: Tensor, task_label: int, classes: list[int], outputs: int, seed: int) -> Tensor:
    """Return the strategy's answers ``[N, outputs]`` to inputs of a task, by its own evaluation loop.

    A head that does not exist yet is made as Avalanche would make it, from the seed and the task alone.
    """
    size, spy = strategy.eval_mb_size, AnswerCallbacks()
    label = classes[0]

    def batches(**more: Any) -> None:
        y = torch.full((len(x),), label, dtype=torch.int64, device=x.device)
        t = torch.full_like(y, task_label)
        parts = zip(x.split(size), y.split(size), t.split(size), strict=True)
        strategy.dataloader = [list(part) for part in parts]

    few = Data(x[:1], torch.tensor([label]))
    experience = TensorBenchmark(Rows(lambda index: few, [task_label], [classes])).train_stream[0]
    if is_joint(strategy):
        strategy._experiences = [experience]  # it adapts its model to these
    strategy.make_eval_dataloader = batches
    strategy.plugins.append(spy)
    criterion, strategy._criterion = strategy._criterion, lambda *more: torch.zeros(1)  # no loss: labels are not told
    try:
        with quietly(), seeded(seed, derive(seed, "untrained", task_label), device=strategy.device):
            strategy.eval(experience)
    finally:
        strategy.plugins.remove(spy)
        strategy._criterion = criterion
        del strategy.make_eval_dataloader
    logits = torch.cat(spy.answers).nan_to_num(nan=UNSEEN)  # as nearest-mean classifiers give for features of zero
    if logits.shape[1] < outputs:
        rest = logits.new_full((len(logits), outputs - logits.shape[1]), UNSEEN)
        logits = torch.cat([logits, rest], dim=1)
    return logits[:, :outputs]
