"""Mistakes that a first stream of one's own is written with: a sentence answers each before anything is learned from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.core import rng
from cl_engine.data.own_streams import fault_of_experience, is_own
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import RunFailed, UsageError
from cl_engine.experiment import Experiment as Run
from cl_engine.results.run import open_run
from cl_engine.runs.scenario import Scenario
from cl_engine.streams.permuted import Permuted
from cl_engine.testing.small import images

NET = '[net]\nname = "mlp"\nhidden = [4]\n[train]\nepochs = 1\nbatch = 10\n'
Rows = tuple[torch.Tensor, torch.Tensor]


class Clouds(Stream):
    """Two clouds of points a task."""

    wrong_from: int = 0  # the step from which on rows are as `spoilt` makes them

    def __init__(self, device: Any = "cpu", **options: Any) -> None:
        self.configure(options, "stream")
        self.device = torch.device(device)
        self.n_tasks = self.n_steps = self.n
        self.input_shape, self.outputs, self.mean, self.std = (2,), 2, (0.0,), (1.0,)

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step

    def __getitem__(self, step: int) -> Experience:
        task = self.task_id(step)
        return Experience(step, task, self.rows(task, "train", 20), self.rows(task, "none", 0), classes=2)

    def test(self, task_id: int) -> Data:
        return self.rows(task_id, "test", 10)

    def rows(self, task: int, half: str, count: int) -> Data:
        x, y = rng.tensors(self.seed, half, task), torch.arange(count) % 2
        rows = torch.randn(count, 2, generator=x) + y[:, None], y
        wrong = task >= self.wrong_from and half == self.spoils
        return Data(*(self.spoilt(*rows) if wrong else rows))

    spoils = "train"

    def spoilt(self, x: torch.Tensor, y: torch.Tensor) -> Rows:
        return x, y


class Beyond(Clouds):
    def spoilt(self, x: torch.Tensor, y: torch.Tensor) -> Rows:
        return x, y + 4


class BeyondInTests(Beyond):
    spoils = "test"


class Floats(Clouds):
    def spoilt(self, x: torch.Tensor, y: torch.Tensor) -> Rows:
        return x, y.float()


class Ints(Clouds):
    def spoilt(self, x: torch.Tensor, y: torch.Tensor) -> Rows:
        return x, y.int()


class Fewer(Clouds):
    def spoilt(self, x: torch.Tensor, y: torch.Tensor) -> Rows:
        return x[:-3], y


class Wide(Clouds):
    def spoilt(self, x: torch.Tensor, y: torch.Tensor) -> Rows:
        return torch.cat([x, x], dim=1), y


class Doubles(Clouds):
    def spoilt(self, x: torch.Tensor, y: torch.Tensor) -> Rows:
        return x.double(), y


class Arrays(Clouds):
    def spoilt(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return x.numpy(), y.numpy()


class Pair(Clouds):
    def test(self, task_id: int) -> Any:
        rows = super().test(task_id)
        return rows.x, rows.y


class NoMean(Clouds):
    def __init__(self, device: Any = "cpu", **options: Any) -> None:
        super().__init__(device, **options)
        del self.mean, self.n_steps


class ReadsWhatIsNotThere(Clouds):
    def __getitem__(self, step: int) -> Experience:
        return self.experiences[step]  # type: ignore[attr-defined,no-any-return]


class Closed(Clouds):
    def __init__(self) -> None:
        super().__init__()


class NoTest(Stream):
    def task_id(self, step: int) -> int:
        return step

    def __getitem__(self, step: int) -> Experience:
        raise IndexError


def scenario(folder: Path, name: str, n: int = 2) -> Path:
    file = folder / "own.toml"
    file.write_text(f'[stream]\nname = "{__name__}:{name}"\nn = {n}\nwrong_from = 0\n{NET}')
    return file


def run(folder: Path, stream: str, **options: Any) -> Path:
    return Run.of(Scenario.load(scenario(folder, stream)), "finetune", (0,), **options).run(folder / "run")


SAID = {
    "Beyond": r"stream Beyond: stream\[0\] \(task 0\), training rows: labels: one of them is 4; allowed are 0 to 1",
    "BeyondInTests": r"stream BeyondInTests: test\(0\): labels: one of them is 4; allowed are 0 to 1",
    "Floats": r"stream\[0\] .*: labels: they are float32 of shape \(20,\); the number of a class a row is allowed",
    "Ints": r"stream\[0\] .*: labels are torch.int32; torch.int64 is expected",
    "Fewer": r"stream\[0\] .*: x has shape \(17, 2\) and y \(20,\); as many labels as inputs are expected",
    "Wide": r"stream\[0\] .*: inputs have shape \(4,\); that of input_shape is expected, \(2,\)",
    "Doubles": r"stream\[0\] .*: inputs are torch.float64; torch.float32 is expected, or torch.uint8",
    "Arrays": r"stream\[0\] .*: x is a numpy.ndarray; a tensor is expected, as torch.from_numpy makes one",
    "Pair": r"stream Pair: test\(0\): found a tuple; a Data is expected",
    "NoMean": r"stream NoMean: it does not set self.n_steps, self.mean: its __init__ sets n_tasks, n_steps, input_shape, ",
    "ReadsWhatIsNotThere": r"stream ReadsWhatIsNotThere: stream\[0\] raised AttributeError: .* no attribute 'experiences'",
    "Closed": r"Closed.__init__ is written as __init__\(self\); the engine calls it as "
    r"__init__\(self, device=…, \*\*options\): leave it out, or write it so",
    "NoTest": r"the stream '.*:NoTest': NoTest lacks the method test\(self, task_id\), which must be written",
}


@pytest.mark.parametrize("stream", SAID)
def test_a_mistake_in_a_stream_is_said_in_a_sentence_before_the_first_step(stream: str, tmp_path: Path):
    with pytest.raises(UsageError, match=SAID[stream]):
        run(tmp_path, stream)
    assert not (tmp_path / "run").exists()


def test_the_command_line_refuses_such_a_stream_with_exit_code_2(tmp_path: Path):
    typed = ["check", str(scenario(tmp_path, "Beyond")), "-s", "finetune"]
    done = CliRunner().invoke(main, typed)
    assert (done.exit_code, done.output.count("\n")) == (2, 1) and re.search(SAID["Beyond"], done.output)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ("Beyond", r"stream Beyond: stream\[1\] \(task 1\), training rows: labels: one of them is 4"),
        ("BeyondInTests", r"stream BeyondInTests: test\(1\): labels: one of them is 4"),
    ],
)
def test_a_mistake_that_comes_later_ends_the_run_where_it_is_met(stream: str, said: str, tmp_path: Path):
    with pytest.raises(RunFailed, match=said):
        run(tmp_path, stream, **{"stream.wrong_from": 1})
    assert open_run(tmp_path / "run").status == "failed"


def test_labels_that_are_withheld_are_not_asked_about(tmp_path: Path):
    stream = Clouds(n=2, unlabelled=[0])
    assert not fault_of_experience(stream, 0, stream.arrival(0))
    assert not fault_of_experience(stream, 1, stream.arrival(1))


def test_the_engines_own_streams_are_taken_at_their_word():
    assert is_own(Clouds(n=2)) and not is_own(Permuted(images(), source="given", n=2))
