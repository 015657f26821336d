"""Transfers between tasks: what a log keeps of them and gives back, and how readouts of frozen nets are probed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cl_engine import events
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.loggers.recorder import Recorder
from cl_engine.results.run import open_run
from cl_engine.results.transfers import compared_of, transfers_of
from tests.conftest import old_log

Tiny = Callable[..., Experiment]
ATTRIBUTES = {"strategy": "taxonomy", "scenario": "tiny", "run_id": "1"}


def transferred(step: int, task: int, sources: tuple[tuple[int, ...], ...], kind: str) -> events.Transferred:
    """Return an event whose losses tell which it is of, on as many rows as the task's number and two."""
    losses = np.arange(2 * (task + 2), dtype=np.float32).reshape(2, -1) + 100 * step + len(sources[0])
    return events.Transferred(
        step=step,
        task_id=task,
        sources=sources,
        kind=kind,
        labels=4,
        score=(0.5, 0.25),
        losses=losses,
        errors=losses % 2,
    )


def experience(step: int) -> list[events.Event]:
    """Return what is told of an experience: the way of its own, and from and to the task before."""
    probed = [transferred(step, step, ((), ()), "full")]
    if step:
        probed.append(transferred(step, step, ((step - 1,), (step - 1,)), "transfer"))
        probed.append(transferred(step, step - 1, ((step, 0), (0, step)), "transfer"))
    return [
        events.TaskStarted(step=step, task_id=step, rows=40 + step),
        *probed,
        events.TaskLearned(step=step, task_id=step, memory={"net": 100}, seconds=0.1),
        events.Evaluated(step=step, evaluation=step, task_id=step, **events.counts((4, 5), 5)),
        events.Scored(
            step=step, evaluation=step, seconds=0.1, **dict.fromkeys(("acc", "bwt", "fwt", "forgetting"), (1.0, 1.0))
        ),
        events.Saving(step=step, cursor=step),
    ]


def written(recorder: Recorder, steps: range) -> None:
    for event in (event for step in steps for event in experience(step)):
        recorder(event)


def check(folder: Path, steps: int) -> None:
    """Hold what is read to what was told of so many experiences."""
    told = [event for step in range(steps) for event in experience(step) if isinstance(event, events.Transferred)]
    for place, of_seed in enumerate(transfers_of(open_run(folder))):
        assert of_seed.seed == (3, 7)[place]
        assert of_seed.labels[:steps] == tuple(40 + step for step in range(steps))
        for mine, event in zip(of_seed.probed, told, strict=True):
            assert (mine.target, mine.sources, mine.kind) == (event.task_id, event.sources[place], event.kind)
            assert (mine.labels, mine.score) == (event.labels, event.score[place])
            np.testing.assert_array_equal(mine.losses, event.losses[place])
            np.testing.assert_array_equal(mine.errors, event.errors[place])


def test_the_outcome_of_every_row_is_read_as_it_was_told(tiny: Tiny, tmp_path: Path):
    recorder = Recorder(tmp_path, [3, 7], tiny("finetune").stream())
    recorder.begin(ATTRIBUTES, {})
    written(recorder, range(3))
    recorder.publish("finished")
    check(tmp_path, 3)


def test_a_kill_loses_no_outcome_that_was_saved_and_those_that_come_again_stand_once(tiny: Tiny, tmp_path: Path):
    stream = tiny("finetune").stream()
    recorder = Recorder(tmp_path, [3, 7], stream)
    recorder.begin(ATTRIBUTES, {})
    written(recorder, range(1))
    recorder.publish("running")
    recorder.publishing = 1e9  # what follows goes to the journal alone
    written(recorder, range(1, 3))
    check(tmp_path, 1)
    resumed = Recorder(tmp_path, [3, 7], stream)
    resumed.resume(1)  # the checkpoint is that of the second experience
    check(tmp_path, 2)
    written(resumed, range(2, 3))
    resumed.publish("finished")
    check(tmp_path, 3)


def test_a_log_without_transfers_says_so_and_holds_no_table_of_them(tiny: Tiny, tmp_path: Path):
    run = open_run(tiny("finetune", (0,)).run(tmp_path))
    assert not {"transfers", "outcomes"} & set(run.tables)
    assert compared_of(run) == {}
    with pytest.raises(UsageError, match="holds no transfers between tasks: it is of the strategy 'finetune'"):
        transfers_of(run)


@pytest.mark.parametrize("version", ["1.0", "1.5"])
def test_a_log_of_an_older_format_is_refused_in_the_same_sentence(version: str, tmp_path: Path):
    run = open_run(old_log(version, tmp_path))
    assert not run.results["task_free"].values.any()
    with pytest.raises(UsageError, match="holds no transfers between tasks"):
        transfers_of(run)


def test_tables_that_do_not_fit_each_other_are_refused(tiny: Tiny, tmp_path: Path):
    recorder = Recorder(tmp_path, [3, 7], tiny("finetune").stream())
    recorder.begin(ATTRIBUTES, {})
    written(recorder, range(2))
    recorder.tables["outcomes"].rows.append((1, 0.0, 0.0))
    recorder.publish("finished")
    with pytest.raises(UsageError, match="do not fit each other"):
        transfers_of(open_run(tmp_path))


def test_a_log_says_which_labels_no_person_has_to_give(tmp_path: Path):
    views = ["digit", "flip", "rotation"]
    changes = {"stream.views": views, "stream.labelled": 60, "stream.test_rows": 20, "train.epochs": 1}
    run = open_run(Experiment.of("views_digits", "finetune", **changes).run(tmp_path))
    assert run.results["task_free"].values.tolist() == [0, 1, 1]
