"""Metrics of the agenda: of answers, measured beside R and held to other libraries, and of R, from any log."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from cl_engine.analysis.comparison import comparisons
from cl_engine.analysis.plots import metrics as pictures
from cl_engine.analysis.report.tables import score_tables
from cl_engine.analysis.scores.measures import measure, measured
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.answer_metrics.confusion import Confusion
from cl_engine.answer_metrics.ece import Ece
from cl_engine.answer_metrics.loss import Loss
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.events import Scored
from cl_engine.experiment import Experiment
from cl_engine.metrics.plugin import MatrixMetric
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.nn.target import Target
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run, open_run
from cl_engine.runs import importing, plugins
from cl_engine.targets.class_map import UNLABELLED, ClassMap
from cl_engine.targets.classes import Classes
from cl_engine.testing import MetricContract, small
from tests.conftest import TINY

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "metric.md"
WORST = "tests.test_agenda_metrics:Worst"
ALL = ["ece", "loss", "confusion", WORST]

for name in plugins.names("metrics"):
    globals()[f"Test_{name}"] = type(f"Test_{name}", (MetricContract,), {"metric": name})


class Worst(MatrixMetric):
    title = "worst task"

    def values(self, R: np.ndarray, steps: np.ndarray, learned: np.ndarray) -> np.ndarray:
        return np.asarray(R[-1][learned >= 0].min(axis=0))


class Broken(Worst):
    def values(self, R: np.ndarray, steps: np.ndarray, learned: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("no tasks")


class Waits(AnswerMetric):
    title = "waits"

    def sums(self, outputs: torch.Tensor, y: torch.Tensor, target: Target) -> torch.Tensor:
        return torch.tensor([outputs.max().item()])

    def value(self, sums: np.ndarray) -> np.ndarray:
        return sums


class NoValue(Waits):
    def sums(self, outputs: torch.Tensor, y: torch.Tensor, target: Target) -> torch.Tensor:
        return outputs.sum().double().reshape(1)


class NoSums(Waits):
    def sums(self, outputs: torch.Tensor, y: torch.Tensor, target: Target) -> torch.Tensor:
        return outputs.sum()


MISTAKES = {
    "Waits": r"cannot be measured \(its `sums` run under torch.vmap\): RuntimeError: vmap: It looks like",
    "NoValue": r"`value` returns shape \(2, 1\) for sums \(2, 1\); one number for each leading place",
    "NoSums": r"`sums` returns float32 of shape \(\) for a seed",
}


@pytest.mark.parametrize("named", MISTAKES)
def test_a_metric_that_does_not_work_is_refused_before_anything_is_learned(named: str, tmp_path: Path):
    made = Experiment.of(TINY, "finetune", **{"agenda.metrics": [f"tests.test_agenda_metrics:{named}"]})
    with pytest.raises(UsageError, match=MISTAKES[named]):
        made.run(tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "log.h5").exists()


class TestOwn(MetricContract):
    metric = WORST


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Return tiny runs with metrics: two seeds, one of the two alone, and one whose answers are never tested anew."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "two": ("finetune", (0, 1)),
        "one": ("finetune", (1,)),
        "other": ("finetune", (0,)),
        "kept": ("independent", (0,)),
    }
    return {
        name: open_run(Experiment.of(TINY, strategy, seeds, **{"agenda.metrics": ALL}).run(folder / name, device="cpu"))
        for name, (strategy, seeds) in made.items()
    }


def answers(rows: int = 200, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(classes, (rows,), generator=draw)
    return 2 * torch.randn(rows, classes, generator=draw) + torch.nn.functional.one_hot(y, classes), y


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_calibration_error_is_that_of_torchmetrics(bins: int):
    outputs, y = answers()
    metric = Ece.of(bins=bins)
    ours = metric.value(metric.sums(outputs, y, Classes.of(classes=5)).numpy())
    theirs = multiclass_calibration_error(outputs.softmax(dim=1).double(), y, num_classes=5, n_bins=bins, norm="l1")
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


def test_loss_and_confusion_are_those_of_scikit_learn():
    outputs, y = answers()
    target, answered = Classes.of(classes=5), outputs.argmax(dim=1)
    loss, confusion = Loss(), Confusion()
    assert float(loss.value(loss.sums(outputs, y, target.smoothed(0.3)).numpy())) == pytest.approx(
        log_loss(y, outputs.double().softmax(dim=1)), rel=1e-5
    )
    sums = confusion.sums(outputs, y, target).numpy()
    np.testing.assert_array_equal(sums.reshape(5, 5), confusion_matrix(y, answered))
    assert float(confusion.value(sums)) == pytest.approx(balanced_accuracy_score(y, answered))


def test_places_without_a_label_are_no_confusion():
    target, y = ClassMap.of(classes=2), torch.tensor([[[0, 1], [1, UNLABELLED]]])
    sums = Confusion().sums(torch.tensor([[[[5.0, 5.0], [-5.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]]]), y, target)
    assert sums.tolist() == [1, 0, 1, 1]


def test_a_metric_is_a_number_wherever_r_is_and_its_sums_are_those_at_the_end(runs: dict[str, Run]):
    for run in runs.values():
        tested = np.isfinite(run.scores)
        for name in ("ece", "loss", "confusion"):
            assert (np.isfinite(run.metric(name)) == tested).all()
        held = run.metric_sums("confusion")
        assert sorted(held) == [0, 1, 2]
        right = np.stack([own.reshape(-1, 10, 10).diagonal(axis1=1, axis2=2).sum(axis=1) for own in held.values()])
        np.testing.assert_array_equal(right, run.results["n_correct"].values[-1])
        np.testing.assert_array_equal(run.metric(WORST), run.scores[-1].min(axis=0))


def test_where_scores_are_taken_over_as_unchanged_a_metric_is_too_and_costs_no_row(runs: dict[str, Run]):
    kept, table = runs["kept"].metric("loss")[:, :, 0], runs["kept"].table("metrics")
    assert (kept[2:, 0] == kept[1, 0]).all() and kept[1, 0] != kept[0, 0]
    rows = table[(table["metric"] == "loss") & (table["task"] == 0)]
    assert rows["evaluation"].tolist() == [0, 1]


def test_seeds_spread_over_runs_have_the_metrics_of_a_run_of_all(runs: dict[str, Run]):
    [both] = of_seeds([runs["other"], runs["one"]])
    for name in ALL:
        np.testing.assert_allclose(both.metric(name), runs["two"].metric(name), rtol=1e-5)
    for task, sums in runs["two"].metric_sums("confusion").items():
        np.testing.assert_array_equal(both.metric_sums("confusion")[task], sums)


def test_runs_are_compared_by_a_metric_that_they_logged_and_by_one_of_r_that_they_did_not(
    runs: dict[str, Run], tmp_path: Path
):
    [found] = comparisons([runs["two"], runs["kept"]], "ece")
    assert not found.by.higher
    means = {case.method: float(case.values["ece"].mean()) for case in found.groups}
    assert means["finetune"] == pytest.approx(float(runs["two"].metric("ece")[-1].mean()))
    plain = open_run(Experiment.of(TINY, "finetune").run(tmp_path / "plain", device="cpu"))
    [worst] = measured(plain, [WORST]).values()
    assert worst[0] == plain.scores[-1].min()
    with pytest.raises(UsageError, match=r"none of these runs has measured 'loss'.*--set agenda.metrics=loss"):
        measure("loss", [plain])


def test_show_and_the_report_tell_of_metrics(runs: dict[str, Run]):
    said = CliRunner().invoke(main, ["show", str(runs["two"].path)]).output
    assert all(re.search(rf"^{title} +\d", said, re.MULTILINE) for title in ("ECE", "test loss", "worst task"))
    summary = summarised(runs["two"])
    held = [("finetune", summary)]
    heads = [head for table in score_tables(held, {runs["two"].measures[0]: held}) for head in table.heads]
    assert {"ECE", "test loss", "balanced accuracy", "worst task"} <= {*heads}
    assert pictures.over_stream([runs["two"]], "loss") is not None
    confusion, reliability = (pictures.of_sums(runs["two"], name) for name in ("confusion", "ece"))
    assert confusion is not None and len([axes for axes in confusion.axes if axes.images]) == 3
    assert reliability is not None and reliability.axes[0].get_xlabel() == "confidence"
    assert pictures.of_sums(runs["two"], "loss") is None


def test_a_run_that_was_stopped_and_taken_up_has_the_metrics_of_one_that_was_not(runs: dict[str, Run], tmp_path: Path):
    class Enough(Exception): ...

    def stop(event: object) -> None:
        if type(event).__name__ == "Saved" and event.step == 1:  # type: ignore[attr-defined]
            raise Enough

    made = Experiment.of(TINY, "finetune", (0, 1), **{"agenda.metrics": ALL})
    with pytest.raises(Enough):
        made.run(tmp_path / "run", device="cpu", listeners=lambda stream: [stop])
    again = open_run(made.run(tmp_path / "run", device="cpu"))
    for table in ("metrics", "metric_sums"):
        assert again.table(table).equals(runs["two"].table(table))


def test_a_run_without_end_that_is_taken_up_tells_of_each_test_once(tmp_path: Path):
    class Enough(Exception): ...

    def at(step: int) -> Callable[[object], None]:
        def stop(event: object) -> None:
            if isinstance(event, Scored) and event.step == step:
                raise Enough

        return stop

    endless = {"stream.n": None, "agenda.evaluate_ahead": 1, "agenda.save_every": 3, "agenda.metrics": ["loss"]}
    made = Experiment.of(TINY, "finetune", (0, 1), **endless)
    for folder, steps in {"cut": (4, 5), "whole": (5,)}.items():
        for step in steps:
            with pytest.raises(Enough):
                made.run(tmp_path / folder, device="cpu", listeners=lambda stream, step=step: [at(step)])
    cut, whole = (open_run(tmp_path / folder).table("metrics") for folder in ("cut", "whole"))
    assert cut.equals(whole)


def test_a_run_of_more_seeds_has_a_metric_of_r_once(tmp_path: Path):
    path = Experiment.of(TINY, "finetune", (0,), **{"agenda.metrics": WORST}).run(tmp_path / "run", device="cpu")
    done = CliRunner().invoke(main, ["extend", str(path), "--seeds", "2", "-o", str(tmp_path / "more")])
    assert done.exit_code == 0, done.output
    assert open_run(tmp_path / "more").table("metrics")["seed"].tolist() == [0, 1]


def test_a_longer_run_has_the_metrics_of_one_made_so_from_the_start(runs: dict[str, Run], tmp_path: Path):
    done = CliRunner().invoke(
        main, ["extend", str(runs["two"].path.parent), "--set", "stream.n=4", "-o", str(tmp_path / "longer")]
    )
    assert done.exit_code == 0, done.output
    longer = open_run(tmp_path / "longer")
    made = Experiment.of(TINY, "finetune", (0, 1), **{"agenda.metrics": ALL, "stream.n": 4})
    whole = open_run(made.run(tmp_path / "whole", device="cpu"))
    order = ["evaluation", "task", "metric", "seed"]
    tables = [run.table("metrics").sort_values(order, ignore_index=True) for run in (longer, whole)]
    assert tables[0].equals(tables[1])
    assert longer.table("metric_sums").equals(whole.table("metric_sums"))


def test_a_metric_of_r_that_fails_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made = Experiment.of(TINY, "finetune", **{"agenda.metrics": ["tests.test_agenda_metrics:Broken"]})
    run = open_run(made.run(tmp_path / "run", device="cpu"))
    assert run.status == "finished" and np.isnan(run.metric("tests.test_agenda_metrics:Broken")).all()
    assert "could not be computed: ZeroDivisionError: no tasks" in caplog.text


def test_seeds_that_see_tasks_of_their_own_have_metrics_of_their_own(tmp_path: Path):
    asked = {"agenda.metrics": "confusion", "stream.per_seed": True}
    run = open_run(Experiment.of(TINY, "finetune", (0, 1), **asked).run(tmp_path / "run", device="cpu"))
    for task, sums in run.metric_sums("confusion").items():
        right = sums.reshape(2, 10, 10).diagonal(axis1=1, axis2=2).sum(axis=1)
        np.testing.assert_array_equal(right, run.results["n_correct"].values[-1, task])


REFUSED = {
    "forgetting": r"'forgetting' is known of every run \(`compare --by forgetting`\)",
    "eec": "no metric named 'eec' \\(did you mean 'ece'\\?\\); there are: confusion, ece, loss",
    "ece?binz=3": r"no option named 'ece.binz' \(did you mean 'ece.bins'\?\)",
    "ece ece": "'ece' is named twice",
    "tests.own_plugins:Sign": "is not a metric: it must be a subclass",
}


@pytest.mark.parametrize("named", REFUSED)
def test_a_metric_that_is_none_is_refused_before_anything_is_learned(named: str):
    with pytest.raises(UsageError, match=REFUSED[named]):
        Experiment.of(TINY, "finetune", **{"agenda.metrics": named})


def test_a_metric_of_what_no_task_asks_for_is_refused(tmp_path: Path):
    made = Experiment.of(small.views(), "finetune", **{"agenda.metrics": "ece", "stream.views": ["depth", "vanishing"]})
    with pytest.raises(UsageError, match="'ece' cannot be told of the tasks of this stream: there is no confidence"):
        made.run(tmp_path / "run", device="cpu")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder whose modules nobody else meets."""
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    importing._files.clear()
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_example_of_the_page_runs(scratch: Path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    (scratch / "mine.py").write_text(blocks[0])
    own = ModuleType("held")
    exec(compile(blocks[1], "docs/how-to/metric.md", "exec"), vars(own))
    kinds = [kind for kind in vars(own).values() if isinstance(kind, type) and issubclass(kind, MetricContract)]
    for kind in kinds:
        if kind is not MetricContract:
            kind().test_every_option_says_what_it_means_and_it_has_a_title()
    names: dict[str, object] = {"TINY": TINY}
    exec(compile(blocks[2].replace('"demo"', "TINY"), "docs/how-to/metric.md", "exec"), names)
