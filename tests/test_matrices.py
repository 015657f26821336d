"""Who helped whom where not all tasks are tested after every experience, or come into view one by one."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from cl_engine.analysis.plots import matrices
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from tests.conftest import TINY


def test_who_helped_whom_is_told_between_tests_of_all_tasks_met(tmp_path: Path):
    options = {"stream.n": 6, "stream.samples_per_class": 1, "train.epochs": 1, "agenda.evaluate_every": 2}
    run = open_run(Experiment.of(TINY, "finetune", (0,), **options).run(tmp_path / "run"))
    fig = matrices.transfer_matrix(run)
    assert fig is not None
    cells = np.ma.filled(fig.axes[0].images[0].get_array(), np.nan)  # type: ignore[union-attr]
    steps, R = list(run.results["evaluation_step"].values), run.results["accuracy"].mean("seed").values
    assert cells[-1, 0] == pytest.approx(100 * (R[steps.index(5), 0] - R[steps.index(3), 0]))
    assert np.isfinite(cells[-1, :4]).all()
    assert np.isnan(cells[-1, 4:]).all()  # what was learned in between
    assert "left out, not of all tasks met: tests after 2, 4" in fig.axes[0].get_xlabel()


def test_who_helped_whom_begins_untrained_in_a_stream_without_end(tmp_path: Path):
    run = open_run(Experiment.of(TINY, "finetune", (0, 1)).run(tmp_path / "endless"))
    with h5py.File(run.path, "r+") as file:  # the first two rows: each of them an untrained test of other tasks
        file["results/evaluation_step"][:2] = -1
        file["results/accuracy"][0, :1] = file["results/accuracy"][1, 1:] = np.nan
        R = file["results/accuracy"][:].mean(axis=2)
    fig = matrices.transfer_matrix(open_run(run.path))
    assert fig is not None
    cells = np.ma.filled(fig.axes[0].images[0].get_array(), np.nan)  # type: ignore[union-attr]
    assert fig.axes[0].get_yticklabels()[0].get_text() == "1"
    assert cells[0, 2] == pytest.approx(100 * (R[2, 2] - R[0, 2]))
