"""Our strategies inside Avalanche, and Avalanche's runs in our log."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cl_engine.analysis.report.page import write_report
from cl_engine.core.state import bytes_by_part
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import TaskLearned, cells
from cl_engine.experiment import Experiment
from cl_engine.interop.avalanche import Hdf5Logger, as_avalanche, from_avalanche, seeded, to_avalanche
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.snapshot import held_bytes, taken
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.scenario import Scenario
from tests import avalanche_of_users as users
from tests.conftest import STRATEGIES_IN_SETTINGS

with quietly():
    from avalanche.evaluation.metrics import (
        accuracy_metrics,
        bwt_metrics,
        forgetting_metrics,
        loss_metrics,
        timing_metrics,
    )
    from avalanche.logging import CSVLogger, InteractiveLogger, TensorboardLogger, TextLogger
    from avalanche.models import MTSimpleMLP, SimpleMLP
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import EWC, Replay

Tiny = Callable[..., Experiment]
NET = {"name": "mlp", "hidden": [12]}
TRAIN = {"epochs": 2, "batch": 20, "lr": 0.05}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quietly():
        yield


def evaluator(*metrics: Any, loggers: list[Any] | None = None) -> Any:
    return EvaluationPlugin(*metrics, loggers=loggers or [])


ASIDE = [name for name, _ in STRATEGIES_IN_SETTINGS if plugins.load("strategies", name).needs_validation]


@pytest.mark.parametrize(("name", "setting"), [pair for pair in STRATEGIES_IN_SETTINGS if pair[0] not in ASIDE])
def test_a_strategy_answers_in_avalanche_as_in_the_engine(tiny: Tiny, name: str, setting: str):
    experiment = tiny(name, (3,), **{"stream.setting": setting, "agenda.evaluate_ahead": 2})
    stream, engine = experiment.stream(), experiment.build_strategy(experiment.stream())
    benchmark = to_avalanche(stream)
    before = torch.get_rng_state()
    learner = as_avalanche(
        experiment.build_strategy(experiment.stream()),
        benchmark=benchmark,
        evaluator=evaluator(),
        stream={"setting": setting},
    )
    theirs = iter(benchmark.train_stream)
    for event in simulate(stream, engine, plan(stream, experiment.agenda)):
        if isinstance(event, TaskLearned):
            learner.train(next(theirs))
            for task in range(3):
                told = task if setting == "task" else None
                x = learner.stream.test(task).x
                assert torch.equal(engine.predict(x, told), learner.strategy.predict(x, told))
    assert torch.equal(before, torch.get_rng_state())
    assert bytes_by_part(learner.strategy.state).keys() == bytes_by_part(engine.state).keys()


def test_a_module_is_taken_for_a_net_which_starts_from_its_weights_and_leaves_it_as_it_is(tiny: Tiny):
    benchmark = to_avalanche(tiny("finetune", (0,)).stream())
    model = SimpleMLP(num_classes=10, input_size=64, hidden_size=12)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    learner = as_avalanche("finetune", benchmark=benchmark, net=model, train=TRAIN, evaluator=evaluator())
    weights = {**learner.strategy.net.module(0).state_dict()}
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())
    learner.train(next(iter(benchmark.train_stream)))
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in before.items())
    assert not torch.equal(learner.strategy.state["net"]["features.0.weight"], before["features.0.weight"])


def test_a_multi_task_module_and_a_name_are_taken_for_nets_too(tiny: Tiny):
    benchmark = to_avalanche(tiny("finetune", (0,)).stream())
    for net, width in {MTSimpleMLP(input_size=64, hidden_size=13): 13, "mlp": 256}.items():
        learner = as_avalanche("finetune", benchmark=benchmark, net=net, train=TRAIN, evaluator=evaluator())
        learner.train(next(iter(benchmark.train_stream)))
        x = learner.stream.test(0).x
        assert learner.strategy.predict(x, 0).isfinite().all()
        assert any(width in shape for shape in learner.strategy.net.shapes.values())


def _fails() -> nn.Module:
    raise KeyError("hidden")


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (3, r"net: found a int; a table is allowed, .*, a name, an nn\.Module, or what builds one"),
        (lambda: 3, r"net: what is to build the module returned a int, not an nn\.Module"),
        (_fails, r"net: what is to build the module raised KeyError: 'hidden'"),
        ("mpl", r"no net named 'mpl' \(did you mean 'mlp'\?\)"),
    ],
)
def test_what_is_no_net_is_refused_in_a_sentence(tiny: Tiny, net: Any, said: str):
    with pytest.raises(UsageError, match=said):
        as_avalanche("finetune", benchmark=to_avalanche(tiny("finetune", (0,)).stream()), net=net, train=TRAIN)


def test_what_is_no_experience_or_stream_is_refused_in_a_sentence(tiny: Tiny):
    benchmark = to_avalanche(tiny("finetune", (0,)).stream())
    learner = as_avalanche("finetune", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator())
    for odd, kind in ((3, "int"), (None, "NoneType"), ([3], "int"), ("train", "str"), (benchmark, "TensorBenchmark")):
        for method in (learner.train, learner.eval):
            with pytest.raises(
                UsageError, match=f"{method.__name__}: found a {kind} among .*; an experience of a benchmark"
            ):
                method(odd)
    with pytest.raises(UsageError, match="to_avalanche: found a int; a stream is allowed"):
        to_avalanche(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="strategy: found a int; a name is allowed, or a strategy with one seed"):
        as_avalanche(3, benchmark=benchmark, net=NET)  # type: ignore[arg-type]


def test_training_is_kept_up_in_avalanche_as_in_the_engine(tiny: Tiny):
    benchmark, weights = to_avalanche(tiny("finetune", (0,)).stream()), {}
    for upkeep in ("", "l2_init?strength=10.0"):
        train = {**TRAIN, "upkeep": upkeep}
        learner = as_avalanche("finetune", benchmark=benchmark, net=NET, train=train, evaluator=evaluator())
        learner.train(next(iter(benchmark.train_stream)))
        weights[upkeep] = learner.strategy.state["net"]["1.weight"]
    assert not torch.equal(*weights.values())


def test_what_a_strategy_cannot_learn_is_refused_in_avalanche_as_in_the_engine(tiny: Tiny):
    benchmark = to_avalanche(tiny("finetune", (0,)).stream())
    with pytest.raises(UsageError, match="needs a pre-trained net"):
        as_avalanche("adapt", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator())


@pytest.mark.parametrize("name", ASIDE)
def test_a_strategy_that_decides_on_validation_rows_says_so_and_learns_where_some_are_set_aside(tiny: Tiny, name: str):
    experiment = tiny(name, (3,))
    benchmark = to_avalanche(experiment.stream())

    def learner(**stream: Any) -> Any:
        built = experiment.build_strategy(experiment.stream())
        return as_avalanche(built, benchmark=benchmark, evaluator=evaluator(), stream=stream)

    with pytest.raises(UsageError, match=r"stream\.validation"):
        learner().train(next(iter(benchmark.train_stream)))
    learning = learner(validation=0.2)
    learning.train(next(iter(benchmark.train_stream)))
    assert learning.strategy.predict(learning.stream.test(0).x, 0).isfinite().all()


def test_rows_reach_a_strategy_in_a_drawn_order_and_their_answers_go_back_to_them(tiny: Tiny):
    experiment = tiny("finetune", (0,), **{"stream.setting": "domain", "stream.n": 2})
    benchmark = to_avalanche(experiment.stream())
    learner = as_avalanche(
        experiment.build_strategy(experiment.stream()),
        benchmark=benchmark,
        evaluator=evaluator(),
        stream={"setting": "domain"},
    )
    learner.train(benchmark.train_stream[0])
    y = benchmark.test_stream[0].dataset.targets
    assert list(y) != sorted(y)
    asked: list[torch.Tensor] = []
    x, predict = learner.stream.test(0).x, learner.strategy.predict
    learner.strategy.predict = lambda x, task_id: (asked.append(x), predict(x, task_id))[1]  # type: ignore[method-assign]
    kinds = torch.zeros(len(x), dtype=torch.int64)
    torch.testing.assert_close(learner._present(x, kinds), predict(x, None)[0])
    [given] = asked
    assert not torch.equal(given, x)
    assert sorted(map(tuple, given.flatten(1).tolist())) == sorted(map(tuple, x.flatten(1).tolist()))


@pytest.mark.parametrize("setting", ["task", "domain", "class"])
def test_the_accuracy_avalanche_reports_is_r(tiny: Tiny, setting: str):
    experiment = tiny("replay", (0,), **{"stream.name": "split", "stream.setting": setting, "stream.n": 3})
    stream = experiment.stream()
    events = simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda))
    r = {(e.step, e.task_id): e.n_correct[0] / e.n_total for event in events for e in cells(event)}
    benchmark = to_avalanche(stream)
    learner = as_avalanche(
        "replay",
        benchmark=benchmark,
        net=experiment.resolved["net"],
        train=experiment.resolved["train"],
        evaluator=evaluator(accuracy_metrics(experience=True)),
        stream={"setting": setting},
    )
    for step, experience in enumerate(benchmark.train_stream):
        learner.train(experience)
        found = learner.eval(benchmark.test_stream)
        for task in range(step + 1):
            share = next(value for key, value in found.items() if key.endswith(f"Exp{task:03d}"))
            assert share == pytest.approx(r[step, task])


def test_global_labels_and_task_labels_are_answered_in_the_benchmarks_own_words():
    benchmark = users.split_digits(task_labels=True)
    learner = as_avalanche(
        "finetune", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator(accuracy_metrics(experience=True))
    )
    learner.train(benchmark.train_stream)
    found = learner.eval(benchmark.test_stream)
    stream = from_avalanche(benchmark)
    for task in range(5):
        test = stream.test(task)
        right = (learner.strategy.predict(test.x, task)[0].argmax(dim=1) == test.y).float().mean()
        share = next(value for key, value in found.items() if key.endswith(f"Exp{task:03d}"))
        assert share == pytest.approx(float(right))
        assert share > 0.4


def test_metrics_and_loggers_of_avalanche_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text, benchmark = StringIO(), users.split_digits()
    loggers = [TextLogger(text), CSVLogger(str(tmp_path / "csv")), TensorboardLogger(str(tmp_path / "tb"))]
    metrics = evaluator(
        accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        loss_metrics(epoch=True),
        forgetting_metrics(experience=True, stream=True),
        bwt_metrics(stream=True),
        timing_metrics(epoch=True, experience=True),
        loggers=[*loggers, InteractiveLogger()],
    )
    train = {"epochs": 8, "batch": 20, "lr": 0.2}
    learner = as_avalanche("finetune", benchmark=benchmark, net=NET, train=train, evaluator=metrics)
    for experience in benchmark.train_stream:
        learner.train(experience)
        found = learner.eval(benchmark.test_stream)
    forgetting = found["StreamForgetting/eval_phase/test_stream"]
    assert forgetting > 0.1
    assert found["StreamBWT/eval_phase/test_stream"] == pytest.approx(-forgetting)
    assert found["Top1_Acc_Epoch/train_phase/train_stream/Task000"] > 0.5
    assert 0 < found["Loss_Epoch/train_phase/train_stream/Task000"] < 2
    assert found["Time_Epoch/train_phase/train_stream/Task000"] > 0
    assert "StreamForgetting/eval_phase/test_stream" in text.getvalue()
    assert len((tmp_path / "csv" / "eval_results.csv").read_text().splitlines()) == 26
    assert list((tmp_path / "tb").rglob("events.out*"))
    loggers[1].close()
    loggers[2].writer.close()


def test_plug_ins_are_called_at_the_documented_points_with_what_is_at_hand():
    users.CALLED.clear()
    benchmark, shown = users.split_digits(), []

    class Looks(users.SupervisedPlugin):
        def after_forward(self, strategy: Any, **more: Any) -> None:
            shown.append((tuple(strategy.mb_x.shape), tuple(strategy.mb_output.shape), float(strategy.loss)))

    learner = as_avalanche(
        "replay", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator(), plugins=[users.Spy(), Looks()]
    )
    learner.train(benchmark.train_stream[:2])
    calls = users.CALLED[::2]  # Avalanche asks for each point twice: whether it is there, and to call it
    iteration = ["before_training_iteration", "before_forward", "after_forward", "before_backward", "after_backward"]
    iteration += ["before_update", "after_update", "after_training_iteration"]
    rows = len(benchmark.train_stream[0].dataset)
    batches = -(-rows // 20)
    epoch = ["before_training_epoch", *iteration * batches, "after_training_epoch"]
    adapted = ["before_train_dataset_adaptation", "after_train_dataset_adaptation"]
    start = calls.index("before_training")
    experience = [*adapted, "before_training_exp", *epoch * 2, "after_training_exp"]
    assert calls[start : start + 1 + len(experience)] == ["before_training", *experience]
    assert calls[-1] == "after_training"
    assert calls.count("before_training_exp") == 2
    assert shown[0][0] == (20, 1, 8, 8)
    assert all(output == (x[0], 10) and loss > 0 for x, output, loss in shown)
    assert learner.clock.train_exp_counter == 2


def test_a_learner_is_saved_and_loaded_through_its_state(tmp_path: Path):
    benchmark = users.split_digits()

    def made() -> Any:
        return as_avalanche("replay", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator(), samples=20)

    whole, half = made(), made()
    half.train(benchmark.train_stream[:2])
    half.save(tmp_path / "learner")
    again = made()
    again.load(tmp_path / "learner")
    assert again.clock.train_exp_counter == 2
    again.train(benchmark.train_stream[2:])
    whole.train(benchmark.train_stream)
    x = whole.stream.test(0).x
    assert torch.equal(whole.strategy.predict(x, None), again.strategy.predict(x, None))
    (tmp_path / "other").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="damaged or is no checkpoint"):
        again.load(tmp_path / "other")


def test_tasks_in_another_order_and_parts_of_a_stream_are_learned():
    benchmark = users.split_digits(task_labels=True)
    learner = as_avalanche("finetune", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator())
    for step in (3, 0, 3):
        learner.train(benchmark.train_stream[step])
    assert len(learner.strategy.state["heads"]) == 2
    assert learner.eval(benchmark.test_stream) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"strategy": "replya"}, "did you mean 'replay'"),
        ({"net": None}, "net is missing"),
        ({"net": {"hidden": [3]}}, "net.name is missing"),
        ({"train": {"epoch": 1}}, "did you mean 'train.epochs'"),
        ({"sample": 3}, "no option named 'sample'"),
        ({"strategy": "piggyback"}, "must be told the task"),
        ({"stream": {"benchmrk": 3}}, "no option named 'stream.benchmrk'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(arguments: dict[str, Any], sentence: str):
    given = {"strategy": "replay", "net": NET, "train": TRAIN, **arguments}
    with pytest.raises(UsageError, match=sentence):
        as_avalanche(given.pop("strategy"), benchmark=users.split_digits(), evaluator=evaluator(), **given)


def test_a_module_and_a_strategy_object_serve_too(tiny: Tiny):
    benchmark = users.split_digits()

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))

    learner = as_avalanche("finetune", benchmark=benchmark, net=build, train=TRAIN, evaluator=evaluator())
    learner.train(benchmark.train_stream[0])
    assert learner.model(learner.stream.test(0).x).shape[1] == 10
    two = tiny("finetune").build_strategy(tiny("finetune").stream())
    with pytest.raises(UsageError, match="inside Avalanche a strategy has one seed"):
        as_avalanche(two, benchmark=benchmark)
    with pytest.raises(UsageError, match="brings its net"):
        as_avalanche(two, benchmark=benchmark, net=NET)


def test_rows_of_the_benchmark_itself_give_a_plain_scripts_numbers():
    tables = {
        "stream": {"name": "avalanche", "benchmark": "tests.avalanche_of_users:split_digits"},
        "net": NET,
        "train": {"epochs": 2, "batch": 20, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9},
    }
    experiment = Experiment.of(Scenario.of("own", tables), "avalanche:Replay", mem_size=30)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    events = simulate(stream, strategy, plan(stream, experiment.agenda))
    ours = {(e.step, e.task_id): e.n_correct[0] / e.n_total for event in events for e in cells(event)}
    benchmark, theirs = users.split_digits(), {}
    with seeded(0):
        model = strategy.net._build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        metrics = evaluator(accuracy_metrics(experience=True))
        loss = nn.CrossEntropyLoss()
        plain = Replay(
            model=model,
            optimizer=optimizer,
            criterion=loss,
            mem_size=30,
            train_mb_size=20,
            train_epochs=2,
            evaluator=metrics,
        )
    for step, experience in enumerate(benchmark.train_stream):
        with seeded(0, step):
            plain.train(experience, eval_streams=[])
        with torch.random.fork_rng():
            found = plain.eval(benchmark.test_stream)
        for task in range(step + 1):
            theirs[step, task] = next(value for key, value in found.items() if key.endswith(f"Exp{task:03d}"))
    assert theirs == pytest.approx(ours)


# The log


def logged(folder: Path, strategy: str = "EWC", **more: Any) -> Any:
    """Run a plain Avalanche script with the logger; return the last metrics."""
    benchmark = users.split_digits()
    with seeded(0), Hdf5Logger(folder, scenario="digits", **more) as log:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        made = {"train_mb_size": 20, "train_epochs": 2, "eval_mb_size": 64}
        plain = EWC(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=nn.CrossEntropyLoss(),
            ewc_lambda=0.1,
            eval_every=1,
            evaluator=evaluator(
                accuracy_metrics(experience=True),
                bwt_metrics(stream=True),
                forgetting_metrics(stream=True),
                loss_metrics(epoch=True),
                loggers=[log],
            ),
            **made,
        )
        losses, rows = [], []
        for experience in benchmark.train_stream:
            plain.train(experience, eval_streams=[benchmark.test_stream[experience.current_experience]])
            losses.append(plain.evaluator.get_last_metrics()["Loss_Epoch/train_phase/train_stream/Task000"])
            found = plain.eval(benchmark.test_stream)
            rows.append([found[f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{k:03d}"] for k in range(5)])
    return np.array(rows), losses, found


def test_a_plain_script_writes_our_log(tmp_path: Path):
    rows, losses, found = logged(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert (run.status, run.strategy, run.scenario) == ("finished", "EWC", "digits")
    full = run.results.accuracy.values[-5:, :, 0]
    assert full == pytest.approx(rows)
    assert run.results.evaluation_step.values[-5:].tolist() == list(range(5))
    assert run.final.bwt.values[0] == pytest.approx(found["StreamBWT/eval_phase/test_stream"], abs=1e-5)
    epochs = run.table("epochs")
    assert epochs[epochs.epoch == 1].loss.tolist() == pytest.approx(losses, rel=1e-4)
    assert run.table("experiences").rows.sum() == 300
    memory = run.results.memory.sel(part="ewc").values
    assert memory.tolist() == [2 * 4 * 650 * (step + 1) for step in range(5)]
    curves = run.table("curves")
    assert set(curves.task) == set(range(5))


def test_the_memory_that_is_logged_is_that_of_all_rows_though_one_is_read():
    benchmark = users.split_digits()
    with seeded(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        strategy = Replay(
            model=model, optimizer=optimizer, criterion=nn.CrossEntropyLoss(), mem_size=30, evaluator=evaluator()
        )
        strategy.train(benchmark.train_stream[:2])
    whole = {part: sum(t.numel() * t.element_size() for t in held) for part, held in taken(strategy).tensors.items()}
    assert held_bytes(strategy) == whole
    assert whole["buffer"] == 30 * (64 * 4 + 8 + 8)


@pytest.mark.usefixtures("without_drawing")
def test_our_runs_and_theirs_stand_in_one_report(tmp_path: Path):
    logged(tmp_path / "plain")
    benchmark = users.split_digits()
    with Hdf5Logger(tmp_path / "ours", scenario="digits", strategy="replay") as log:
        learner = as_avalanche("replay", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator(loggers=[log]))
        for experience in benchmark.train_stream:
            learner.train(experience)
            learner.eval(benchmark.test_stream)
    tables = {
        "stream": {"name": "avalanche", "benchmark": "tests.avalanche_of_users:split_digits"},
        "net": NET,
        "train": TRAIN,
    }
    scenario = Scenario.of("digits", tables)
    Experiment.of(scenario, "avalanche:Replay", mem_size=30).run(tmp_path / "guest")
    Experiment.of(scenario, "replay").run(tmp_path / "engine")
    runs = [open_run(tmp_path / name) for name in ("plain", "ours", "guest", "engine")]
    assert np.array_equal(runs[1].results.accuracy[-1], runs[3].results.accuracy[-1])
    assert runs[1].results.memory[-1].values.sum() > 0
    page = write_report(runs, tmp_path / "report.html").read_text()
    assert all(name in page for name in ("EWC", "avalanche:Replay", "replay"))


def test_a_log_that_is_there_is_not_written_over_unasked(tmp_path: Path):
    logged(tmp_path / "run")
    with pytest.raises(UsageError, match="holds a log already"):
        Hdf5Logger(tmp_path / "run")
    logged(tmp_path / "run", fresh=True)
    assert open_run(tmp_path / "run").status == "finished"


def test_a_script_that_fails_leaves_a_log_that_says_so(tmp_path: Path):
    benchmark = users.split_digits()
    with pytest.raises(ZeroDivisionError), Hdf5Logger(tmp_path / "run") as log:
        learner = as_avalanche(
            "finetune", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator(loggers=[log])
        )
        learner.train(benchmark.train_stream[0])
        raise ZeroDivisionError
    run = open_run(tmp_path / "run")
    assert run.status == "failed"
    assert len(run.learned) == 0  # learned, and not tested before the end


def test_repeated_task_labels_are_one_task_in_the_log(tmp_path: Path):
    benchmark = to_avalanche(from_avalanche(users.repeated_digits()))
    with Hdf5Logger(tmp_path / "run") as log:
        learner = as_avalanche(
            "finetune", benchmark=benchmark, net=NET, train=TRAIN, evaluator=evaluator(loggers=[log])
        )
        for experience in benchmark.train_stream:
            learner.train(experience)
            learner.eval(benchmark.test_stream)
    run = open_run(tmp_path / "run")
    assert run.results.experience_task.values.tolist() == [0, 1, 0]
    assert run.results.sizes["task"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("script", ["avalanche_getting_started", "avalanche_multihead"])
def test_the_example_scripts_run(
    script: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    out = {"avalanche_getting_started": "--log", "avalanche_multihead": "--out"}[script]
    arguments = ["--data-root", str(data_root), "--samples-per-class", "50", out, str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [script, *arguments])
    with seeded(0):
        runpy.run_path(str(Path(__file__).parents[1] / "docs" / "examples" / f"{script}.py"), run_name="__main__")
    assert "Top1_Acc_Stream/eval_phase/test_stream" in capsys.readouterr().out
    if out == "--out":
        run = open_run(tmp_path / "out")
        assert float(run.final.acc.values[0]) > 0.8
        assert float(run.final.forgetting.values[0]) == 0.0
