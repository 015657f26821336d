"""What pictures and scores say is what the log says: numbers worked out by hand, names, legends, many tasks."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h5py
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cl_engine import metrics
from cl_engine.analysis import drawing, matrices, one_run, pictures
from cl_engine.analysis.names import names_of, one_line
from cl_engine.analysis.scores import curve_area, learning_curve, recomputed
from cl_engine.analysis.style import FORMATS, colour, mark, plain, rendered
from cl_engine.experiment import Experiment
from cl_engine.results import Run, open_run
from tests.conftest import TINY


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    curves = {"agenda.curve_epochs": 1}
    made = {name: Experiment.of(TINY, name, (0, 1), **curves) for name in ("finetune", "joint")}
    return {name: open_run(experiment.run(folder / name)) for name, experiment in made.items()}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Run:
    many = {"stream.n": 100, "stream.samples_per_class": 1, "train.epochs": 1, "agenda.evaluate_every": 20}
    folder = tmp_path_factory.mktemp("long")
    return open_run(Experiment.of(TINY, "head_only", (0,), **many).run(folder / "run"))


def renamed(run: Run, folder: Path, **attributes: str) -> Run:
    folder.mkdir(parents=True)
    shutil.copy(run.path, folder / "log.h5")
    with h5py.File(folder / "log.h5", "r+") as file:
        file.attrs.update(attributes)
    return open_run(folder)


def curves_of(rows: list[tuple[int, int, int, int]], learned: int, epochs: int) -> Run:
    """Return a stand-in for a run of one seed, with tests of 10 rows: (step, batch, epoch, right)."""
    table = pd.DataFrame(rows, columns=["step", "batch", "epoch", "n_correct"]).assign(seed=0, n_total=10)
    sizes = SimpleNamespace(values=np.array([0]))
    results = type("Results", (), {"sizes": {"experience": learned}, "__getitem__": lambda self, key: sizes})()
    agenda = {"options": {"agenda": {"curve_epochs": epochs}}}
    return cast(Run, SimpleNamespace(table=lambda name: table, results=results, experiment=agenda))


def test_a_learning_curve_is_the_mean_over_experiences_of_any_length():
    first = [(0, 0, 0, 1), (0, 2, 1, 5), (0, 3, 1, 6), (0, 4, 2, 8)]
    second = [(1, 0, 0, 3), (1, 7, 1, 9), (1, 14, 2, 10)]  # three and a half times as many batches
    unit, points, accuracy = learning_curve(curves_of([*first, *second], learned=2, epochs=1)) or ("", 0, 0)
    assert unit == "epochs"
    assert list(points) == [0, 1, 2]
    np.testing.assert_allclose(accuracy[:, 0], [0.2, 0.7, 0.9])


def test_by_batches_a_curve_has_the_points_all_experiences_have():
    rows = [(0, 0, 0, 1), (0, 1, 0, 4), (0, 2, 0, 8), (1, 0, 0, 3), (1, 1, 0, 6)]
    unit, points, accuracy = learning_curve(curves_of(rows, learned=2, epochs=0)) or ("", 0, 0)
    assert unit == "batches"
    assert list(points) == [0, 1]
    np.testing.assert_allclose(accuracy[:, 0], [0.2, 0.5])


def test_an_experience_that_was_cut_short_is_in_no_learning_curve():
    rows = [(0, 0, 0, 2), (0, 4, 1, 6), (1, 0, 0, 9)]
    run = curves_of(rows, learned=1, epochs=1)
    _, _, accuracy = learning_curve(run) or ("", 0, np.empty((0, 1)))
    np.testing.assert_allclose(accuracy[:, 0], [0.2, 0.6])
    assert curve_area(run).values == pytest.approx([0.4])


def test_the_curve_of_a_run_whose_experiences_grow_is_not_that_of_the_last_one(runs: dict[str, Run]):
    table = runs["joint"].table("curves")
    ends = table[table["epoch"] == 2].assign(accuracy=table["n_correct"] / table["n_total"])
    assert ends.groupby("step")["batch"].first().nunique() == 3
    fig = pictures.learning_curves([runs["joint"]])
    assert fig is not None
    shown = fig.axes[0].lines[0].get_ydata()
    assert np.asarray(shown)[-1] == pytest.approx(ends["accuracy"].mean())


@pytest.mark.parametrize("strategy", ["finetune", "joint"])
def test_recomputed_scores_are_those_of_the_papers_formulas_on_the_counts(runs: dict[str, Run], strategy: str):
    run = runs[strategy]
    found = run.results
    with np.errstate(invalid="ignore"):
        matrix = found["n_correct"].values / found["n_total"].values
    for name, values in recomputed(run).items():
        formula = getattr(metrics, name)
        wanted = formula(matrix, found["evaluation_step"].values, run.learned)
        np.testing.assert_allclose(values, wanted, atol=1e-12)


def test_a_changed_count_changes_the_recomputed_score_and_nothing_else(runs: dict[str, Run], tmp_path: Path):
    run = renamed(runs["finetune"], tmp_path / "changed")
    with h5py.File(run.path, "r+") as file:
        right, total = file["results/n_correct"], file["results/n_total"]
        before = int(right[-1, 0, 0])
        right[-1, 0, 0] = before - 1 if before else 1
        change = (int(right[-1, 0, 0]) - before) / int(total[-1, 0, 0]) / 3
    logged, again = run.results["acc"].values, recomputed(run)["acc"]
    assert again[-1, 0] - logged[-1, 0] == pytest.approx(change)
    np.testing.assert_allclose(again[-1, 1], logged[-1, 1])


def test_runs_of_one_strategy_have_different_names_in_a_picture(runs: dict[str, Run], tmp_path: Path):
    one = runs["finetune"]
    other = renamed(one, tmp_path / "slow")
    elsewhere = renamed(one, tmp_path / "slow2", scenario="another")
    assert names_of([one, runs["joint"]]) == ["finetune", "joint"]
    assert names_of([one, other]) == ["finetune (finetune)", "finetune (slow)"]
    assert names_of([one, elsewhere]) == [f"{one.scenario}, finetune", "another, finetune"]
    assert names_of([one, one]) == ["finetune (number 1)", "finetune (number 2)"]
    labels = [line.get_label() for line in pictures.accuracy_over_stream([one, other]).axes[0].lines]
    assert labels == ["finetune (finetune)", "finetune (slow)"]


def test_sixty_four_runs_are_told_apart_by_colour_and_mark():
    assert len({(colour(k), mark(k)) for k in range(64)}) == 64


def test_a_name_is_one_line_that_cannot_turn_around_or_move_a_cursor():
    assert one_line("a\nb\tc\u2028d\x1b[2J\u202e\u200be ") == "a b c d[2Je"
    assert plain("x" * 50 + "end", 11) == "xxxxx…xxend"
    assert plain("short", 11) == "short"


def inside(fig: Figure) -> bool:
    """Say whether the legend and the titles lie within the figure."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    boxes = [found.get_window_extent() for found in fig.legends]
    boxes += [text.get_window_extent(canvas.get_renderer()) for axes in fig.axes for text in (axes._left_title,)]  # type: ignore[attr-defined]
    return all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1 for box in boxes)


def test_long_names_are_not_cut_off_at_the_edge(runs: dict[str, Run], long: Run, tmp_path: Path):
    name = "my_package.strategies:AStrategyWithAVeryLongNameIndeed"
    named = [renamed(runs["finetune"], tmp_path / str(k), strategy=f"{name}{k}") for k in range(6)]
    drawn = [
        pictures.accuracy_over_stream(named),
        one_run.tasks_over_stream(named[0]),
        matrices.matrix(named[0]),
        one_run.memory_over_stream(named[0]),
        one_run.tasks_over_stream(long),
    ]
    assert all(inside(fig) for fig in drawn)
    assert len(drawn[0].legends[0].get_texts()) == 6


def test_of_many_rows_the_matrix_shows_those_that_tested_everything_and_says_so(long: Run, runs: dict[str, Run]):
    axes = matrices.matrix(long).axes[0]  # untrained; after 1 (all tasks met are one then), 20, 40, 60, 80, 100
    assert axes.images[0].get_array().shape == (7, 100)  # type: ignore[union-attr]
    assert "7 of 101 rows" in axes.get_ylabel()
    assert matrices.matrix(runs["joint"]).axes[0].get_ylabel() == "after experience"


def test_seeds_are_counted_from_few_to_many(runs: dict[str, Run]):
    def of(count: int) -> Any:
        return SimpleNamespace(results=SimpleNamespace(sizes={"seed": count}))

    assert drawing.seeds([of(8), of(3), of(5)]) == "3 to 8 seeds"
    assert drawing.seeds([of(1)]) == "1 seed"
    assert drawing.seeds([of(2), of(2)]) == "2 seeds"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_drawn_twice_has_the_same_bytes(runs: dict[str, Run], kind: str):
    one, other = (rendered(matrices.matrix(runs["joint"]), kind) for _ in range(2))
    assert one == other


def test_a_name_the_font_cannot_write_is_no_warning(runs: dict[str, Run], tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rendered(pictures.accuracy_over_stream([renamed(runs["joint"], tmp_path / "run", strategy="数字 🚀")]))
