"""Scripts of Avalanche's users with our strategies in the strategy's place: what is learned, asked, stopped and refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, StepLR

from cl_engine.engine.agenda import AgendaOptions, plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.interop.avalanche import as_avalanche, from_avalanche
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.rows import dataset_of
from tests import avalanche_of_users as users

with quietly():
    from avalanche.benchmarks import (
        OnlineCLScenario,
        class_incremental_benchmark,
        nc_benchmark,
        split_continuous_linear_decay_stream,
        split_online_stream,
    )
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.evaluation.metrics import WeightCheckpoint, accuracy_metrics
    from avalanche.models import PNN, IncrementalClassifier, MTSimpleMLP, SimpleMLP, as_multitask
    from avalanche.training.plugins import (
        AGEMPlugin,
        EarlyStoppingPlugin,
        EvaluationPlugin,
        EWCPlugin,
        GDumbPlugin,
        LRSchedulerPlugin,
        LwFPlugin,
        MASPlugin,
        ReplayPlugin,
    )


pytestmark = [  # said by Avalanche of its own ways
    pytest.mark.filterwarnings("ignore:Deprecated. Use `split_online_stream`"),
    pytest.mark.filterwarnings("ignore:Metric Top1_Acc_Stream used by the EarlyStopping plugin is not computed yet"),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quietly():
        yield


def evaluator(*metrics: Any) -> Any:
    return EvaluationPlugin(*metrics, loggers=[])


def accuracies(found: dict[str, Any]) -> list[float]:
    return [round(float(value), 3) for key, value in found.items() if "Acc_Exp/eval" in key]


def clusters(rows: int = 100, seed: int = 0, features: int = 6) -> users.Labelled:
    """Return rows of ten classes that any net learns at once."""
    y = torch.arange(rows) % 10
    centres = 4 * torch.randn(10, features, generator=torch.Generator().manual_seed(5))
    return users.Labelled(centres[y] + torch.randn(rows, features, generator=torch.Generator().manual_seed(seed)), y)


def split(task_labels: bool = False, order: list[int] | None = None, n_experiences: int = 5) -> Any:
    return nc_benchmark(
        *(clusters(), clusters(50, seed=1), n_experiences),
        task_labels=task_labels,
        fixed_class_order=order or list(range(10)),
    )


def learner_of(benchmark: Any, strategy: str = "finetune", epochs: int = 15, **more: Any) -> Any:
    more = {"evaluator": evaluator(accuracy_metrics(experience=True, stream=True)), **more}
    train = {"epochs": epochs, "batch": 10, "lr": 0.1, **more.pop("train", {})}
    return as_avalanche(
        strategy, benchmark=benchmark, net=more.pop("net", {"name": "mlp", "hidden": [16]}), train=train, **more
    )


def test_what_is_learned_is_the_experience_that_was_handed():
    own, other = split(), split(order=list(range(9, -1, -1)))
    learner = learner_of(own)
    learner.train(other.train_stream[0])  # classes 9 and 8, which the learner's own benchmark has last
    found = accuracies(learner.eval(own.test_stream))
    assert found[:4] == [0.0] * 4
    assert found[4] > 0.9
    assert accuracies(learner.eval(other.test_stream))[0] > 0.9


def test_rows_that_were_put_in_place_of_an_experiences_own_are_learned():
    benchmark = split()
    first = benchmark.train_stream[0]
    x, y = (torch.stack([torch.as_tensor(row[k]) for row in first.dataset]) for k in (0, 1))
    first.dataset = dataset_of(x, 1 - y, 0)
    learner = learner_of(benchmark)
    learner.train(first)
    assert accuracies(learner.eval(benchmark.test_stream[:1])) == [0.0]


@pytest.mark.parametrize(
    ("handed", "own", "sentence"),
    [
        (split, lambda: users.of_parts([(0, (0, 1)), (0, (2, 3))]), "classes .8, 9. .* of no task"),
        (lambda: users.split_digits(task_labels=True), users.repeated_digits, "task labels .4."),
    ],
    ids=["unknown classes", "an unknown task label"],
)
def test_an_experience_of_no_task_of_the_benchmark_is_refused(handed: Any, own: Any, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        learner_of(own()).train(handed().train_stream[4])


class Stops(users.SupervisedPlugin):
    """Asks to stop at a point of training, and counts the epochs that were ended."""

    def __init__(self, point: str, calls: int) -> None:
        super().__init__()
        self.point, self.calls, self.seen, self.epochs = point, calls, 0, 0

    def _at(self, point: str, strategy: Any) -> None:
        if point == self.point:
            self.seen += 1
            if self.seen == self.calls:
                strategy.stop_training()

    def before_training_epoch(self, strategy: Any, **more: Any) -> None:
        self._at("before_training_epoch", strategy)

    def after_training_iteration(self, strategy: Any, **more: Any) -> None:
        self._at("after_training_iteration", strategy)

    def after_training_epoch(self, strategy: Any, **more: Any) -> None:
        self.epochs += 1
        self._at("after_training_epoch", strategy)


@pytest.mark.parametrize(
    ("point", "after", "epochs", "batches"),
    [
        ("before_training_epoch", 3, 2, 4),
        ("after_training_epoch", 2, 2, 4),
        ("after_training_iteration", 3, 2, 3),  # the epoch that was broken off is ended, as in Avalanche
    ],
)
@pytest.mark.parametrize("name", ["finetune", "replay"])
def test_training_that_is_stopped_ends_the_experience_where_it_is(
    name: str, point: str, after: int, epochs: int, batches: int
):
    benchmark, stops = split(), Stops(point, after)
    learner = learner_of(benchmark, name, plugins=[stops])
    learner.train(benchmark.train_stream[0])
    assert (stops.epochs, learner.clock.train_iterations) == (epochs, batches)
    shorter = learner_of(benchmark, name, epochs=2)
    shorter.train(benchmark.train_stream[0])
    x = learner.stream.test(0).x
    same = torch.equal(learner.strategy.predict(x, None), shorter.strategy.predict(x, None))
    assert same == (batches == 4)
    learner.train(benchmark.train_stream[1])  # asked once, it is told once
    assert learner.clock.train_iterations == batches + 2 * 15


def test_early_stopping_goes_back_to_the_best_weights():
    benchmark, shown = split(n_experiences=2), []

    class Looks(users.SupervisedPlugin):
        def after_eval(self, strategy: Any, **more: Any) -> None:
            shown.append(accuracies(strategy.evaluator.get_last_metrics())[-1])

    def spoiled(epoch: int) -> float:
        return 1.0 if epoch < 3 else 1e3  # from the fourth epoch on learning takes everything apart

    learner = learner_of(
        benchmark, plugins=[EarlyStoppingPlugin(patience=2, val_stream_name="test_stream")], eval_every=1
    )
    learner.plugins.insert(0, LRSchedulerPlugin(LambdaLR(learner.optimizer, spoiled)))
    learner.plugins.append(Looks())
    learner.train(benchmark.train_stream[0], eval_streams=[benchmark.test_stream[:1]])
    assert learner.clock.train_exp_epochs < 15
    (kept,) = accuracies(learner.eval(benchmark.test_stream[:1]))
    assert kept == max(shown) == shown[-1] > shown[-2]  # the last is of what training ended with
    assert kept > 0.9


def test_a_test_in_the_middle_of_training_asks_the_weights_as_they_are_then():
    benchmark, rows = split(), []

    class Looks(users.SupervisedPlugin):
        def after_eval(self, strategy: Any, **more: Any) -> None:
            rows.append(accuracies(strategy.evaluator.get_last_metrics()))

    learner = learner_of(benchmark, plugins=[Looks()], eval_every=1, epochs=4)
    learner.train(benchmark.train_stream[0], eval_streams=[benchmark.test_stream[:2]])
    learner.train(benchmark.train_stream[1], eval_streams=[benchmark.test_stream[:2]])
    assert len(rows) == 2 * (1 + 4)
    assert rows[0][0] < rows[4][0]
    assert rows[5] == rows[4]  # before the first epoch
    assert rows[9][1] > 0.9 > rows[9][0]  # the second is learned, and the first forgotten
    assert rows[9] == accuracies(learner.eval(benchmark.test_stream[:2]))


def test_a_schedule_on_the_learners_optimiser_sets_its_learning_rates():
    benchmark = split(task_labels=True)
    x = from_avalanche(benchmark).test(0).x

    def learned(schedule: Any, name: str = "piggyback", **more: Any) -> torch.Tensor:
        learner = learner_of(benchmark, name, epochs=3, **more)
        if schedule is not None:
            learner.plugins.insert(0, LRSchedulerPlugin(schedule(learner.optimizer)))
        learner.train(benchmark.train_stream[0])
        return learner.strategy.predict(x, 0)

    own = {"mask_lr": 0.03}
    assert torch.equal(learned(None, **own), learned(lambda o: StepLR(o, 1, gamma=1.0), **own))
    third = learned(lambda o: StepLR(o, 1, gamma=0.5), "finetune")
    assert torch.equal(third, learned(None, "finetune", train={"milestones": [1, 2], "gamma": 0.5}))
    assert not torch.equal(learned(None, **own), learned(lambda o: StepLR(o, 1, gamma=0.0), **own))


@pytest.mark.parametrize(
    ("plugin", "sentence"),
    [
        (
            lambda: ReplayPlugin(50),
            "'ReplayPlugin' has no effect .* as_avalanche.'replay', samples=.* avalanche:Replay",
        ),
        (lambda: GDumbPlugin(50), "'GDumbPlugin' .* avalanche:GDumb"),
        (lambda: EWCPlugin(1.0), "'EWCPlugin' .* avalanche:EWC"),
        (MASPlugin, "'MASPlugin' .* avalanche:MAS"),
        (lambda: LwFPlugin(1.0, 2.0), "'LwFPlugin' .* avalanche:LwF"),
        (lambda: AGEMPlugin(5, 5), "'AGEMPlugin' .* avalanche:AGEM"),
        (lambda: type("Mine", (EWCPlugin,), {})(1.0), "'Mine' has no effect"),
        (lambda: LRSchedulerPlugin(StepLR(torch.optim.SGD([torch.zeros(1)], lr=0.1), 1)), "another optimiser"),
    ],
)
def test_plug_ins_without_effect_are_refused_by_name_when_the_learner_is_made(plugin: Any, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        learner_of(split(), plugins=[plugin()])
    learner = learner_of(split())
    learner.plugins.append(plugin())
    with pytest.raises(UsageError, match=sentence):
        learner.train(split().train_stream[0])


class ChangesLoss(users.SupervisedPlugin):
    def before_backward(self, strategy: Any, **more: Any) -> None:
        strategy.loss += 1.0


class BringsBatches(users.SupervisedPlugin):
    def before_training_exp(self, strategy: Any, **more: Any) -> None:
        strategy.dataloader = [1]


@pytest.mark.parametrize(
    ("plugin", "keywords", "sentence"),
    [
        (ChangesLoss, {}, "a plug-in changed the loss"),
        (BringsBatches, {}, "a plug-in gave train a data loader of its own"),
        (users.Spy, {"shuffle": False}, r"train.shuffle=False.: our strategies draw their own batches"),
        (users.Spy, {"num_wokers": 2}, "no option of train named 'num_wokers' .did you mean 'num_workers'"),
    ],
)
def test_what_would_have_no_effect_is_not_passed_over_in_silence(plugin: Any, keywords: dict[str, Any], sentence: str):
    benchmark = split()
    with pytest.raises(UsageError, match=sentence):
        learner_of(benchmark, plugins=[plugin()]).train(benchmark.train_stream[0], **keywords)


def test_options_of_the_data_loader_that_change_nothing_are_taken():
    benchmark = split()
    learners = [learner_of(benchmark, epochs=1) for _ in range(2)]
    learners[0].train(benchmark.train_stream[0], num_workers=2, shuffle=True, pin_memory=False)
    learners[1].train(benchmark.train_stream[0])
    x = learners[0].stream.test(0).x
    assert torch.equal(*(learner.strategy.predict(x, None) for learner in learners))


def test_the_model_can_be_copied_saved_and_put_back():
    benchmark = split()
    learner = learner_of(benchmark, evaluator=evaluator(WeightCheckpoint(), accuracy_metrics(experience=True)))
    learner.train(benchmark.train_stream[0])
    x = learner.stream.test(0).x
    before, twin = learner.model(x), copy.deepcopy(learner.model)
    kept = copy.deepcopy(learner.model.state_dict())
    found = learner.train(benchmark.train_stream[1])
    weights = next(value for key, value in found.items() if key.startswith("WeightCheckpoint"))
    saved = torch.load(BytesIO(weights), weights_only=False)
    assert saved.learned.keys() == learner.strategy.state.keys()
    with pytest.raises(UsageError, match="a pickled model"):
        saved(x)
    assert torch.equal(twin(x), before)
    assert not torch.equal(learner.model(x), before)
    learner.model.load_state_dict(kept)
    assert torch.equal(learner.model(x), before)


# Avalanche's examples, with synthetic data in place of theirs


class GrowingMLP(nn.Module):
    """A net with Avalanche's head that grows with the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 16), nn.ReLU()), IncrementalClassifier(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.mark.parametrize(
    ("net", "strategy"),
    [
        (lambda: MTSimpleMLP(input_size=6, hidden_size=16), "finetune"),  # multihead, optimizer_param_groups
        (lambda: as_multitask(SimpleMLP(input_size=6, hidden_size=16), "classifier"), "piggyback"),
        (GrowingMLP, "finetune"),
    ],
    ids=["MTSimpleMLP", "as_multitask", "IncrementalClassifier"],
)
def test_the_examples_of_several_heads_run_with_their_own_models(net: Any, strategy: str):
    benchmark = split(task_labels=True)
    options = {"mask_lr": 0.03} if strategy == "piggyback" else {}
    learner = learner_of(benchmark, strategy, epochs=8, net=net, **options)
    for experience in benchmark.train_stream:
        learner.train(experience, num_workers=4, verbose=True)
    found = accuracies(learner.eval(benchmark.test_stream, num_workers=0))
    assert min(found) > 0.75


def test_a_module_that_grows_otherwise_is_refused_with_the_reason():
    with pytest.raises(UsageError, match="a part that grows as experiences come, PNN"):
        learner_of(split(task_labels=True), net=lambda: PNN(1, 6, 16))


def test_the_example_of_online_replay_runs():
    benchmark = class_incremental_benchmark(
        {"train": as_classification_dataset(clusters()), "test": as_classification_dataset(clusters(50, seed=1))},
        num_experiences=5,
        seed=3,
    )
    learner = learner_of(benchmark, "replay", epochs=1, net=lambda: SimpleMLP(input_size=6, hidden_size=16), samples=10)
    for experience in benchmark.train_stream:
        learner.train(split_online_stream([experience], experience_size=10))
        learner.eval(benchmark.train_stream)
        found = accuracies(learner.eval(benchmark.test_stream))
    assert sum(found) / 5 > 0.7
    assert learner.clock.train_exp_counter == 10


def test_the_example_of_a_continuous_stream_runs():
    benchmark = split()
    pieces = split_continuous_linear_decay_stream(benchmark.train_stream, 10, 4, beta=4, shuffle=True)
    learner = learner_of(benchmark, epochs=1)
    for piece in pieces:
        learner.train(piece)
    found = accuracies(learner.eval(benchmark.test_stream))
    assert found[-1] == 1.0
    assert sum(found) / 5 > 0.3


@pytest.mark.parametrize("boundaries", [True, False])
def test_an_online_benchmark_is_learned_as_in_the_engine(boundaries: bool):
    benchmark = OnlineCLScenario(split(True).streams.values(), experience_size=10, access_task_boundaries=boundaries)
    learner = learner_of(benchmark, "replay", epochs=2, samples=10)
    learner.train(benchmark.streams["train_online"])
    stream = from_avalanche(benchmark)
    assert [stream.task_id(step) for step in range(10)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    engine = copy.copy(learner_of(benchmark, "replay", epochs=2, samples=10).strategy)
    for _ in simulate(stream, engine, plan(stream, AgendaOptions())):
        pass
    for task in range(5):
        x = stream.test(task).x
        assert torch.equal(engine.predict(x, task), learner.strategy.predict(x, task))
