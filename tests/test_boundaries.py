"""Streams without boundaries: learners are told neither the task nor that it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from cl_engine.runs import plugins
from cl_engine.strategies.finetune import Finetune

OPTIONS: dict[str, Any] = {
    "stream.n": 3,
    "stream.setting": "domain",
    "stream.samples_per_class": 4,
    "stream.test_samples_per_class": 2,
    "stream.boundaries": False,
    "train.epochs": 2,
    "train.batch": 8,
    "net.hidden": [16],
}
PIECES = {
    "stream.pieces": 10,
    "stream.stretch": 2,
    "train.keep_optimizer": True,
    "train.epochs": 1,
    "agenda.online": True,
}
NEEDLESS = [name for name in plugins.names("strategies") if not plugins.load("strategies", name).needs_boundaries]


def experiment(strategy: str | type = "finetune", **options: Any) -> Experiment:
    return Experiment.of("permuted_digits", strategy, **{**OPTIONS, **options})


def finished(folder: Path, *args: Any, **options: Any) -> Run:
    experiment(*args, **options).run(folder)
    return open_run(folder)


class Told(Finetune):
    """Fine-tuning that notes what it is told."""

    seen: ClassVar[list[tuple[int, int]]] = []

    def learn(self, experience: Experience) -> Any:
        self.seen.append((experience.task_id, len(experience.train)))
        yield from super().learn(experience)


def test_the_learner_is_told_of_one_task_and_the_log_of_all(tmp_path: Path):
    Told.seen.clear()
    run = finished(tmp_path / "run", f"{__name__}:Told")
    assert {task for task, _ in Told.seen} == {0}
    assert len(Told.seen) == 3

    assert sorted(set(run.table("epochs")["task"].values.tolist())) == [0, 1, 2]


@pytest.mark.parametrize("options", [{}, PIECES], ids=["whole", "pieces"])
def test_who_takes_no_notice_of_tasks_learns_the_same_as_with_boundaries(tmp_path: Path, options: dict[str, Any]):
    found = [
        finished(tmp_path / str(told), "replay", samples=20, **{**options, "stream.boundaries": told})
        .results["score"]
        .values
        for told in (True, False)
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", NEEDLESS)
def test_strategies_that_need_no_boundaries_run_without(name: str, tmp_path: Path):
    small = {"projection": 32} if name == "ranpac" else {}
    run = finished(tmp_path / "run", name, **small, **PIECES)
    assert run.status == "finished"
    assert np.isfinite(run.results["score"].values[-1]).all()


@pytest.mark.parametrize(
    ("strategy", "options", "words"),
    [
        ("ewc", {}, "the strategy 'ewc' needs that"),
        ("joint", {}, "the strategy 'joint' needs that"),
        ("finetune", {"stream.setting": "task"}, "use domain or class"),
        ("finetune", {"train.reset_head": "zero"}, "train.reset_head = 'zero' begins anew with each"),
        (
            "finetune",
            {**PIECES, "train.keep_optimizer": False, "train.optimizer": "adam"},
            "set train.keep_optimizer = true",
        ),
        ("finetune", {"stream.unlabelled": [1]}, "stream.unlabelled names tasks"),
    ],
)
def test_what_needs_tasks_is_refused_in_a_sentence(tmp_path: Path, strategy: str, options: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        experiment(strategy, **options).run(tmp_path / "run")
