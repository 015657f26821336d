"""Logs of Avalanche scripts, protocol by protocol: R, ACC and BWT are what Avalanche's own metrics say of the same run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dill
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from cl_engine.analysis.comparison.compare import compared
from cl_engine.analysis.discovery import find_runs
from cl_engine.analysis.live.snapshot import snapshot
from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.report.terminal import print_run
from cl_engine.analysis.scores.run_scores import recomputed
from cl_engine.errors import UsageError
from cl_engine.export.registry import exported
from cl_engine.interop.avalanche import Hdf5Logger, seeded
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.rows import dataset_of
from cl_engine.results.run import Run, open_run

with quietly():
    from avalanche.benchmarks import (
        CLScenario,
        CLStream,
        DatasetExperience,
        OnlineCLScenario,
        benchmark_from_datasets,
        benchmark_with_validation_stream,
        class_incremental_benchmark,
        data_incremental_benchmark,
        nc_benchmark,
        new_instances_benchmark,
        ni_benchmark,
        split_continuous_linear_decay_stream,
        split_online_stream,
    )
    from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
    from avalanche.evaluation.metrics import BWT, accuracy_metrics, bwt_metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Cumulative, JointTraining, Naive, Replay

pytestmark = [  # said by Avalanche of its own ways to make benchmarks
    pytest.mark.filterwarnings("ignore:Deprecated. Use `split_online_stream`"),
    pytest.mark.filterwarnings("ignore:stream generator will be converted to a list"),
]
Rows = list[dict[int, float]]  # accuracy by test experience, for every row of R


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quietly():
        yield


def rows_of(n: int, seed: int, shift: int = 0) -> TensorDataset:
    """Return points around ten centres, moved on by ``shift`` for another domain."""
    draws, centres = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(5)
    y = torch.arange(n) % 10
    x = 2 * torch.randn(10, 6, generator=centres)[(y + shift) % 10] + torch.randn(n, 6, generator=draws)
    found = TensorDataset(x, y)
    found.targets = y.tolist()  # type: ignore[attr-defined]
    return found


def classes(labels: bool = False) -> Any:
    return nc_benchmark(rows_of(100, 0), rows_of(50, 1), 5, task_labels=labels, seed=3)


def domains(n: int = 3) -> Any:
    parts = [[dataset_of(*rows_of(rows, seed, k).tensors, 0) for k in range(n)] for rows, seed in ((40, 0), (20, 1))]
    return benchmark_from_datasets(train=parts[0], test=parts[1])


def in_pieces(benchmark: Any, pieces: int = 2) -> Any:
    """Return a benchmark whose training experiences are cut into pieces that tell of nothing."""
    cut = []
    for experience in benchmark.train_stream:
        size = len(experience.dataset) // pieces
        cut += [experience.dataset.subset(range(k * size, (k + 1) * size)) for k in range(pieces)]
    return benchmark_from_datasets(train=cut, test=[experience.dataset for experience in benchmark.test_stream])


def generated(benchmark: Any) -> Any:
    """Return a benchmark whose streams are made as they go, and do not know how long they are."""

    def stream(name: str) -> Any:
        held = list(benchmark.streams[name])
        return CLStream(name, (DatasetExperience(dataset=experience.dataset) for experience in held))

    return CLScenario([stream("train"), stream("test")])


class Script:
    """A script: a strategy with the logger, and what Avalanche's metrics said in every evaluation outside of training."""

    def __init__(self, folder: Path, kind: Any = Naive, **more: Any) -> None:
        self.folder = folder
        self.log = Hdf5Logger(folder, scenario=folder.name)
        self.strategy = self.made(self.log, kind, **more)
        self.rows: Rows = []
        self.said: dict[str, Any] = {}

    @staticmethod
    def made(log: Hdf5Logger, kind: Any = Naive, **more: Any) -> Any:
        model = nn.Linear(6, 10)
        metrics = (accuracy_metrics(experience=True, stream=True), bwt_metrics(experience=True, stream=True))
        return kind(
            **{
                "model": model,
                "optimizer": torch.optim.SGD(model.parameters(), 0.1),
                "criterion": nn.CrossEntropyLoss(),
            },
            **{"train_mb_size": 10, "train_epochs": 2, "eval_mb_size": 64, **more},
            evaluator=EvaluationPlugin(*metrics, loggers=[log]),
        )

    def train(self, experience: Any, eval_streams: Any = ()) -> None:
        self.strategy.train(experience, eval_streams=list(eval_streams))

    def eval(self, stream: Any, same_row: bool = False) -> None:
        self.strategy.evaluator.reset_last_metrics()
        self.said = self.strategy.eval(stream)
        found = {
            int(name[-3:]): float(value)
            for name, value in self.said.items()
            if name.startswith("Top1_Acc_Exp/eval_phase") and "test_stream/" in name
        }
        self.rows = [*self.rows[:-1], self.rows[-1] | found] if same_row else [*self.rows, found]


Play = Callable[[Script], list[int]]  # runs a script; returns after which experience of the log each row was


def every_test(script: Script, benchmark: Any) -> list[int]:
    for experience in benchmark.train_stream:
        script.train(experience)
        script.eval(benchmark.test_stream)
    return list(range(len(script.rows)))


def each_test_alone(script: Script) -> list[int]:
    benchmark = classes()
    for experience in benchmark.train_stream:
        script.train(experience)
        for number, test in enumerate(benchmark.test_stream):
            script.eval(test, same_row=number > 0)
    return [0, 1, 2, 3, 4]


def what_was_seen_tested(script: Script) -> list[int]:
    benchmark = domains(4)
    for step, experience in enumerate(benchmark.train_stream):
        script.train(experience)
        script.eval(benchmark.test_stream[: step + 1])
    return [0, 1, 2, 3]


def every_second_test(script: Script) -> list[int]:
    benchmark = classes()
    for step, experience in enumerate(benchmark.train_stream):
        script.train(experience)
        if step % 2 == 0:
            script.eval(benchmark.test_stream)
    return [0, 2, 4]


def one_test_at_the_end(script: Script) -> list[int]:
    benchmark = classes()
    script.train(benchmark.train_stream)
    script.eval(benchmark.test_stream)
    return [4]


def a_test_before_training(script: Script) -> list[int]:
    benchmark = classes()
    script.eval(benchmark.test_stream)
    return [step - 1 for step in every_test(script, benchmark)]


def in_another_order(script: Script) -> list[int]:
    benchmark = classes()
    for step in (3, 0, 3):
        script.train(benchmark.train_stream[step])
        script.eval(benchmark.test_stream)
    return [0, 1, 2]


def an_experience_in_pieces(script: Script) -> list[int]:
    benchmark = classes()
    for experience in benchmark.train_stream:
        script.train(split_online_stream([experience], experience_size=5))
        script.eval(benchmark.test_stream)
    return [0, 1, 2, 3, 4]


def pieces_that_leave_rows_out(script: Script) -> list[int]:
    benchmark = domains()
    for experience in benchmark.train_stream:
        script.train(split_online_stream([experience], experience_size=15, drop_last=True))
        script.eval(benchmark.test_stream)
    return [0, 1, 2]


def pieces_broken_off(script: Script) -> list[int]:
    benchmark = classes()
    for experience in benchmark.train_stream:
        for piece, _ in zip(split_online_stream([experience], experience_size=5), range(2), strict=False):
            script.train(piece)
        script.eval(benchmark.test_stream)
    return [0, 1, 2, 3, 4]


def every_piece_tested(script: Script) -> list[int]:
    benchmark = classes()
    for number, piece in enumerate(split_online_stream(benchmark.train_stream, experience_size=5)):
        script.train(piece)
        script.eval(benchmark.test_stream)
        if number % 4 < 3:
            script.rows.pop()  # a point of a learning curve: an experience is four pieces
    return [0, 1, 2, 3, 4]


def an_online_benchmark(script: Script) -> list[int]:
    whole = benchmark_from_datasets(
        train=[experience.dataset for experience in classes().train_stream],
        test=[experience.dataset for experience in classes().test_stream],
    )
    benchmark = OnlineCLScenario(list(whole.streams.values()), experience_size=5)
    script.train(benchmark.streams["train_online"])
    script.eval(benchmark.streams["original_test"])
    return [4]


def pieces_without_boundaries(script: Script) -> list[int]:
    benchmark = classes()
    torch.manual_seed(0)
    stream = split_continuous_linear_decay_stream(benchmark.train_stream, 10, 4, beta=4, shuffle=True)
    pieces = list(stream)
    for start in range(0, 20, 5):
        for piece in pieces[start : start + 5]:
            script.train(piece)
        script.eval(benchmark.test_stream)
    script.log.close()
    tasks = open_run(script.folder).results.experience_task.values.tolist()
    assert sorted(set(tasks)) == [0, 1, 2, 3, 4]
    return open_run(script.folder).results.evaluation_step.values.tolist()


def all_at_once(script: Script) -> list[int]:
    return one_test_at_the_end(script)


def a_validation_stream(script: Script) -> list[int]:
    benchmark = benchmark_with_validation_stream(classes(), 0.2, seed=0)
    for step, experience in enumerate(benchmark.train_stream):
        script.train(experience, [benchmark.valid_stream])
        script.strategy.eval(benchmark.valid_stream[: step + 1])
        script.eval(benchmark.test_stream)
    return [0, 1, 2, 3, 4]


def several_streams_midway(script: Script) -> list[int]:
    benchmark = benchmark_with_validation_stream(classes(), 0.2, seed=0)
    for step, experience in enumerate(benchmark.train_stream):
        if step == 0:  # before the first experience the untrained learner is tested, which is a row
            script.eval(benchmark.test_stream)
        script.train(experience, [benchmark.test_stream, benchmark.valid_stream, benchmark.train_stream])
        script.eval(benchmark.test_stream)
    return [-1, 0, 1, 2, 3, 4]


def only_in_training_tested(script: Script) -> list[int]:
    """Read the rows from all values of the metrics: the last of each experience is that after it."""
    benchmark = classes()
    for experience in benchmark.train_stream:
        script.train(experience, [benchmark.test_stream])
    held = script.strategy.evaluator.get_all_metrics()
    names = {index: f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{index:03d}" for index in range(5)}
    found = np.array(
        [held[name][1] for name in names.values()]
    )  # before, and after each of two epochs, each experience
    script.rows = [dict(enumerate(found[:, k])) for k in (0, 2, 5, 8, 11, 14)]
    script.said = script.strategy.evaluator.get_last_metrics()
    return [-1, 0, 1, 2, 3, 4]


def a_test_after_every_piece_in_training(script: Script) -> list[int]:
    benchmark = classes()
    script.train(split_online_stream(benchmark.train_stream, experience_size=10), [benchmark.test_stream])
    held = script.strategy.evaluator.get_all_metrics()
    names = [f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{index:03d}" for index in range(5)]
    found = np.array([held[name][1] for name in names])
    script.rows = [dict(enumerate(found[:, k])) for k in (0, 2, 4, 6, 8, 10)]
    script.said = script.strategy.evaluator.get_last_metrics()
    return [-1, 0, 1, 2, 3, 4]


def saved_and_loaded(script: Script) -> list[int]:
    """Stop after the third experience, trained but not yet saved, and start the script again."""
    benchmark = classes()
    file = script.folder.parent / f"{script.folder.name}.pkl"
    for step, experience in enumerate(benchmark.train_stream[:3]):
        script.train(experience)
        script.eval(benchmark.test_stream)
        if step == 1:
            save_checkpoint(script.strategy, file)
    script.log.close("stopped")
    del script.rows[2:]
    script.log = Hdf5Logger(script.folder, scenario=script.folder.name)
    script.strategy, start = maybe_load_checkpoint(Script.made(script.log), file)
    assert start == 2
    for experience in benchmark.train_stream[start:]:
        script.train(experience)
        script.eval(benchmark.test_stream)
    return [0, 1, 2, 3, 4]


def saved_between_training_and_test(script: Script) -> list[int]:
    benchmark, file = classes(), script.folder.parent / f"{script.folder.name}.pkl"
    script.train(benchmark.train_stream[0])
    save_checkpoint(script.strategy, file)
    script.eval(benchmark.test_stream)
    script.train(benchmark.train_stream[1])
    script.log.close("failed")
    script.rows.clear()
    script.log = Hdf5Logger(script.folder, scenario=script.folder.name)
    script.strategy, _ = maybe_load_checkpoint(Script.made(script.log), file)
    script.eval(benchmark.test_stream)
    for experience in benchmark.train_stream[1:]:
        script.train(experience)
        script.eval(benchmark.test_stream)
    return [0, 1, 2, 3, 4]


ONCE, TWICE = {"train_epochs": 1}, {"eval_every": 1}
IN_ORDER, ONE_TASK = [0, 1, 2, 3, 4], [0, 0, 0, 0]
# protocol: what runs, the strategy and its options, the tasks of the experiences in the log (None: looked at above)
PROTOCOLS: dict[str, tuple[Play, dict[str, Any], list[int] | None]] = {
    "classes": (lambda s: every_test(s, classes()), {}, IN_ORDER),
    "classes, benchmark without attributes": (
        lambda s: every_test(
            s, class_incremental_benchmark({"train": as_data(100, 0), "test": as_data(50, 1)}, num_experiences=5)
        ),
        {},
        IN_ORDER,
    ),
    "classes, streams made as they go": (lambda s: every_test(s, generated(classes())), {}, IN_ORDER),
    "domains": (lambda s: every_test(s, domains()), {}, [0, 1, 2]),
    "tasks": (lambda s: every_test(s, classes(labels=True)), {}, IN_ORDER),
    "instances": (
        lambda s: every_test(s, ni_benchmark(rows_of(100, 0), rows_of(50, 1), n_experiences=4, seed=1)),
        {},
        ONE_TASK,
    ),
    "instances with task labels": (
        lambda s: every_test(
            s, ni_benchmark(rows_of(100, 0), rows_of(50, 1), n_experiences=4, seed=1, task_labels=True)
        ),
        {},
        ONE_TASK,
    ),
    "instances, benchmark without attributes": (
        lambda s: every_test(s, new_instances_benchmark(as_data(100, 0), as_data(50, 1), 4)),
        {},
        ONE_TASK,
    ),
    "pieces of classes": (lambda s: every_test(s, in_pieces(classes())), {}, [k // 2 for k in range(10)]),
    "pieces of classes, data-incremental": (
        lambda s: every_test(s, data_incremental_benchmark(classes(), experience_size=5)),
        {},
        [k // 4 for k in range(20)],
    ),
    "pieces of domains": (lambda s: every_test(s, in_pieces(domains(), 4)), {}, [k // 4 for k in range(12)]),
    "an experience in pieces": (an_experience_in_pieces, ONCE, IN_ORDER),
    "pieces that leave rows out": (pieces_that_leave_rows_out, ONCE, [0, 1, 2]),
    "pieces broken off": (pieces_broken_off, ONCE, IN_ORDER),
    "every piece tested": (every_piece_tested, ONCE, IN_ORDER),
    "a test after every piece in training": (
        a_test_after_every_piece_in_training,
        {**ONCE, "eval_every": 0},
        IN_ORDER,
    ),
    "an online benchmark": (an_online_benchmark, ONCE, IN_ORDER),
    "pieces without boundaries": (pieces_without_boundaries, ONCE, None),
    "all at once": (all_at_once, {"kind": JointTraining}, IN_ORDER),
    "rehearsal": (lambda s: every_test(s, classes()), {"kind": Replay, "mem_size": 20}, IN_ORDER),
    "all rows so far": (lambda s: every_test(s, classes()), {"kind": Cumulative}, IN_ORDER),
    "a validation stream": (a_validation_stream, TWICE, IN_ORDER),
    "several streams midway": (several_streams_midway, TWICE, IN_ORDER),
    "tests in training alone": (only_in_training_tested, TWICE, IN_ORDER),
    "each test alone": (each_test_alone, {}, IN_ORDER),
    "tests of what was seen": (what_was_seen_tested, {}, [0, 1, 2, 3]),
    "every second test": (every_second_test, {}, IN_ORDER),
    "one test at the end": (one_test_at_the_end, {}, IN_ORDER),
    "a test before training": (a_test_before_training, {}, IN_ORDER),
    "in another order": (in_another_order, {}, [0, 1, 0]),
    "saved and loaded": (saved_and_loaded, {}, IN_ORDER),
    "saved between training and test": (saved_between_training_and_test, {}, IN_ORDER),
}
STREAM = "Top1_Acc_Stream/eval_phase/test_stream", "Top1_Acc_Stream/eval_phase/original_test_stream"
BY_PLUG_IN = {
    *("classes", "classes, benchmark without attributes", "classes, streams made as they go", "domains", "tasks"),
    *(
        "instances, benchmark without attributes",
        "all at once",
        "rehearsal",
        "all rows so far",
        "a test before training",
    ),
    *("one test at the end", "tests in training alone", "tests of what was seen", "saved and loaded"),
    *("instances", "instances with task labels", "saved between training and test"),
}


def as_data(n: int, seed: int) -> Any:
    return dataset_of(*rows_of(n, seed).tensors, 0)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Script, list[int]]]:
    """Return what runs a protocol, once."""
    held: dict[str, tuple[Script, list[int]]] = {}

    def play(name: str) -> tuple[Script, list[int]]:
        if name not in held:
            run, more, _ = PROTOCOLS[name]
            recursing = dill.settings["recurse"]
            dill.settings["recurse"] = (
                True  # without it, save_checkpoint of 0.6 cannot pickle what recent packages hold
            )
            try:
                with seeded(0):
                    script = Script(tmp_path_factory.mktemp("logs") / name.replace(" ", "-").replace(",", ""), **more)
                    steps = run(script)
                    script.log.close()
            finally:
                dill.settings["recurse"] = recursing
            held[name] = script, steps
        return held[name]

    return play


Played = Callable[[str], tuple[Script, list[int]]]


def columns_of(run: Run) -> list[int]:
    """Return the test experience of each column of R."""
    return [int(str(name).rpartition(" ")[2]) for name in run.results.task_name.values]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_r_acc_and_bwt_are_those_of_avalanche(played: Played, name: str):
    script, steps = played(name)
    run = open_run(script.folder)
    tasks = PROTOCOLS[name][2]
    assert run.status == "finished"
    assert tasks is None or run.results.experience_task.values.tolist() == tasks
    assert run.results.evaluation_step.values.tolist() == steps
    columns = columns_of(run)
    found = run.results.accuracy.values[:, :, 0]
    expected = np.array([[row.get(test, np.nan) for test in columns] for row in script.rows])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert run.final is not None
    met = [k for k in range(len(columns)) if run.learned[k] >= 0]
    acc = float(run.final.acc[0])
    assert acc == pytest.approx(float(np.mean(expected[-1, met])), abs=1e-5)
    (stream,) = {value for key, value in script.said.items() if key.startswith(STREAM)}
    if len(met) == len(script.rows[-1]) and name != "each test alone":  # there the metric is of the last test only
        assert acc == pytest.approx(stream, abs=1e-5)  # over rows, which is the mean over tests, as all are of one size
    np.testing.assert_allclose(float(run.final.bwt[0]), bwt_of_avalanche(name, script, run), atol=1e-5)


def bwt_of_avalanche(name: str, script: Script, run: Run) -> float:
    """Return Avalanche's backward transfer at the end; NaN where it has no term, for which its stream metric says 0.

    Its plug-in goes by the numbers of training experiences, which are those of pieces where there are such, takes what it
    tested in training, and mixes streams; there its standalone metric is given the same accuracies, task by task.
    """
    if name in BY_PLUG_IN:
        terms = [key for key in script.said if key.startswith("ExperienceBWT")]
        return float(script.said["StreamBWT/eval_phase/test_stream"]) if terms else float("nan")
    metric, steps, columns = BWT(), run.results.evaluation_step.values, columns_of(run)
    old = [k for k in range(len(columns)) if 0 <= run.learned[k] < steps[-1]]
    for k in old:
        own = np.flatnonzero(steps == run.learned[k])
        if not len(own):
            return float("nan")
        metric.update(k, script.rows[own[0]][columns[k]], initial=True)
        metric.update(k, script.rows[-1][columns[k]])
    return float(np.mean(list(metric.result().values()))) if old else float("nan")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_scores_in_the_log_follow_from_its_counts(played: Played, name: str):
    run = open_run(played(name)[0].folder)
    for score, values in recomputed(run).items():
        np.testing.assert_allclose(run.results[score].values, values, err_msg=score)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_reader_reads_what_every_protocol_writes(
    played: Played, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = played(name)[0].folder
    (run,), refused = find_runs([folder])
    assert not refused
    print_run(run)
    assert "ACC" in capsys.readouterr().out
    assert snapshot(folder / "log.h5").status == "finished"
    assert compared([run]).groups
    for kind in ("csv", "l2logger", "netcdf"):
        assert list(exported([run], kind, tmp_path / kind))


def test_a_report_shows_the_oddest_of_them(played: Played, tmp_path: Path):
    names = ["all at once", "pieces of classes", "several streams midway", "instances", "pieces without boundaries"]
    runs = [open_run(played(name)[0].folder) for name in names]
    page = write_report(runs, tmp_path / "report.html").read_text()
    assert all(name.replace(" ", "-") in page for name in names)


def test_rows_trained_are_counted_once_whatever_the_pieces(played: Played):
    for name in ("classes", "an experience in pieces", "all at once", "every piece tested", "an online benchmark"):
        assert open_run(played(name)[0].folder).table("experiences")["rows"].tolist() == [20] * 5
    assert open_run(played("pieces without boundaries")[0].folder).table("experiences")["rows"].sum() == 200


def test_tests_in_training_are_points_of_learning_curves(played: Played):
    run = open_run(played("several streams midway")[0].folder)
    curves, stability = run.table("curves"), run.table("stability")
    assert curves.groupby("step")["batch"].apply(list).tolist() == [[2, 4]] * 5
    assert stability.groupby("step")["task"].nunique().tolist() == [1, 2, 3, 4]
    assert (curves["n_total"] == 10).all()
    assert open_run(played("every piece tested")[0].folder).table("curves")["batch"].tolist() == [1, 2, 3] * 5
    assert open_run(played("a validation stream")[0].folder).table("curves").empty


def test_a_log_resumed_from_a_checkpoint_is_that_of_an_undisturbed_run(played: Played):
    whole, resumed = (open_run(played(name)[0].folder) for name in ("classes", "saved and loaded"))
    assert whole.results.accuracy.shape == resumed.results.accuracy.shape
    for table in ("epochs", "experiences", "curves"):
        columns = [name for name in whole.table(table) if name not in ("seconds", "loss")]
        assert whole.table(table)[columns].equals(resumed.table(table)[columns])
    assert not list(resumed.path.parent.glob(".log.working*"))


def test_a_strategy_loaded_without_its_log_says_so(tmp_path: Path):
    def loaded(change: Callable[[], object]) -> None:
        with seeded(0), pytest.MonkeyPatch.context() as patched:
            patched.setitem(dill.settings, "recurse", True)
            script, benchmark = Script(tmp_path / "run"), classes()
            script.train(benchmark.train_stream[0])
            script.eval(benchmark.test_stream)
            save_checkpoint(script.strategy, tmp_path / "saved.pkl")
            script.log.close("stopped")
            change()
            strategy, _ = maybe_load_checkpoint(Script.made(script.log), tmp_path / "saved.pkl")
            strategy.train(benchmark.train_stream[1])

    with pytest.raises(UsageError, match="holds no log, which the strategy that was loaded has written to"):
        loaded((tmp_path / "run" / "log.h5").unlink)

    def shorter() -> None:
        (tmp_path / "run" / "log.h5").unlink()
        other = Script(tmp_path / "run")
        other.train(classes().train_stream[0])
        other.log.close("stopped")

    with pytest.raises(UsageError, match="ends before the strategy that was loaded was saved"):
        loaded(shorter)


def test_an_unfinished_log_is_refused_before_anything_is_trained(tmp_path: Path):
    script = Script(tmp_path / "run")
    script.eval(classes().test_stream)
    script.log.close("failed")
    before = (tmp_path / "run" / "log.h5").read_bytes()
    again = Script(tmp_path / "run")
    with pytest.raises(UsageError, match="holds a log already"):
        again.train(classes().train_stream[0])
    again.log.close()
    assert (tmp_path / "run" / "log.h5").read_bytes() == before


def test_a_script_that_tests_on_another_stream_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    benchmark = benchmark_with_validation_stream(classes(), 0.2, seed=0)
    script = Script(tmp_path / "run")
    script.train(benchmark.train_stream[0])
    script.strategy.eval(benchmark.valid_stream)
    with caplog.at_level(logging.WARNING, "cl_engine"):
        script.log.close()
    assert "nothing was evaluated on the stream 'test', only on valid" in caplog.text
    assert open_run(tmp_path / "run").results.experience_task.values.tolist() == [0]


def test_answers_that_are_no_classes_are_not_counted(tmp_path: Path):
    class Regresses(Naive):
        @property
        def mb_y(self) -> Any:
            return super().mb_y.float()

        def criterion(self) -> Any:
            return self.mb_output.square().mean()

    script, benchmark = Script(tmp_path / "run"), classes()
    log = script.log
    model = nn.Linear(6, 10)
    plain = Regresses(
        model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), evaluator=EvaluationPlugin(loggers=[log])
    )
    plain.train(benchmark.train_stream[0])
    plain.eval(benchmark.test_stream)
    log.close()
    assert open_run(tmp_path / "run").final is None


def test_rows_of_several_task_labels_in_one_test_experience_are_told_apart(tmp_path: Path):
    parts = [dataset_of(*rows_of(40, k, k).tensors, k) for k in range(2)]
    x, y = (torch.cat([part.tensors[k] for part in (rows_of(20, 3, 0), rows_of(10, 4, 1))]) for k in (0, 1))
    mixed = dataset_of(x, y, torch.tensor([0] * 20 + [1] * 10))
    benchmark = benchmark_from_datasets(train=parts, test=[mixed])
    script = Script(tmp_path / "run")
    every_test(script, benchmark)
    script.log.close()
    run = open_run(tmp_path / "run")
    assert run.results.task_name.values.tolist() == ["task label 0", "task label 1"]
    assert run.results.n_total.values[:, :, 0].tolist() == [[20, 10]] * 2
    share = (run.results.n_correct.values[-1, :, 0].sum()) / 30
    assert share == pytest.approx(script.rows[-1][0])


def test_experiences_that_nothing_tells_apart_are_dealt_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    whole = domains(2)
    uneven = [*in_pieces(whole).train_stream][:3]
    benchmark = benchmark_from_datasets(
        train=[experience.dataset for experience in uneven],
        test=[experience.dataset for experience in whole.test_stream],
    )
    with caplog.at_level(logging.WARNING, "cl_engine"):
        script = Script(tmp_path / "run")
        every_test(script, benchmark)
        script.log.close()
    assert "3 training and 2 test experiences are told apart by neither task labels nor classes" in caplog.text
    assert open_run(tmp_path / "run").results.experience_task.values.tolist() == [0, 0, 1]


def test_the_log_is_published_while_it_is_written(tmp_path: Path):
    script, benchmark = Script(tmp_path / "run"), classes()
    for experience in benchmark.train_stream[:2]:
        script.train(experience)
        script.eval(benchmark.test_stream)
    script.log._log._recorder.publishing = 0.0  # it is due at once; else as soon as it takes little of the time
    script.strategy.train(benchmark.train_stream[2], eval_streams=[])
    seen = open_run(tmp_path / "run")
    assert seen.status == "running"
    assert seen.results.evaluation_step.values.tolist() == [0, 1]
    assert json.loads(seen.environment["experiment"])["strategy"] == "Naive"
    script.log.close("stopped")
