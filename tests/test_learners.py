"""What a run has learned, taken out: answers, modules, weights, files."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from torch import nn

from cl_engine.cli import main
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import Event, Saved, TaskStarted
from cl_engine.experiment import Experiment
from cl_engine.learners import Learner, load
from cl_engine.learners.saving import _root, _said, save
from cl_engine.nn.net import Net
from cl_engine.nn.question import Question
from cl_engine.nn.target import quality
from cl_engine.nn.task_module import Composed, TaskModule, WholeStrategy, module_of
from cl_engine.results.run import open_run
from cl_engine.runs.signals import Stopped
from cl_engine.strategy import Strategy
from cl_engine.testing import small
from cl_engine.testing.walking import after_each_task

Tiny = Callable[..., Experiment]
ME = "tests.test_learners"


class Twice(Strategy):
    """Twice: the mean of two nets, which is no single net."""

    def start(self) -> dict[str, Any]:
        return {"one": self.net.init(self.seeds), "other": self.net.init([seed + 100 for seed in self.seeds])}

    def learn(self, experience: Any) -> Iterator[Event]:
        self.state["one"] = yield from self.fit(self.state["one"], self.loss, experience)

    def predict(self, x: torch.Tensor, task_id: int | None) -> torch.Tensor:
        return (self.net.all(self.state["one"], x) + self.net.all(self.state["other"], x)) / 2


class ByTheRows(Twice):
    """By the rows: they decide which net answers, though one alone is asked."""

    def predict(self, x: torch.Tensor, task_id: int | None) -> torch.Tensor:
        return self.net.all(self.state["one" if float(x.float().mean()) > 0.4 else "other"], x)


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    """Return what piggyback has learned, with masks and a head a task."""
    from tests.conftest import TINY

    experiment = Experiment.of(TINY, "piggyback", (3, 5), **{"stream.pixels": "unit"})
    return open_run(experiment.run(tmp_path_factory.mktemp("learner") / "run", device="cpu")).load()


def test_its_answers_score_what_the_log_says(learner: Learner):
    assert (learner.tasks, learner.seeds, learner.setting) == ((0, 1, 2), (3, 5), "task")
    logged = learner.run.scores[-1]
    for task in learner.tasks:
        rows = learner.stream.test(task)
        for place, seed in enumerate(learner.seeds):
            answers = learner.predict(rows.x.numpy(), task, seed)
            assert (answers == rows.y.numpy()).mean() == pytest.approx(logged[task, place])
            outputs = learner.outputs(rows.x, task, seed)
            assert float(quality(learner.target(task), outputs[None], rows.y)) == pytest.approx(logged[task, place])


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float64, list])
def test_rows_are_taken_in_any_form_and_scaled_as_they_were_in_training(learner: Learner, kind: Any):
    x = learner.stream.test(1).x
    assert x.dtype == torch.uint8
    given: Any = x.numpy().astype(np.float64) / 255 if kind is np.float64 else x.numpy()
    given = given.tolist() if kind is list else given.astype(kind)
    torch.testing.assert_close(learner.outputs(given, 1), learner.outputs(x, 1))
    torch.testing.assert_close(learner.outputs(x[:, 0], 1), learner.outputs(x, 1))  # the channel left out


def test_a_module_is_the_scenarios_own_net_with_the_tasks_weights_in_it(learner: Learner):
    x = learner.stream.test(2).x
    module = learner.module(2, seed=5)
    torch.testing.assert_close(module(x), learner.outputs(x, 2, 5))
    assert [type(part) for part in module.answering] == [type(part) for part in learner.strategy.net.module(0)]
    assert not module.training and all(weight.requires_grad for weight in module.parameters())
    masked = [
        float((weight == 0).float().mean()) for weight in module.answering.state_dict().values() if weight.ndim == 2
    ]
    assert 0 < masked[0] < 1  # masks are in the weights
    own = learner.strategy.net.module(0)
    own.load_state_dict(learner.state_dict(2, 5))
    torch.testing.assert_close(own(module.scaling(x)), learner.outputs(x, 2, 5))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda it: it.predict(np.zeros((2, 3, 8, 8)), 0),
            r"x has the shape \(2, 3, 8, 8\); rows of this run are \[N, 1, 8, 8\]",
        ),
        (lambda it: it.predict(np.zeros((2, 1, 8, 8))), "none was named: task is one of 0 to 2"),
        (lambda it: it.module(7), "task 7: this run had learned 0 to 2"),
        (lambda it: it.module(0, seed=4), "seed 4: this run has the seeds 3, 5"),
        (lambda it: it.predict("pixels", 0), "x is no array of numbers"),
        (lambda it: it.save("net.pth", 0), r"one of .safetensors, .pt2, .onnx"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(learner: Learner, ask: Callable[[Learner], Any], said: str):
    with pytest.raises(UsageError, match=said):
        ask(learner)


def test_numbers_of_answers_are_told_as_classes_of_the_data(tiny: Tiny, tmp_path: Path):
    own = {"stream.name": "split", "stream.n": 2, "stream.task_order": [1, 0], "train.epochs": 1}
    found = load(tiny("finetune", (0,), **own).run(tmp_path / "task", device="cpu"))
    assert found.classes(1) == (0, 1, 2, 3, 4) and found.classes(0) == (5, 6, 7, 8, 9)
    found = load(tiny("finetune", (0,), **own, **{"stream.pieces": 5}).run(tmp_path / "pieces", device="cpu"))
    assert found.classes(1) == (0, 1, 2, 3, 4) and found.classes(0) == (5, 6, 7, 8, 9)
    drawn = {**own, "stream.per_seed": True, "stream.class_order": 1}
    found = load(tiny("finetune", (0, 1), **drawn).run(tmp_path / "per_seed", device="cpu"))
    assert found.classes(0, seed=0) != found.classes(0, seed=1)
    assert sorted((*found.classes(0, seed=1), *found.classes(1, seed=1))) == list(range(10))
    found = load(tiny("slda", (0,), **own, **{"stream.setting": "class"}).run(tmp_path / "class", device="cpu"))
    assert found.classes() == tuple(range(10))
    assert set(found.predict(found.stream.test(0).x).tolist()) <= set(range(10))


def test_a_net_with_statistics_comes_out_whole(tiny: Tiny):
    own = {"net.name": f"{small.__name__}:with_batchnorm", "net.hidden": 4, "stream.n": 2}
    *_, (stream, strategy) = after_each_task(tiny("finetune", **own))
    x = stream.test(0).x
    module = strategy.module(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(module(x), strategy.predict(x, 0)[1], rtol=1e-4, atol=1e-5)


def test_answers_of_several_nets_are_a_module_that_asks_the_strategy(tiny: Tiny, tmp_path: Path):
    for name, kind in (("Twice", "mean"), ("ByTheRows", "rows")):
        folder = tiny(f"{ME}:{name}", **{"stream.n": 1, "train.epochs": 1}).run(tmp_path / kind, device="cpu")
        found = load(folder)
        module = found.module(0, 1)
        assert isinstance(module.answering, WholeStrategy)
        for x in (torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8)):
            assert torch.equal(module(x), found.outputs(x, 0, 1))
        with pytest.raises(UsageError, match="has no weights of one task here"):
            found.save(tmp_path / "net.safetensors", 0)
        with pytest.raises(UsageError, match="are no program of a row alone"):
            found.save(tmp_path / "net.pt2", 0)
        assert not list(tmp_path.glob("net*"))


def test_a_net_that_writes_over_its_inputs_or_draws_leaves_them_alone_and_answers_the_same():
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.mul_(2).flatten(1))

    class Noisy(InPlace):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.flatten(1) + torch.rand(4))

    x = torch.rand(5, 1, 2, 2)
    for build in (InPlace, Noisy):
        net = Net(build, (1, 2, 2))
        params = net.init([0, 1])

        class Fixed(Strategy):
            """Answers with the net it was given."""

            def start(self) -> dict[str, Any]:
                return {"net": params}  # noqa: B023

            def learn(self, experience: Any) -> Iterator[Event]:
                yield from ()

            def predict(self, x: torch.Tensor, task_id: int | None) -> torch.Tensor:
                return self.net.all(self.state["net"], x)

        strategy = Fixed(net, seeds=(0, 1))
        strategy.state = strategy.start()
        module, kept = strategy.module(None, 1), x.clone()
        torch.testing.assert_close(module(x), strategy.predict(kept.clone(), None)[1])
        assert torch.equal(x, kept)
        assert module.exportable == (build is InPlace)


def test_rows_that_anything_else_reads_are_known_to_be_read():
    net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    params = net.init([0])
    for use in (lambda x: x.mean(), lambda x: x[0], lambda x: x + 1, lambda x: x.sum().item(), torch.relu):
        question = Question.about(net.example(2))
        use(question)
        assert question.only(net.all(params, question)) is None
    question = Question.about(net.example(2))
    assert (len(question), question.shape, question.device.type) == (2, (2, 1, 2, 2), "cpu")
    answer = net.all(params, question)
    assert question.only(answer) is not None
    assert question.only(answer + 0) is None  # what was made of the answer is not the net's


def test_a_stopped_run_gives_what_it_had_learned_when_it_was_saved_last(tiny: Tiny, tmp_path: Path):
    saves: list[int] = []

    def stopping(event: Event) -> None:
        saves.extend([event.step] * isinstance(event, Saved))
        if isinstance(event, TaskStarted) and event.step == 2:
            raise Stopped(15)

    experiment = tiny("hat", **{"agenda.save_every": 1})
    with pytest.raises(Stopped):
        experiment.run(tmp_path / "run", device="cpu", listeners=lambda stream: [stopping])
    found = load(tmp_path / "run")
    assert found.run.status == "stopped" and found.tasks == tuple(range(max(saves) + 1))
    x = found.stream.test(0).x
    torch.testing.assert_close(found.module(0, 1)(x), found.outputs(x, 0, 1))


def test_a_run_that_saved_nothing_or_another_ones_checkpoint_is_refused(tiny: Tiny, tmp_path: Path):
    def failing(event: Event) -> None:
        if isinstance(event, TaskStarted) and event.step == 0:
            raise RunFailed("the disk is gone")

    with pytest.raises(RunFailed):
        tiny("finetune", **{"stream.n": 2}).run(tmp_path / "none", device="cpu", listeners=lambda stream: [failing])
    one, other = (
        tiny("finetune", (seed,), **{"stream.n": 1}).run(tmp_path / str(seed), device="cpu") for seed in (0, 1)
    )
    for file in one.glob("checkpoint*"):
        file.unlink()
    with pytest.raises(UsageError, match="there is no checkpoint beside"):
        open_run(one).load()
    for file in other.glob("checkpoint*"):
        (one / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UsageError, match="is of another experiment than"):
        open_run(one).load()


def test_weights_are_a_file_that_says_what_they_are(learner: Learner, tmp_path: Path):
    file = tmp_path / "new" / "task.safetensors"
    said = CliRunner().invoke(
        main,
        ["save", str(learner.run.path.parent), "--task", "1", "--seed", "5", "-o", str(file)],
        catch_exceptions=False,
    )
    assert said.exit_code == 0 and said.output.startswith(f"{file}: task 1, seed 5, ")
    with safe_open(file, "pt") as found:
        tensors, about = {name: found.get_tensor(name) for name in found.keys()}, found.metadata()  # noqa: SIM118
    wanted = learner.state_dict(1, 5)
    assert tensors.keys() == wanted.keys() and all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    assert (about["strategy"], about["task"], about["seed"]) == ("piggyback", "1", "5")
    assert json.loads(about["std"]) == [255.0] and json.loads(about["classes"]) == list(range(10))
    said = CliRunner().invoke(main, ["save", str(learner.run.path.parent), "-o", str(file)])
    assert said.exit_code == 2 and "none was named" in said.stderr


@pytest.fixture
def _tracing_is_loud() -> Iterator[None]:
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own, on first import
        yield
    assert logging.root.manager.disable == before


@pytest.mark.slow
@pytest.mark.usefixtures("_tracing_is_loud")
def test_programs_answer_any_number_of_rows_as_the_engine_does(learner: Learner, tiny: Tiny, tmp_path: Path):
    x = learner.stream.test(1).x
    program = torch.export.load(learner.save(tmp_path / "net.pt2", 1)).module()
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(
        str(learner.save(tmp_path / "net.onnx", 1)), providers=["CPUExecutionProvider"]
    )
    for rows in (1, 7, len(x)):
        wanted = learner.outputs(x[:rows], 1)
        torch.testing.assert_close(program(x[:rows]), wanted, rtol=1e-3, atol=1e-4)
        (found,) = session.run(None, {"x": x[:rows].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-3, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["task"] == "1"
    # a net with adapters between its layers, which is no module of the scenario's
    *_, (stream, strategy) = after_each_task(tiny("single_tasking", **{"stream.n": 1}))
    module, x = strategy.module(0, 1), stream.test(0).x
    assert isinstance(module.answering, Composed)
    save(tmp_path / "composed.pt2", module, x[:2], {"strategy": "single_tasking"})
    found = torch.export.load(tmp_path / "composed.pt2").module()(x)
    torch.testing.assert_close(found, strategy.predict(x, 0)[1], rtol=1e-3, atol=1e-4)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["composed.pt2", "net.onnx", "net.pt2"]


def test_a_module_of_one_seed_is_found_where_seeds_have_chosen_differently(tiny: Tiny):
    *_, (stream, strategy) = after_each_task(tiny("adapt", **{"stream.n": 2}))
    how = strategy.state["how"]
    how.rows[:, :, 0] = how.rows[:1, :1, 0]
    module: TaskModule = module_of(strategy, 1, 0)
    with torch.no_grad():
        x = stream.test(1).x
        torch.testing.assert_close(module(x), strategy.predict(x, 1)[0], rtol=1e-3, atol=1e-4)


def test_what_onnx_lacks_is_said_by_its_cause_without_colours():
    above = RuntimeError("Failed to convert. \x1b[96mThis is step 3/3\x1b[0m of exporting. Next steps:\n- If there is")
    assert _said(above) == "Failed to convert. This is step 3/3 of exporting"
    above.__cause__ = NotImplementedError("there is no such operation\nat all")
    assert _said(_root(above)) == "there is no such operation"
