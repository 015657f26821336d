"""Logs whose tasks are measured by several things go through every reader and command, and no mean is over two measures."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from matplotlib.figure import Figure
from rich.console import Console as Terminal

from cl_engine import estimate, events
from cl_engine.analysis.comparison import compared, comparisons
from cl_engine.analysis.comparison.tables import written
from cl_engine.analysis.live.snapshot import snapshot
from cl_engine.analysis.plots import across_runs, matrices, one_run
from cl_engine.analysis.plots.panels import spread
from cl_engine.analysis.report import page
from cl_engine.analysis.scores import log_scores, summarised
from cl_engine.analysis.scores.measures import LEVELS, MEASURES, measured
from cl_engine.cli import main
from cl_engine.core.measure import Measure
from cl_engine.errors import UsageError
from cl_engine.estimate import check_experiment
from cl_engine.estimate import measured as measured_cost
from cl_engine.experiment import Experiment
from cl_engine.loggers.console import Console
from cl_engine.loggers.recorder import Recorder
from cl_engine.nn.target import Target
from cl_engine.results.of_measure import of_each_measure
from cl_engine.results.run import Run, open_run, open_runs
from cl_engine.sweep.folder import SweepFolder
from cl_engine.targets.boxes import Boxes
from cl_engine.targets.class_map import ClassMap
from cl_engine.targets.classes import Classes
from cl_engine.targets.number_map import NumberMap
from cl_engine.targets.numbers import Numbers

NORMALS = NumberMap.of(channels=3, kind="normals")
TARGETS: tuple[Target, ...] = (
    Classes.of(classes=4),
    ClassMap.of(classes=3),
    Numbers.of(numbers=2),
    NORMALS,
    Boxes.of(size=[32, 32]),
    NORMALS,
)
ANGLE = Measure("mean_angle", "degree", higher=False)
ALONE = (0.8, 0.5, 0.4, 40.0, 0.5, 50.0)
UNTRAINED, AFTER, NOW = (
    (0.2, 0.1, -0.5, 90.0, 0.1, 80.0),
    (0.9, 0.5, 0.5, 40.0, 0.4, 60.0),
    (0.6, 0.4, 0.3, 30.0, 0.2, 60.0),
)
KINDS = ("csv", "parquet", "netcdf", "tensorboard", "l2logger")


class Views:
    """A stream of the six tasks, as far as a log asks it."""

    def __init__(self, targets: Sequence[Target] = TARGETS) -> None:
        self.targets, self.n_tasks, self.n_steps = targets, len(targets), len(targets)
        self.only_accuracy = False
        self.most_sums = max(len(target.sum_names) for target in targets)

    def target(self, task_id: int) -> Target:
        return self.targets[task_id]

    def is_free(self, task_id: int) -> bool:
        return False

    def name_of(self, task_id: int) -> str:
        return f"view {task_id}"


def happened(after: Sequence[float], now: Sequence[float], targets: Sequence[Target] = TARGETS) -> list[events.Event]:
    """Return what happens in a run of two seeds, of which each score is the same, with a test of the next task after each."""
    found: list[events.Event] = []

    def test(step: int, scores: Sequence[float]) -> None:
        for task, score in enumerate(scores):
            width = len(targets[task].sum_names)
            sums = ((40 * score, 40.0),) * 2 if task == 0 else ((1.0,) * width,) * 2
            found.append(events.Evaluated(step=step, evaluation=step + 1, task_id=task, score=(score,) * 2, sums=sums))
        scored = dict.fromkeys(("acc", "bwt", "fwt", "forgetting"), (np.nan,) * 2)
        if step >= 0 and len({target.measure for target in targets}) == 1:
            scored["acc"] = (float(np.mean(scores[: step + 1])),) * 2
        found.append(events.Scored(step=step, evaluation=step + 1, seconds=0.1, **scored))

    test(-1, UNTRAINED[: len(after)])
    for step, score in enumerate(after):
        found.append(events.TaskStarted(step=step, task_id=step, rows=20))
        for batch, share in ((0, 2.0), (5, 1.0)):
            sums = ((1.0,) * len(targets[step].sum_names),) * 2
            point = {"step": step, "task_id": step, "batch": batch, "epoch": 0, "seconds": 0.1}
            found.append(events.CurvePoint(**point, score=(share * score,) * 2, sums=sums))  # type: ignore[arg-type]
        found.append(events.TaskLearned(step=step, task_id=step, memory={"net": 100 * (step + 1)}, seconds=0.1))
        test(step, [*now[:step], score, *after[step + 1 : step + 2]])
    return found


def log(
    folder: Path,
    strategy: str,
    after: Sequence[float],
    now: Sequence[float],
    targets: Sequence[Target] = TARGETS,
    scenario: str = "views",
) -> Path:
    """Write the log of a run, and return its folder."""
    folder.mkdir(parents=True)
    recorder = Recorder(folder, [0, 1], Views(targets))  # type: ignore[arg-type]
    agenda = {"curve_epochs": 0, "curve_batches": 5}
    options = {"stream": {"name": "any"}, "net": {}, "train": {}, "agenda": agenda, "strategy": {}}
    about = {"seeds": [0, 1], "scenario": scenario, "strategy": strategy, "options": options}
    said = {"run_id": f"{hash(strategy) % 10**8:032d}", "strategy": strategy, "scenario": scenario}
    recorder.begin(said, {"experiment": json.dumps(about), "scenario": ""})
    for event in happened(after, now, targets):
        recorder(event)
    recorder.publish("finished")
    recorder.close()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("views")
    log(place / "finetune", "finetune", AFTER, NOW)
    log(place / "independent", "independent", ALONE, ALONE)
    return place


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[Run]:
    return [open_run(folder / name) for name in ("finetune", "independent")]


def of_measure(runs: Sequence[Run], name: str) -> list[Run]:
    return next(parts for measure, parts in of_each_measure(runs).items() if measure.name == name)


def asked(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.output)


def test_there_is_no_score_over_tasks_of_several_measures(runs: list[Run]):
    values = measured(runs[0], list(MEASURES), runs)
    costs = {"memory", "seconds", "training_flops", "delta_m"}
    assert {name for name, found in values.items() if np.isfinite(found).any()} <= costs
    assert runs[0].final is not None
    assert int(runs[0].final["evaluation_step"]) == 5  # all tasks were tested, though there is no ACC
    with pytest.raises(UsageError, match=r"ACC over tasks measured by accuracy, mean_iou, .* means nothing"):
        compared(runs)


def test_of_a_falling_angle_all_differences_say_that_it_is_better(runs: list[Run]):
    run, alone = of_measure(runs, "mean_angle")
    found = summarised(run, [run, alone])
    assert found.acc.values.tolist() == [45.0, 45.0]
    assert found.bwt.values.tolist() == [10.0, 10.0]
    assert found.forgetting.values.tolist() == [0.0, 0.0]  # the last is the best
    assert found.fwt.values.tolist() == [35.0, 35.0]  # 40° before it was learned for 90° untrained, 60° for 80°
    assert found.transfer.values.tolist() == [-5.0, -5.0]
    assert log_scores.performance_maintenance(run).values.tolist() == [10.0, 10.0]
    helped = log_scores.transfer_matrix(runs[0])
    assert helped[4, 3].tolist() == pytest.approx([10 / 70] * 2)  # from 40° to 30°
    assert helped[1, 0].tolist() == pytest.approx([-0.3 / 1.5] * 2)
    assert np.isnan(log_scores.relative_performance(run, [run, alone]).values).all()
    assert np.isnan(log_scores.remembering(run).values).all()  # 1 less a loss, of shares


def test_scores_of_one_measure_do_not_know_of_the_tasks_of_others(runs: list[Run], tmp_path: Path):
    after, now = ([score if score > 1 else 0.123 for score in scores] for scores in (AFTER, NOW))
    changed = open_run(log(tmp_path / "changed", "finetune", after, now))
    there, here = (measured(of_measure([run], "mean_angle")[0], list(MEASURES)) for run in (runs[0], changed))
    for name, values in there.items():
        np.testing.assert_array_equal(values, here[name], name)
    assert of_measure([runs[0]], "mean_angle")[0].results["task"].values.tolist() == [3, 5]
    assert len(of_measure([runs[0]], "mean_angle")[0].table("curves")) == 2 * 2 * 2  # tasks, points, seeds


def test_delta_m_is_the_mean_relative_change_by_direction(runs: list[Run]):
    by_hand = (-0.25 - 0.2 - 0.25 + 0.25 - 0.6 - 0.2) / 6
    assert summarised(runs[0], runs).delta_m.values.tolist() == pytest.approx([by_hand] * 2)
    comparison = compared(runs, "delta_m")
    assert comparison.table.set_index("method")["mean"].tolist() == pytest.approx([0.0, by_hand])
    assert comparison.table["memory_front"].any()
    of_angles = of_measure(runs, "mean_angle")
    within = summarised(of_angles[0], of_angles).delta_m
    assert within.values.tolist() == pytest.approx([(0.25 - 0.2) / 2] * 2)


def test_runs_are_compared_within_each_measure_and_the_best_is_by_its_direction(runs: list[Run]):
    found = {each.of.name: each for each in comparisons(runs) if each.of}
    assert list(found) == ["accuracy", "mean_iou", "explained_variance", "mean_angle", "ap_50"]
    assert found["mean_angle"].by.title == "ACC (mean_angle, degree)"
    assert not found["mean_angle"].by.higher
    assert not {name for name in LEVELS if not MEASURES[name].higher}
    best = {name: each.table.loc[each.table["best"], "method"].tolist() for name, each in found.items()}
    assert best.pop("mean_angle") == ["finetune", "independent"]  # both 45°
    assert set(map(tuple, best.values())) == {("independent",)}
    assert found["mean_angle"].table["mean"].tolist() == [45.0, 45.0]
    assert [each.by.name for each in comparisons(runs, "memory")] == ["memory"]


def test_every_kind_of_table_names_the_measure(runs: list[Run]):
    found = comparisons(runs)
    assert written(found, "csv").splitlines()[0].endswith(",measure")
    assert len(json.loads(written(found, "json"))) == 5
    assert r"ACC (mean\_iou)" in written(found, "latex")
    assert r"ACC (mean\_iou)" in written(found, "markdown")


def titles(fig: Figure) -> set[str]:
    said = {axes.get_title(loc) for axes in fig.axes for loc in ("left", "center")} | {
        axes.get_ylabel() for axes in fig.axes
    }
    return said - {""}


def test_a_picture_of_scores_has_a_panel_for_each_measure_with_unit_and_direction(runs: list[Run]):
    over = across_runs.accuracy_over_stream(runs)
    assert titles(over) == {
        "accuracy",
        "mean_iou",
        "explained_variance",
        "mean_angle (degree, less is better)",
        "ap_50",
    }
    limits = {axes.get_title("left"): axes.get_ylim() for axes in over.axes}
    assert limits["mean_iou"] == (0, 1.02)
    assert limits["mean_angle (degree, less is better)"][1] > 40
    lost = {axes.get_title("left") for axes in across_runs.forgetting_over_stream(runs).axes}
    assert "mean_angle (degree)" in lost  # a loss has no direction of its own
    keys = [axes.get_legend() for axes in one_run.tasks_over_stream(runs[0]).axes]
    names = {text.get_text() for key in keys if key is not None for text in key.get_texts()}
    assert names == {f"{task} view {task}" for task in range(6)}
    assert one_run.task_curves(runs[0]) is not None
    assert across_runs.learning_curves(runs) is not None
    assert across_runs.transfer(runs) is not None
    assert across_runs.transfer([run for run in runs if run.strategy != "independent"]) is None
    assert "Δm" in titles(across_runs.accuracy_against_memory(runs))


def test_r_is_drawn_on_the_scale_of_each_measure_and_bright_is_good(runs: list[Run]):
    fig = matrices.matrix(runs[0])
    drawn = fig.axes[0].images[0].get_array()
    assert drawn[0, 3] == 0  # 90° is the worst angle there is …
    assert drawn[6, 3] == 1  # … and 30° the best
    assert drawn[6, 0] == pytest.approx(0.6)  # shares are from 0 to 1
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()][3] == "3 mean_angle"
    assert {"30", ".60", "-.50"} <= {text.get_text() for text in fig.axes[0].texts}
    assert spread(ANGLE, np.array([30.0, 90.0])) == (30.0, 90.0)
    alone = matrices.matrix(of_measure(runs, "mean_angle")[0])
    assert alone.axes[1].get_ylabel() == "mean_angle (degree, less is better)"
    assert alone.axes[0].images[0].get_cmap().name.startswith("viridis_r")


def test_every_command_that_reads_logs_tells_of_every_measure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(page, "PICTURED", 1)
    asked("report", folder, "-o", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    for said in ("Δm: relative change to independent", "mean_angle (degree, less is better)", "costs", "-0.208"):
        assert said in text
    assert "could not be" not in text
    for shown in (asked("compare", folder), asked("show", folder / "finetune")):
        assert "mean_iou" in shown
        assert "45.000" in shown
        assert "nan" not in shown
    assert "-0.208" in asked("compare", folder, "--by", "delta_m")
    watched = asked("watch", folder / "finetune", "--once")
    assert "accuracy 0.6, mean_iou 0.4, explained_variance 0.3" in " ".join(watched.split())
    for kind in KINDS:
        asked("export", folder, "--to", kind, "-o", tmp_path / kind)


def test_exports_name_the_measure_and_l2logger_gets_more_where_it_is_better(
    runs: list[Run], folder: Path, tmp_path: Path
):
    for kind in ("csv", "netcdf", "l2logger"):
        asked("export", folder / "finetune", "--to", kind, "-o", tmp_path / kind)
    table = pd.read_csv(next((tmp_path / "csv").glob("*/score.csv")))
    last = table[(table["step"] == 5) & (table["seed"] == 0)].set_index("task")
    assert last["score"].tolist() == pytest.approx([0.6, 0.4, 0.3, 30, 0.2, 60])
    assert last.loc[3, ["measure", "unit"]].tolist() == ["mean_angle", "degree"]
    assert last["n_total"].tolist() == [40, 0, 0, 0, 0, 0]
    scores = pd.read_csv(next((tmp_path / "csv").glob("*/scores.csv")))
    assert scores[scores["measure"] == "mean_angle"]["acc"].dropna().tolist()[-1] == 45
    assert len(scores) == len(runs[0].results["evaluation"]) * 2 * 5
    with xr.open_dataset(next((tmp_path / "netcdf").glob("*/run.nc")), group="results") as found:
        assert {"score", "sums", "task_measure", "task_direction"} <= set(found)
    (last_block,) = (tmp_path / "l2logger").glob("*/seed-0/worker-0/12-test/data-log.tsv")
    rows = pd.read_csv(last_block, sep="\t")
    assert rows["score"].tolist() == pytest.approx([0.6, 0.4, 0.3, -30, 0.2, -60])


def test_logs_with_and_without_accuracy_are_one_dataset(folder: Path, tmp_path: Path):
    plain = log(tmp_path / "plain", "replay", (0.9, 0.8), (0.7, 0.8), (Classes.of(classes=4),) * 2)
    found = open_runs(folder, plain)
    assert found["task_measure"].values[-1].tolist() == ["accuracy", "accuracy", "", "", "", ""]
    assert np.isnan(found["acc"].values[:2]).all()
    np.testing.assert_allclose(found["score"].sel(run=0)[-1, :, 0], NOW, rtol=1e-6)


def test_an_old_log_has_scores_in_a_dataset_too(tmp_path: Path):
    old = shutil.copytree(
        Path(__file__).parents[1] / "results" / "reference" / "permuted_digits-replay", tmp_path / "old"
    )
    with h5py.File(old / "log.h5", "r") as file:
        assert "score" not in file["results"]
    found = open_runs(old)
    np.testing.assert_array_equal(found["score"].values, found["accuracy"].values)


def test_watch_shows_no_mean_over_measures_and_knows_how_far_a_run_is(folder: Path):
    now = snapshot(folder / "finetune" / "log.h5")
    assert np.isnan(now.acc).all()
    assert now.row_step == 5
    assert now.by_measure["mean_angle"] == 45
    assert now.less == {"mean_angle"}
    assert now.curve_of == "test mean_angle while learning experience 5"
    assert now.curve.tolist() == [120, 60]


def test_watch_names_the_one_measure_of_a_run_where_it_is_not_accuracy(tmp_path: Path):
    alone = log(tmp_path / "angles", "finetune", (40.0, 60.0), (30.0, 60.0), (NORMALS, NORMALS))
    told = asked("watch", alone, "--once")
    assert "mean_angle (less is better)" in told
    assert "ACC" not in told


def test_the_progress_line_tells_the_mean_score_of_each_measure_over_the_tasks_met():
    out = Terminal(file=io.StringIO(), width=200)
    console = Console("views", Views(), out)  # type: ignore[arg-type]
    for event in happened(AFTER, NOW):
        console(event)
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "accuracy 0.9, memory" in lines[0]
    assert "accuracy 0.6, mean_iou 0.4, explained_variance 0.3, mean_angle 45 (less is better), ap_50 0.2" in lines[-1]


def test_a_sweep_has_no_best_run_by_a_score_over_several_measures_and_one_by_costs(folder: Path):
    place = SweepFolder(folder)
    assert place.look("finetune", "acc").several
    assert np.isnan(place.look("finetune", "acc").score)
    assert place.look("finetune", "memory").score == 600


def test_a_sweep_over_angles_takes_the_smallest(tmp_path: Path):
    log(tmp_path / "angles", "finetune", (40.0, 60.0), (30.0, 60.0), (NORMALS, NORMALS))
    with h5py.File(tmp_path / "angles" / "log.h5", "r+") as file:
        file["results/acc"][-1] = 45.0
    look = SweepFolder(tmp_path).look("angles", "acc")
    assert (look.score, look.way) == (45.0, -1)


def test_a_check_tells_what_tasks_take_by_what_they_ask_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimate, "PATIENCE", 0.1)
    experiment = Experiment.of(Path(__file__).with_name("views.toml"), "experts")
    lines = dict(check_experiment(experiment, "cpu", None))
    assert "by what it asks for" in lines["learning a task"]
    stream = experiment.stream()
    assert stream.most_sums > 100
    cost = measured_cost(stream, experiment.build_strategy(stream), 1)
    assert cost.of_targets == {}
    cells = int(lines["agenda"].split(", ")[1].split(" ")[0])
    assert f"log at most {(60_000 + cells * (4 + 8 * stream.most_sums)) / 1000:.1f} kB" in lines["disk"]
