"""What the heads of new tasks begin with: the same weights for all, or weights drawn for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment

TINY = Path(__file__).parent / "tiny.toml"


def heads(seeds: tuple[int, ...], strategy: str = "finetune", **options: Any) -> torch.Tensor:
    """Return the heads ``[S, T, O, width]`` that three tasks begin with."""
    experiment = Experiment.of(TINY, strategy, seeds, **options)
    learner: Any = experiment.build_strategy(experiment.stream())
    learner.state = learner.start()
    each = torch.stack([learner.shared.params(task)["head.weight"] for task in range(3)], dim=1)
    assert torch.equal(each, learner.shared.of_tasks(torch.arange(3))["heads"][..., :-1])
    return each


def test_heads_are_alike_or_drawn_for_each_task_by_its_seed():
    alike, drawn = heads((0, 7)), heads((0, 7), **{"train.task_heads": "drawn"})
    assert torch.equal(alike[:, 0], alike[:, 2])
    assert not torch.equal(drawn[:, 0], drawn[:, 2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[1:], heads((7,), **{"train.task_heads": "drawn"}))
    torch.testing.assert_close(drawn.std(), alike.std(), rtol=0.2, atol=0)


def test_gdumb_begins_with_the_same_heads_every_time():
    assert torch.equal(*(heads((0,), "gdumb", **{"train.task_heads": "drawn"}) for _ in range(2)))


def test_experiments_from_before_there_was_the_option_stay_the_same():
    found = [Experiment.of(TINY, "finetune", **own) for own in ({}, {"train.task_heads": "alike"})]
    assert found[0].hash == found[1].hash
    assert found[0].hash != Experiment.of(TINY, "finetune", **{"train.task_heads": "drawn"}).hash


@pytest.mark.parametrize(
    ("strategy", "setting", "said"),
    [
        ("piggyback", "task", "the strategy 'piggyback' has no net that all tasks share"),
        ("finetune", "class", "where the task is not told, tasks have no heads of their own"),
    ],
)
def test_it_is_refused_where_tasks_have_no_such_heads(strategy: str, setting: str, said: str):
    experiment = Experiment.of(TINY, strategy, **{"train.task_heads": "drawn", "stream.setting": setting})
    with pytest.raises(UsageError, match=f"train.task_heads: {said}; leave it out"):
        experiment.build_strategy(experiment.stream())
