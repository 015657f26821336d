"""What users bring along: benchmarks, a strategy and plug-ins in Avalanche's words, over scikit-learn's digits."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset
from torchvision import transforms

from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.randomness import seeded
from cl_engine.interop.rows import dataset_of

with quietly():
    from avalanche.benchmarks import (
        CLScenario,
        benchmark_from_datasets,
        nc_benchmark,
        ni_benchmark,
        split_continuous_linear_decay_stream,
        split_online_stream,
    )
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.core import SupervisedPlugin
    from avalanche.training.supervised import Naive

CALLED: list[str] = []
GIVEN: list[Any] = []


class Labelled(TensorDataset):
    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        super().__init__(x, y)
        self.targets = y.tolist()


class Pictures(Labelled):
    """Digits as PIL images."""

    def __init__(self, rows: slice) -> None:
        super().__init__(*digits(rows).tensors)

    def __getitem__(self, index: Any) -> Any:
        x, y = super().__getitem__(index)
        return transforms.functional.to_pil_image(x), y


def digits(rows: slice) -> Labelled:
    found = load_digits()
    x = torch.tensor(found.images[rows], dtype=torch.float32).unsqueeze(1) / 16
    return Labelled(x, torch.tensor(found.target[rows], dtype=torch.int64))


def split_digits(n_experiences: int = 5, task_labels: bool = False, seed: int = 0, **more: Any) -> Any:
    """Return ten classes dealt out over experiences."""
    halves = digits(slice(0, 300)), digits(slice(300, 500))
    with quietly(), seeded(0):
        return nc_benchmark(*halves, n_experiences, task_labels=task_labels, seed=seed, **more)


def noisy_digits() -> Any:
    """Return a benchmark whose training transformation is random, and whose other one doubles the inputs."""

    def noise(x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)

    return split_digits(train_transform=noise, eval_transform=lambda x: 2 * x)


def pictured_digits(usual: list[Any], plain: list[Any]) -> Any:
    """Return digits as pictures, shown in training through all transformations, in evaluation through the plain ones."""

    halves = Pictures(slice(0, 100)), Pictures(slice(100, 200))
    with quietly(), seeded(0):
        return nc_benchmark(
            *halves,
            5,
            task_labels=False,
            train_transform=transforms.Compose([*usual, *plain]),
            eval_transform=transforms.Compose(plain),
        )


def shared_digits() -> Any:
    """Return experiences that share some classes and carry no task labels."""
    return of_parts([(0, (0, 1)), (0, (1, 2))])


def repeated_digits() -> Any:
    """Return two tasks with labels of their own, the first of which comes back with one more class."""
    return of_parts([(3, (0, 1)), (7, (5, 6)), (3, (1, 2))], tests=[(3, (0, 1, 2)), (7, (5, 6))])


def mixed_digits() -> Any:
    """Return an experience with rows of two task labels."""
    data, t = digits(slice(0, 100)), torch.arange(100) % 2
    made = dataset_of(*data.tensors, t)
    with quietly():
        return benchmark_from_datasets(train=[made], test=[made])


def instances_of_digits() -> Any:
    """Return the same classes in every experience, and one test set for all."""
    with quietly(), seeded(0):
        return ni_benchmark(digits(slice(0, 300)), digits(slice(300, 500)), n_experiences=3, seed=0)


def online(whole: Any, size: int, **more: Any) -> Any:
    """Return the train stream of a benchmark in pieces."""
    with quietly(), seeded(0):
        return split_online_stream(whole.train_stream, experience_size=size, seed=0, **more)


def drifting(whole: Any, size: int, pieces: int) -> Any:
    """Return the train stream of a benchmark in so many pieces an experience, each mixed of neighbouring experiences."""
    with quietly(), seeded(0):
        found = split_continuous_linear_decay_stream(whole.train_stream, size, pieces, beta=4, shuffle=True)
        list(found)  # draws now, what it would draw when it is read
    return found


def scenario(streams: dict[str, Any]) -> Any:
    """Return a benchmark of streams under other names than their own."""
    made = CLScenario([])
    made._streams = streams
    return made


def two_roots(dataset_root_letters: str, dataset_root_digits: str) -> Any:
    GIVEN.append((dataset_root_letters, dataset_root_digits))
    return split_digits()


def no_seed(seed: int | None = None) -> Any:
    assert seed is None, "no seed, please"
    GIVEN.append(seed)
    return split_digits()


def always_odd(seed: int | None = None) -> Any:
    raise ValueError("no seed, please" if seed is not None else "nor none")


def of_parts(train: list[tuple[int, tuple[int, ...]]], tests: list[tuple[int, tuple[int, ...]]] | None = None) -> Any:
    def made(part: tuple[int, tuple[int, ...]]) -> Any:
        label, classes = part
        x, y = digits(slice(0, 200)).tensors
        chosen = torch.isin(y, torch.tensor(classes))
        return dataset_of(x[chosen], y[chosen], label)

    with quietly():
        return benchmark_from_datasets(train=[made(p) for p in train], test=[made(p) for p in tests or train])


def of_tensors(train: list[Any], test: list[Any] | None) -> Any:
    """Return a benchmark of experiences that are inputs and labels each; without ``test`` it has no test stream."""

    def made(halves: list[Any]) -> list[Any]:
        found = []
        for x, y in halves:
            data = TensorDataset(x, y)
            data.targets = y  # type: ignore[attr-defined]
            found.append(as_classification_dataset(data))
        return found

    with quietly():
        return benchmark_from_datasets(**{"train": made(train)} | ({} if test is None else {"test": made(test)}))


def not_a_benchmark() -> int:
    return 3


class Spy(SupervisedPlugin):
    """Writes down when it is called."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("before_", "after_")):
            CALLED.append(name)
        return super().__getattribute__(name)


class Mine(Naive):
    """A strategy of a user's own, with an option and something to remember."""

    def __init__(self, *, strength: float = 1.0, **named: Any) -> None:
        super().__init__(**named)
        self.strength, self.seen, self.anchor = strength, [], None

    def _after_training_exp(self, **named: Any) -> None:
        super()._after_training_exp(**named)
        self.seen.append(len(self.experience.dataset))
        self.anchor = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}


class Unsaveable(Naive):
    """A strategy that holds a generator between experiences."""

    def _after_training_exp(self, **named: Any) -> None:
        super()._after_training_exp(**named)
        self.endless = iter(range(10))
