"""What a run has learned, to be asked: answers for any rows, a module of each task, its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.torch_defaults import torch_defaults
from cl_engine.errors import UsageError
from cl_engine.learners.saved_strategy import SavedStrategy, saved_strategy
from cl_engine.learners.saving import save, weights_of
from cl_engine.nn.target import Target
from cl_engine.nn.task_module import TaskModule
from cl_engine.results.run import Run, open_run


def load(run: Run | str | Path, data_root: str | Path | None = None, device: str = "cpu") -> Learner:
    """Return what a run, finished or stopped, had learned when it was saved last.

    Args:
        run: its folder, its log, or the log as `cl_engine.results.open_run` opens it.
        data_root: where its data are; left out: ``$CL_DATA_ROOT``.
        device: ``cpu``, ``cuda``, ``cuda:n``, or ``auto``.

    Raises:
        UsageError: if nothing was saved, or data or plug-ins of the run are not there.
    """
    found = run if isinstance(run, Run) else open_run(run)
    return Learner(found, saved_strategy(found, data_root, device))


class Learner:
    """Answers as a run's strategy does, and hands out what it answers with.

    Rows are given as the stream gives them: of its shape and in its units, whole numbers as they are stored. All that comes
    before the net (mean and deviation, a task's mask or code) is applied here. ``task`` is needed where the task is told and
    there are several; ``seed`` is one of `seeds`, left out the run's first.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> learner = load(Experiment.of(small.scenario(), "piggyback").run(Path("run"), device="cpu"))
    >>> learner.tasks, learner.seeds, learner.input_shape
    ((0, 1, 2), (0,), (1, 8, 8))
    >>> learner.predict(np.zeros((5, 1, 8, 8)), task=1).shape
    (5,)
    >>> [type(part).__name__ for part in learner.module(1).answering][:3]
    ['Flatten', 'Linear', 'ReLU']

    Attributes:
        run: the log.
        strategy, stream: the strategy as it was saved last, and what it has learned from.
        tasks: the tasks it had learned then.
        seeds: the seeds that learned side by side and were not ended early.
        setting: ``task``: the task is told, ``domain`` or ``class``: it is not, and plays no part in an answer.
        input_shape: shape of an input, the axis of rows not counted.
    """

    def __init__(self, run: Run, saved: SavedStrategy) -> None:
        """Ask a saved strategy; `load` makes one from a run."""
        self.run, self.strategy, self.stream, self.tasks = run, saved.strategy, saved.stream, saved.tasks
        self.setting, self.input_shape = saved.stream.setting, tuple(saved.stream.input_shape)
        self.seeds = tuple(seed for place, seed in enumerate(saved.strategy.seeds) if place not in saved.stopped)

    def __repr__(self) -> str:
        tasks = f"{len(self.tasks)} task{'s' * (len(self.tasks) != 1)}"
        return (
            f"<Learner: {self.run.strategy} on {self.run.scenario}, {tasks}, seeds {', '.join(map(str, self.seeds))}>"
        )

    def target(self, task: int | None = None) -> Target:
        """Return what a task asks for."""
        return self.strategy.target_of(self.task_named(task))

    def classes(self, task: int | None = None, seed: int | None = None) -> tuple[int, ...]:
        """Return the class of the data that each answer of a task stands for, in order; of streams that do not say, 0, 1, …

        Empty where the task does not ask for classes. Where each seed has tasks of its own, it matters which is asked about.

        Raises:
            UsageError: if there is no such task or seed.
        """
        task, place = self.task_named(task), self.place_of(seed)
        target = self.strategy.target_of(task)
        if target.name() != "classes":
            return ()
        return tuple(range(target.outputs)) if self.setting == "class" else self.stream.classes_of_task(task, place)

    @torch_defaults()
    def outputs(self, x: Any, task: int | None = None, seed: int | None = None) -> Tensor:
        """Return the outputs of the net ``[N, O]`` for rows ``[N, …]``, or ``[N, O, h, w]`` where its head is read at places.

        Raises:
            UsageError: if rows have another shape than the run's, or there is no such task or seed.
        """
        place, told, rows = self.place_of(seed), self._told(task), self.rows(x)
        with torch.inference_mode():
            found = self.strategy.predict(rows, told)[place]
        return found.clone()

    def predict(self, x: Any, task: int | None = None, seed: int | None = None) -> np.ndarray:
        """Return the answers for rows ``[N, …]`` in the form of the task's labels: of classes, their numbers ``[N]``.

        Which class of the data a number is, `classes` says. Answers at places are of the size of the net's maps.

        Raises:
            UsageError: as for `outputs`.
        """
        found = self.strategy.target_of(self.task_named(task)).answers(self.outputs(x, task, seed))
        return np.asarray(found.cpu().numpy())

    @torch_defaults()
    def module(self, task: int | None = None, seed: int | None = None) -> TaskModule:
        """Return a plain ``nn.Module`` in evaluation mode that gives what `outputs` gives, and needs nothing of the run.

        Its part ``answering`` is the scenario's own module wherever one net answers, with the weights of the task in it.

        Raises:
            UsageError: if there is no such task or seed.
        """
        return self.strategy.module(self._told(task), self.place_of(seed))

    def state_dict(self, task: int | None = None, seed: int | None = None) -> dict[str, Tensor]:
        """Return the weights that a task is answered with, by the names of the scenario's module wherever one net answers.

        Raises:
            UsageError: if there is no such task or seed, or rows decide which weights answer them.
        """
        return weights_of(self.module(task, seed), self.run.strategy)

    def save(self, file: str | Path, task: int | None = None, seed: int | None = None) -> Path:
        """Write the module of a task: weights (``.safetensors``), or a program with the scaling in it (``.pt2``, ``.onnx``).

        Raises:
            UsageError: if the file's ending is another, a package is missing, or the module cannot be written so.
        """
        save(path := Path(file), self.module(task, seed), self.example(task), self.about(task, seed))
        return path

    def about(self, task: int | None = None, seed: int | None = None) -> dict[str, str]:
        """Return what a file says of where its weights are from, and of what they take and give; what is no text is JSON."""
        named, scaling = self.task_named(task), self.strategy.net.scaling
        facts: dict[str, Any] = {
            "strategy": self.run.strategy,
            "scenario": self.run.scenario,
            "run_id": self.run.attributes.get("run_id", ""),
            "task": named,
            "seed": self.strategy.seeds[self.place_of(seed)],
            "setting": self.setting,
            "input_shape": list(self.input_shape),
            "mean": scaling.mean.flatten().tolist(),
            "std": scaling.std.flatten().tolist(),
            "target": json.loads(self.target(named).key),
            "classes": list(self.classes(named, seed)),
            "net": self.run.experiment["options"]["net"],
        }
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}

    def example(self, task: int | None = None) -> Tensor:
        """Return two test rows of a task as the stream gives them."""
        x = self.stream.test(self.task_named(task)).x
        return x[:2] if len(x) > 1 else x[[0, 0]]

    def rows(self, x: Any) -> Tensor:
        """Return rows as a tensor of the run's shape, on its device; a `UsageError` if they cannot be."""
        try:
            found = x if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x))
        except (TypeError, ValueError) as error:
            raise UsageError(f"x is no array of numbers: {error}") from None
        if self.input_shape[0] == 1 and tuple(found.shape[1:]) == self.input_shape[1:] and found.ndim > 1:
            found = found.unsqueeze(1)  # images of one channel, whose axis is often left out
        if tuple(found.shape[1:]) != self.input_shape or found.ndim == 0:
            wanted = ", ".join(map(str, self.input_shape))
            raise UsageError(f"x has the shape {tuple(found.shape)}; rows of this run are [N, {wanted}]")
        if found.is_complex():
            raise UsageError("x holds complex numbers; real ones are wanted")
        if self.stream.vocabulary is not None:
            if found.is_floating_point():
                raise UsageError(f"x holds {found.dtype}; inputs of this run are whole numbers, the tokens")
            found = found.to(torch.int64)
        elif found.is_floating_point():
            found = found.to(torch.float32)
        elif found.dtype == torch.bool:
            found = found.to(torch.uint8)
        return found.to(self.stream.device)

    def task_named(self, task: int | None) -> int:
        """Return the task that is meant; left out, the only one there is, or, where it is not told, the last."""
        if not self.tasks:
            raise UsageError(f"{self.run.path}: nothing had been learned when it was saved last")
        if task is None:
            if self.setting == "task" and len(self.tasks) > 1:
                raise UsageError(
                    f"the task is told at test time, and none was named: task is one of {_range(self.tasks)}"
                )
            return self.tasks[-1]
        if task not in self.tasks:
            raise UsageError(f"task {task}: this run had learned {_range(self.tasks)} when it was saved last")
        return int(task)

    def place_of(self, seed: int | None) -> int:
        """Return the place of a seed among those of the strategy."""
        if seed is not None and seed not in self.seeds:
            raise UsageError(f"seed {seed}: this run has the seeds {', '.join(map(str, self.seeds))}")
        return self.strategy.seeds.index(self.seeds[0] if seed is None else seed)

    def _told(self, task: int | None) -> int | None:
        named = self.task_named(task)
        return named if self.setting == "task" else None


def _range(tasks: tuple[int, ...]) -> str:
    whole = tasks == tuple(range(tasks[0], tasks[-1] + 1))
    return f"{tasks[0]} to {tasks[-1]}" if whole and len(tasks) > 2 else ", ".join(map(str, tasks))
