"""What pictures and scores say is what the log says: numbers worked out by hand, names, legends, many tasks."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from cl_engine.analysis.names import names_of, one_line
from cl_engine.analysis.plots import across_runs, axes, matrices, one_run
from cl_engine.analysis.plots.panels import ACCURACY
from cl_engine.analysis.plots.style import COLOURS, DARK, FORMATS, INK, PAPER, colour, mark, plain, rendered, sized
from cl_engine.analysis.scores.run_scores import curve_area, learning_curve, recomputed
from cl_engine.analysis.scores.statistics import front
from cl_engine.experiment import Experiment
from cl_engine.metrics import matrix_scores
from cl_engine.results.run import Run, open_run
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
    table = table.assign(score=table["n_correct"] / 10)
    sizes = SimpleNamespace(values=np.array([0]))
    results = type("Results", (), {"sizes": {"experience": learned}, "__getitem__": lambda self, key: sizes})()
    agenda = {"options": {"agenda": {"curve_epochs": epochs}}}
    return cast(Run, SimpleNamespace(table=lambda name: table, results=results, experiment=agenda, measures=[ACCURACY]))


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
    fig = across_runs.learning_curves([runs["joint"]])
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
        formula = getattr(matrix_scores, name)
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
    labels = [line.get_label() for line in across_runs.accuracy_over_stream([one, other]).axes[0].lines]
    assert labels == ["finetune (finetune)", "finetune (slow)"]


def test_runs_are_told_apart_by_how_they_learn_before_when_they_are_tested(tmp_path: Path):
    rest = {"stream.n": 1, "train.epochs": 1}
    asked = {
        "a": {"samples": 3},
        "b": {},
        "c": {"agenda.online": True, "agenda.save_every": 2, "agenda.evaluate_every": 2},
    }
    runs = [
        open_run(Experiment.of(TINY, "replay", (0,), **rest, **more).run(tmp_path / name))
        for name, more in asked.items()
    ]
    assert names_of(runs) == ["replay (samples=3)", "replay (samples=500) (b)", "replay (samples=500) (c)"]


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
        across_runs.accuracy_over_stream(named),
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
    assert "7 of 101 rows" in axes.get_xlabel()
    assert matrices.matrix(runs["joint"]).axes[0].get_xlabel() == "on task"


def test_seeds_are_counted_from_few_to_many(runs: dict[str, Run]):
    def of(count: int) -> Any:
        return SimpleNamespace(results=SimpleNamespace(sizes={"seed": count}))

    assert axes.seeds([of(8), of(3), of(5)]) == "3 to 8 seeds"
    assert axes.seeds([of(1)]) == "1 seed"
    assert axes.seeds([of(2), of(2)]) == "2 seeds"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_drawn_twice_has_the_same_bytes(runs: dict[str, Run], kind: str):
    one, other = (rendered(matrices.matrix(runs["joint"]), kind) for _ in range(2))
    assert one == other


def test_a_name_the_font_cannot_write_is_no_warning(runs: dict[str, Run], tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rendered(across_runs.accuracy_over_stream([renamed(runs["joint"], tmp_path / "run", strategy="数字 🚀")]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 10**6))
def test_averaged_cells_keep_every_number_in_their_block(rows: int, columns: int, seed: int):
    values = np.random.default_rng(seed).random((rows, columns))
    shown, by_row, by_column = axes.averaged(values)
    assert max(shown.shape) <= axes.MOST_CELLS
    row, column = np.random.default_rng(seed + 1).integers(0, shown.shape)
    block = values[row * by_row : (row + 1) * by_row, column * by_column : (column + 1) * by_column]
    assert shown[row, column] == pytest.approx(block.mean())


def test_a_block_without_a_number_stays_empty():
    values = np.full((400, 400), np.nan)
    values[0, 0] = 0.5
    shown, _, _ = axes.averaged(values)
    assert shown[0, 0] == 0.5
    assert np.isnan(shown).sum() == shown.size - 1


def test_who_helped_whom_is_the_change_between_rows_without_the_task_just_learned(runs: dict[str, Run]):
    run = runs["finetune"]
    R = run.results["accuracy"].mean("seed").values
    fig = matrices.transfer_matrix(run)
    assert fig is not None
    cells = np.ma.filled(fig.axes[0].images[0].get_array(), np.nan)  # type: ignore[union-attr]
    assert np.isnan(np.diagonal(cells)).all()
    assert cells[2, 0] == pytest.approx(100 * (R[3, 0] - R[2, 0]))
    assert cells[1, 0] == pytest.approx(100 * (R[2, 0] - R[1, 0]))
    assert cells[0, 1] == pytest.approx(100 * (R[1, 1] - R[0, 1]))  # ahead of its time: forward


def test_each_task_has_the_curve_of_its_first_time(runs: dict[str, Run]):
    table = runs["finetune"].table("curves")
    fig = one_run.task_curves(runs["finetune"])
    assert fig is not None
    for task, line in enumerate(fig.axes[0].lines):
        rows = table[(table["task"] == task) & (table["batch"] == 0)]
        assert np.asarray(line.get_ydata())[0] == pytest.approx((rows["n_correct"] / rows["n_total"]).mean())


def test_the_timeline_holds_all_seconds_of_the_run(runs: dict[str, Run], long: Run):
    for run in (runs["finetune"], long):
        fig = one_run.timeline(run)
        assert fig is not None
        total = 0.0
        for patch in fig.axes[0].patches:
            corners = patch.get_path().vertices.reshape(-1, 5, 2)
            widths = (corners[:, 2, 0] - corners[:, 1, 0]) / 0.9
            total += float(((corners[:, 1, 1] - corners[:, 0, 1]) * widths).sum())
        assert total == pytest.approx(float(run.results["seconds"].sum()), rel=1e-3)


def test_a_front_is_what_no_other_run_beats_in_both():
    cost, gain = [3.0, 1.0, 2.0, 4.0, 1.0, 5.0], [0.5, 0.4, 0.3, 0.9, 0.2, float("nan")]
    assert front(np.array(gain), np.array(cost)).tolist() == [True, True, False, True, False, False]


ONE_RUN = (matrices.matrix, matrices.transfer_matrix, one_run.tasks_over_stream, one_run.task_curves, one_run.timeline)


@pytest.mark.parametrize("draw", ONE_RUN)
def test_every_title_says_the_number_of_seeds(runs: dict[str, Run], draw: Any):
    fig = draw(runs["joint"])
    assert "2 seeds" in fig.axes[0].get_title(loc="left").replace("\n", " ")


@pytest.mark.parametrize(("size", "inches"), [("column", 3.25), ("text", 5.5), ("page", 6.75)])
def test_a_picture_for_a_paper_is_as_wide_as_it_is_to_be(runs: dict[str, Run], long: Run, size: str, inches: float):
    with sized(size):
        assert across_runs.accuracy_over_stream([runs["joint"]]).get_figwidth() == inches
        drawn = [draw(run) for draw in ONE_RUN for run in (runs["joint"], long)]
    assert all(fig.get_figwidth() <= inches for fig in drawn if fig is not None)
    assert all(inside(fig) for fig in drawn if fig is not None)
    assert across_runs.accuracy_over_stream([runs["joint"]]).get_figwidth() == 6.4


@pytest.mark.parametrize("draw", [*ONE_RUN, one_run.memory_over_stream])
def test_on_a_dark_page_no_colour_of_the_light_one_is_left(runs: dict[str, Run], draw: Any):
    text = rendered(draw(runs["joint"]), dark=True).decode()
    found = {colour.upper() for colour in re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text)}
    assert not found & (DARK.keys() - set(DARK.values()))
    assert DARK[PAPER] in found


def test_every_colour_can_be_seen_on_its_page():
    def light(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((light(one), light(other)))
        return (high + 0.05) / (low + 0.05)

    assert contrast(INK, PAPER) > 7
    assert contrast(DARK[INK], DARK[PAPER]) > 7
    assert all(contrast(shade, PAPER) > 2 for shade in COLOURS)
    assert all(contrast(DARK[shade], DARK[PAPER]) > 3 for shade in COLOURS)
