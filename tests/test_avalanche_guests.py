"""Avalanche's strategies inside this engine: the same numbers as in a plain script, saved, resumed and counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cl_engine.checkpoints.file import load, save
from cl_engine.data.stream import Data
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import CurvePoint, EpochEnded, Evaluated, Event, Progress, TaskLearned, cells
from cl_engine.experiment import Experiment
from cl_engine.interop.avalanche import seeded, to_avalanche
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.recipe import BodyAndHead
from cl_engine.results.run import open_run
from cl_engine.runs import importing
from cl_engine.runs.own_code import code_of
from cl_engine.testing.logs import assert_same_facts, facts
from tests import avalanche_of_users as users

with quietly():
    import qpsolvers
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.models import as_multitask
    from avalanche.models.packnet import PackNetModel
    from avalanche.training import supervised
    from avalanche.training.plugins import EvaluationPlugin

USERS = "tests.avalanche_of_users"
Tiny = Callable[..., Experiment]
needs_quadprog = pytest.mark.skipif("quadprog" not in qpsolvers.available_solvers, reason="needs the package quadprog")
GUESTS: dict[str, dict[str, Any]] = {
    "Naive": {},
    "Cumulative": {},
    "JointTraining": {},
    "EWC": {"ewc_lambda": 0.4},
    "SynapticIntelligence": {"si_lambda": 0.1},
    "MAS": {"lambda_reg": 0.001},
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "Replay": {"mem_size": 30},
    "GEM": {"patterns_per_exp": 10},
    "AGEM": {"patterns_per_exp": 10, "sample_size": 10},
    "DER": {"mem_size": 30},
    "GDumb": {"mem_size": 30},
    "ICaRL": {"memory_size": 30, "fixed_memory": True},
    "PackNet": {"post_prune_epochs": 1, "prune_proportion": 0.5},
}
every_guest = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_quadprog if name == "GEM" else ()) for name in GUESTS]
)


@pytest.fixture(autouse=True)
def _same_global_random_state() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())


@pytest.fixture
def guest(tiny: Tiny) -> Callable[..., Experiment]:
    def make(name: str, seeds: tuple[int, ...] = (0, 1), **overrides: Any) -> Experiment:
        own = {
            "stream.name": "split",
            "stream.n": 3,
            "stream.setting": "task" if name == "PackNet" else "class",
            "train.optimizer": "sgd",
            "train.lr": 0.05,
            "train.momentum": 0.9,
            "agenda.evaluate_ahead": 0,
            "agenda.curve_batches": 0,
        }
        return tiny(f"avalanche:{name}", seeds, **own | GUESTS.get(name, {}) | overrides)

    return make


Guest = Callable[..., Experiment]


def walked(experiment: Experiment) -> tuple[Any, list[Event]]:
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    return strategy, list(simulate(stream, strategy, plan(stream, experiment.agenda), curve=experiment.curve))


def measured(events: list[Event], seed: int) -> dict[tuple[int, int], int]:
    return {(e.step, e.task_id): e.n_correct[seed] for event in events for e in cells(event)}


def in_a_plain_script(name: str, experiment: Experiment, seed: int) -> dict[tuple[int, int], int]:
    """Train and evaluate with Avalanche alone, its generators seeded like ours; return the right answers."""
    stream = experiment.stream()
    benchmark = to_avalanche(stream)
    net = experiment.build_strategy(stream).net

    def made() -> Any:
        with seeded(seed):
            model: nn.Module = net._build()
            if name == "ICaRL":
                model = BodyAndHead(model, net.head)
            elif name == "PackNet":
                model = PackNetModel(model)
            elif stream.setting == "task":
                model = as_multitask(BodyAndHead(model, net.head), "head")
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
            evaluator = EvaluationPlugin(accuracy_metrics(experience=True))
            common = {"train_mb_size": 20, "train_epochs": 2, "eval_mb_size": 7, "evaluator": evaluator}
            if name == "ICaRL":
                parts = {"feature_extractor": model.body, "classifier": model.head, "buffer_transform": None}
                return supervised.ICaRL(optimizer=optimizer, **parts, **common, **GUESTS[name])
            loss = nn.CrossEntropyLoss()
            return getattr(supervised, name)(model=model, optimizer=optimizer, criterion=loss, **common, **GUESTS[name])

    right: dict[tuple[int, int], int] = {}
    strategy = made()
    for step in range(len(benchmark.train_stream)):
        joint = name == "JointTraining"  # it trains once
        strategy = made() if joint else strategy
        with seeded(seed, step):
            strategy.train(benchmark.train_stream[0 if joint else step : step + 1], eval_streams=[])
        with torch.random.fork_rng():
            found = strategy.eval(benchmark.test_stream[: step + 1])
        for task in range(step + 1):
            share = next(value for key, value in found.items() if key.endswith(f"Exp{task:03d}"))
            right[step, task] = round(share * len(stream.test(task)))
    return right


@every_guest
def test_it_answers_as_in_a_plain_script_with_the_same_seed(guest: Guest, name: str):
    experiment = guest(name)
    _, events = walked(experiment)
    with quietly():
        assert measured(events, 1) == in_a_plain_script(name, experiment, seed=1)


@pytest.mark.parametrize("name", ["EWC", "LwF", "Replay"])
def test_with_a_head_for_each_task_too(guest: Guest, name: str):
    experiment = guest(name, **{"stream.setting": "task"})
    _, events = walked(experiment)
    with quietly():
        assert measured(events, 1) == in_a_plain_script(name, experiment, seed=1)


@pytest.mark.parametrize(
    ("name", "setting"),
    [("EWC", "task"), ("LwF", "class"), ("ICaRL", "class"), ("PackNet", "task"), ("JointTraining", "class")],
)
def test_the_model_is_a_module_of_each_task(guest: Guest, name: str, setting: str):
    experiment = guest(name, **{"stream.setting": setting, "stream.n": 2})
    strategy, _ = walked(experiment)
    stream = experiment.stream()
    for task in range(2):
        told, x = (task if setting == "task" else None), stream.test(task).x
        module = strategy.module(told, 1)
        assert module.exportable
        with torch.no_grad():
            torch.testing.assert_close(module(x), strategy.predict(x, told)[1], rtol=1e-4, atol=1e-5)


def test_a_guest_that_answers_by_more_than_its_model_is_asked_itself(guest: Guest, monkeypatch: pytest.MonkeyPatch):
    strategy, _ = walked(guest("Naive", **{"stream.n": 2, "train.epochs": 1}))
    monkeypatch.setattr("cl_engine.interop.guest_module.GuestModule.forward", lambda self, x: self.model(x) + 1)
    module, x = strategy.module(None, 1), torch.linspace(0, 1, 192).reshape(3, 1, 8, 8)
    assert not module.exportable
    assert torch.equal(module(x), strategy.predict(x, None)[1])


@every_guest
def test_a_run_that_was_cut_goes_on_to_the_same_log(guest: Guest, name: str, tmp_path: Path):
    class Cut(BaseException):
        pass

    def cutting(event: Event) -> None:
        if isinstance(event, EpochEnded) and (event.step, event.epoch) == (1, 0):
            raise Cut

    experiment = guest(name, **{"stream.n": 2})
    whole = facts(experiment.run(tmp_path / "whole") / "log.h5")
    with pytest.raises(Cut):
        experiment.run(tmp_path / "cut", listeners=lambda stream: [cutting])
    assert_same_facts(facts(experiment.run(tmp_path / "cut") / "log.h5"), whole)


@pytest.mark.parametrize("name", ["EWC", "Replay", "DER", "PackNet"])
def test_the_state_outlives_a_file_and_seeds_do_not_mix(guest: Guest, name: str, tmp_path: Path):
    experiment = guest(name)
    strategy, _ = walked(experiment)
    alone, _ = walked(guest(name, (1,)))
    stream = experiment.stream()
    for task in range(3):
        told = task if stream.setting == "task" else None
        x = stream.test(task).x
        before = strategy.predict(x, told)
        assert torch.equal(before[1], alone.predict(x, told)[0])
        assert torch.equal(before, strategy.predict(x, told))
        save(tmp_path / "state", strategy.state)
        other = experiment.build_strategy(stream)
        other.state = load(tmp_path / "state")
        assert torch.equal(before, other.predict(x, told))


def test_memory_is_what_the_strategy_holds_by_part(guest: Guest):
    weights = 64 * 12 + 12 + 12 * 10 + 10

    def learned(name: str) -> list[dict[str, int]]:
        return [e.memory for e in walked(guest(name, **{"net.hidden": [12]}))[1] if isinstance(e, TaskLearned)]

    naive, ewc, replay = learned("Naive"), learned("EWC"), learned("Replay")
    assert naive[-1]["model"] == 4 * weights
    assert naive[-1]["optimizer"] == 4 * weights  # momentum
    assert [one["ewc"] for one in ewc] == [2 * 4 * weights * (step + 1) for step in range(3)]
    row = 64 * 4 + 8 + 8
    assert [one["buffer"] for one in replay] == [min(30, 24 if k == 0 else 30) * row for k in range(3)]


def test_epochs_losses_progress_and_curves_are_told(guest: Guest):
    experiment = guest("Replay", **{"agenda.curve_epochs": 1})
    _, events = walked(experiment)
    ended = [event for event in events if isinstance(event, EpochEnded)]
    assert [(e.step, e.epoch) for e in ended] == [(step, epoch) for step in range(3) for epoch in range(2)]
    assert all(len(e.loss) == 2 and e.loss[0] != e.loss[1] for e in ended)
    curve = [event for event in events if isinstance(event, CurvePoint)]
    assert [(e.step, e.epoch) for e in curve] == [(step, epoch) for step in range(3) for epoch in range(3)]
    last = {e.step: e.n_correct for e in curve}
    tested = {e.step: e.n_correct for e in events if isinstance(e, Evaluated) and e.step == e.task_id}
    assert last == tested


@every_guest
def test_plug_ins_of_users_are_called_by_every_strategy(guest: Guest, name: str):
    users.CALLED.clear()
    walked(guest(name, (0,), plugins=[f"{USERS}:Spy"]))
    documented = ["before_training", "before_training_exp", "before_training_epoch", "before_training_iteration"]
    documented += [
        "before_forward",
        "after_forward",
        "before_backward",
        "after_backward",
        "before_update",
        "after_update",
    ]
    documented += ["after_training_iteration", "after_training_epoch", "after_training_exp", "after_training"]
    first = list(dict.fromkeys(call for call in users.CALLED if "eval" not in call and "dataset" not in call))
    assert first == documented


def test_strategies_and_memories_of_users_run_and_resume(tiny: Tiny, tmp_path: Path):
    for name in (f"avalanche:{USERS}:Mine", f"{USERS}:Mine"):
        experiment = tiny(name, **{"stream.setting": "domain", "strength": 2.0})
        strategy, _ = walked(experiment)
        twin = strategy._restored()[0]
        assert (twin.strength, twin.seen) == (2.0, [60, 60, 60])
        assert all(torch.equal(twin.anchor[key], weight) for key, weight in twin.model.named_parameters())


def test_the_code_of_a_guest_is_that_of_its_user_or_a_version_of_avalanche(tiny: Tiny):
    for name, module in ((f"{USERS}:Mine", USERS), ("avalanche:Naive", "avalanche.training.supervised")):
        with importing.noting() as modules:
            experiment = tiny(name, **{"stream.setting": "domain"})
            experiment.build_strategy(experiment.stream())
        code = code_of(modules.values())
        assert ("class Mine" in code[module]["text"], code[module].get("package", "")[:13]) in (
            (True, ""),
            (False, "avalanche-lib"),
        )


def test_what_cannot_be_saved_runs_but_is_not_taken_up_again(tiny: Tiny, tmp_path: Path):
    experiment = tiny(f"{USERS}:Unsaveable", **{"stream.setting": "domain"})
    strategy, events = walked(experiment)
    assert sum(isinstance(event, TaskLearned) for event in events) == 3
    save(tmp_path / "state", strategy.state)
    other = experiment.build_strategy(experiment.stream())
    other.state = load(tmp_path / "state")
    with pytest.raises(UsageError, match=r"strategy.endless.: its run cannot be taken up again; --fresh"):
        other.predict(experiment.stream().test(0).x, None)


def test_an_untrained_strategy_answers_and_unmet_tasks_change_nothing(guest: Guest):
    plain, ahead = (walked(guest("LwF", **{"stream.setting": "task", "agenda.evaluate_ahead": k}))[1] for k in (0, 2))
    few, many = measured(plain, 0), measured(ahead, 0)
    assert {key: many[key] for key in few} == few
    assert (-1, 2) in many
    assert (0, 2) in many


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("", {}, "which of Avalanche's strategies"),
        ("EWCC", {}, "no strategy in avalanche.training.supervised named 'EWCC' .did you mean 'EWC'"),
        ("nowhere:X", {}, "cannot be imported"),
        ("LwF", {"alpha": 1.0}, None),
        ("EWC", {"ewc_lamda": 1.0}, "no option of avalanche:EWC named 'ewc_lamda' .did you mean 'ewc_lambda'"),
        ("Naive", {"model": 3}, "no option of avalanche:Naive named 'model'"),
        ("MIR", {}, "avalanche:MIR needs mem_size: --set mem_size="),
        ("PackNet", {"stream.setting": "class"}, "must be told the task"),
        ("ICaRL", {"stream.setting": "task"}, "uses no task labels"),
        ("Naive", {"plugins": [f"{USERS}:nothing"]}, "plugins: .* cannot be imported"),
        ("Naive", {"plugins": [f"{USERS}:not_a_benchmark"]}, "gives a int, not a plug-in"),
        ("EWC", {"mode": "sideways"}, "avalanche:EWC cannot be made: AssertionError"),
        ("Naive", {"train.milestones": [1]}, "train.milestones"),
        ("Naive", {"train.schedule": "cosine"}, "train.schedule"),
        ("Naive", {"train.ema": 0.9}, "train.ema: Avalanche's strategies take their steps themselves"),
        ("Naive", {"train.optimizer": "adam"}, "the optimiser 'adam' has none"),
    ],
)
def test_what_cannot_be_made_is_refused_before_the_first_step(
    guest: Guest, name: str, overrides: dict[str, Any], sentence: str | None
):
    experiment = guest(name, **overrides)
    if sentence is None:
        assert experiment.build_strategy(experiment.stream()).name() == f"avalanche:{name}"
        return
    with pytest.raises(UsageError, match=sentence):
        experiment.build_strategy(experiment.stream())


@pytest.mark.skipif("quadprog" in qpsolvers.available_solvers, reason="quadprog is there")
def test_gem_says_what_it_needs(guest: Guest):
    with pytest.raises(UsageError, match="pip install quadprog"):
        guest("GEM").build_strategy(guest("GEM").stream())


def test_an_error_inside_avalanche_ends_the_run_with_its_words(guest: Guest, tmp_path: Path):
    experiment = guest("DER", **{"stream.setting": "task"})  # it asks its model without task labels
    with pytest.raises(RunFailed, match=r"avalanche:DER failed in experience 0: TypeError"):
        experiment.run(tmp_path / "run")
    assert open_run(tmp_path / "run").status == "failed"


def test_a_guest_that_cannot_answer_says_so_in_a_sentence(guest: Guest, tmp_path: Path):
    experiment = guest("AETraining", **{"agenda.evaluate_ahead": 1})  # it asks its model for parts that ours have not
    sentence = "avalanche:AETraining cannot answer .AttributeError: .*evaluate_ahead = 0 asks nothing ahead"
    with pytest.raises(RunFailed, match=sentence):
        experiment.run(tmp_path / "run")


def test_reading_stops_training_at_the_batch_at_hand(guest: Guest):
    import threading

    experiment = guest("Naive", **{"train.epochs": 2000})
    stream = experiment.stream()
    events = simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda))
    before = threading.active_count()
    for event in events:
        if isinstance(event, Progress):
            break
    events.close()
    assert threading.active_count() == before


def test_it_crops_and_mirrors_what_it_trains_on_and_nothing_else(guest: Guest):
    def answers(**overrides: Any) -> torch.Tensor:
        experiment = guest("Naive", **overrides)
        stream = experiment.stream()
        strategy = experiment.build_strategy(stream)
        strategy.state = strategy.start()
        before = strategy.predict(stream.test(0).x, None)
        for _ in strategy.learning(stream[0]):
            pass
        return torch.stack([before, strategy.predict(stream.test(0).x, None)])

    plain, moved = answers(), answers(**{"train.crop": 1, "train.flip": 0.5})
    assert torch.equal(plain[0], moved[0])
    assert not torch.allclose(plain[1], moved[1])
    assert torch.equal(moved, answers(**{"train.crop": 1, "train.flip": 0.5}))


def test_transformations_that_cannot_be_drawn_anew_for_it_are_refused_in_a_sentence(guest: Guest):
    experiment = guest("Naive")
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    first = stream[0]
    random = replace(first, train=Data(first.train.x, first.train.y, lambda number: first.train.x))
    with pytest.raises(UsageError, match="random_transforms = 'eval' or 'once'"):
        next(strategy.learning(random))


@pytest.mark.slow
def test_a_net_with_a_head_a_task_is_saved_as_onnx_too(guest: Guest, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    learner = open_run(
        guest("EWC", **{"stream.setting": "task", "stream.n": 2}).run(tmp_path / "run", device="cpu")
    ).load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own, on first import
        file = learner.save(tmp_path / "net.onnx", 1)
    session, x = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]), learner.stream.test(1).x
    (found,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), learner.outputs(x, 1), rtol=1e-3, atol=1e-4)
    assert {"model.head.classifiers.1.classifier.weight"} < learner.state_dict(1).keys()
