"""What holds weights back: SI, MAS and EWC, whole and in pieces; what holds answers back: LwF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cl_engine.core.tree import Tree
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.strategies.lwf import Lwf
from cl_engine.strategies.si import follow
from cl_engine.targets.numbers import Numbers
from cl_engine.testing.walking import after_each_task, answers
from cl_engine.training.distillation import distillation, outputs_of_heads

TINY = Path(__file__).parent / "tiny.toml"
PIECES = {"stream.pieces": 10, "train.keep_optimizer": True, "train.epochs": 1}


def walked(strategy: str, seeds: tuple[int, ...] = (0, 1), /, **options: Any) -> list[tuple[Any, Any]]:
    """Return state and answers on the first task after each task."""
    options = {"stream.setting": "domain", "stream.n": 2, "agenda.evaluate_ahead": 0, **options}
    walk = after_each_task(Experiment.of(TINY, strategy, seeds, **options))
    return [(dict(learner.state), answers(stream, learner, 0)) for stream, learner in walk]


@pytest.mark.parametrize("strategy", ["si", "mas", "lwf"])
def test_without_strength_it_is_fine_tuning_bit_for_bit(strategy: str):
    for (_, ours), (_, theirs) in zip(walked(strategy, strength=0.0), walked("finetune"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 if strategy == "lwf" else 0)


@pytest.mark.parametrize(("strategy", "strengths"), [("si", (1.0, 100.0)), ("mas", (0.1, 10.0))])
def test_the_stronger_the_nearer_weights_stay_to_those_of_the_task_before(strategy: str, strengths: tuple[float, ...]):
    moved = []
    for strength in strengths:
        (first, _), (second, _) = walked(strategy, (0,), strength=strength)
        moved.append(max(float((second["net"][n] - first["net"][n]).norm()) for n in first["importance"]))
    assert moved[0] > moved[1]


@pytest.mark.parametrize("strategy", ["ewc", "si", "mas"])
def test_a_head_that_begins_anew_with_every_task_is_not_held_back(strategy: str):
    for reset, held in (("never", True), ("draw", False)):
        changes = {"stream.setting": "domain", "train.reset_head": reset}
        for _, learner in after_each_task(Experiment.of(TINY, strategy, (0,), **changes)):
            assert ("head.weight" in learner.state["importance"]) is held


def test_the_way_of_a_weight_is_the_sum_of_its_gradients_times_its_steps():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    weight.grad = torch.tensor([0.5, -1.0])
    steps = {"way": torch.tensor([0.1, 0.0]), "before": torch.tensor([1.5, 1.0]), "drawn": torch.tensor([0.0, 1.0])}
    with torch.no_grad():
        follow({"net": {"w": weight}, "steps": {"w": steps}})
    assert steps["way"].tolist() == pytest.approx([0.1 + 0.5 * 0.5, 2.0])  # the penalty's own gradient is no part of it
    assert torch.equal(steps["before"], weight)


def test_steps_of_gradient_descent_lower_the_loss_by_what_the_ways_of_weights_add_up_to():
    options = {"train.optimizer": "sgd", "train.lr": 1e-3, "train.epochs": 1, "stream.n": 1, "xi": 1e-6}
    ((state, _),) = walked("si", (0,), **options, **{"train.batch": 1000})
    begun = Experiment.of(TINY, "si", (0,), **{"stream.setting": "domain", "stream.n": 1})
    drawn = begun.build_strategy(begun.stream()).net.init([0])
    went = {name: state["net"][name] - drawn[name] for name in state["importance"]}
    ways = [(own * (went[name].square() + 1e-6)).sum() for name, own in state["importance"].items()]
    slopes = (
        sum(float(leaf.square().sum()) for leaf in went.values()) / 1e-3
    )  # one step: Δθ = −η g, and so −g Δθ = Δθ² / η
    assert float(torch.stack(ways).sum()) == pytest.approx(slopes, rel=1e-3)


def test_the_importance_of_a_weight_is_how_much_the_norm_of_the_answers_changes_with_it():
    ((state, _),) = walked("mas", (0,), **{"stream.n": 1, "importance_rows": 10**6})
    experiment = Experiment.of(TINY, "mas", (0,), **{"stream.setting": "domain", "stream.n": 1})
    stream = experiment.stream()
    net, found = experiment.build_strategy(stream).net, []
    params = {name: leaf[0].clone().requires_grad_() for name, leaf in state["net"].items()}
    for x in stream[0].train.x:
        norm = net.one(params, x[None], training=False).square().sum()
        found.append(torch.autograd.grad(norm, params["head.weight"])[0].abs())
    wanted = torch.stack(found).mean(dim=0)
    torch.testing.assert_close(state["importance"]["head.weight"][0], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("average", [None, 0.25])
def test_importances_of_tasks_are_summed_up_or_averaged(average: float | None):
    (first, _), (second, _) = walked("mas", (0,), average=average, strength=1e-9)
    before, after = (state["importance"]["head.bias"] for state in (first, second))
    assert bool((after >= before * (0.25 if average else 1) - 1e-6).all())
    assert bool((after < before + 1e-9).any()) == (average is not None) or average is None


@pytest.mark.parametrize("strategy", ["ewc", "mas", "si"])
def test_a_task_in_stretches_of_arrivals_adds_to_what_holds_weights_back_once_when_all_have_come(strategy: str):
    experiment = Experiment.of(TINY, strategy, (0,), **{"stream.setting": "domain", **PIECES, "stream.stretch": 2})
    stream, held = experiment.stream(), []
    learner = experiment.build_strategy(stream)
    learner.state = learner.start()
    for step in range(2 * sum(stream.task_id(s) == 0 for s in range(stream.n_steps or 0))):
        for _ in learner.learning(stream[step]):
            pass
        held.append((stream[step].continues, learner.state.get("importance")))
    changed = [new is not old for (_, old), (_, new) in zip([(True, None), *held], held, strict=False)]
    assert changed == [not continues for continues, _ in held]
    assert changed.count(True) == 2
    assert "begun" not in learner.state
    assert "ways" not in learner.state


@pytest.mark.parametrize("strategy", ["ewc", "mas", "si", "lwf"])
def test_a_task_whose_arrivals_are_one_experience_is_one_task(strategy: str):
    pieces = walked(strategy, (0,), **PIECES)
    assert pieces[-1][0].keys() - {"optimizer"} == walked(strategy, (0,))[-1][0].keys()


def test_lwf_holds_each_head_to_its_softened_answers_before():
    outputs, before = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    outputs.requires_grad_()
    known = torch.tensor([[1.0] * 5, [1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 5])
    found = distillation(outputs, before, known, 2.0)
    parts = [
        F.cross_entropy(outputs[:, head, :count] / 2, (before[:, head, :count] / 2).softmax(dim=1))
        for head, count in ((0, 5), (1, 2))
    ]
    torch.testing.assert_close(found, torch.stack(parts).sum())
    slopes = [torch.autograd.grad(value, outputs)[0] for value in (found, torch.stack(parts).sum())]
    torch.testing.assert_close(*slopes)


def test_lwf_moves_nothing_for_answers_that_are_as_before():
    outputs = torch.randn(4, 1, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    distillation(outputs, outputs.detach().clone(), torch.ones(1, 5), 2.0).backward()
    assert outputs.grad is not None
    assert not outputs.grad.any()


def test_lwf_asks_the_net_from_before_the_first_arrival_of_a_task(monkeypatch: pytest.MonkeyPatch):
    asked: list[bool] = []
    teacher = Lwf._teacher

    def noted(self: Lwf, params: Tree) -> Tree | None:
        found = teacher(self, params)
        asked.append(found is not None)
        return found

    monkeypatch.setattr(Lwf, "_teacher", noted)
    last = walked("lwf", (0,), **PIECES, **{"stream.stretch": 2})[-1][0]
    assert asked == [False, True]  # once for each of the two tasks, of which the first has nothing to be held to
    assert last.keys() == {"net", "met", "optimizer"}


def test_outputs_of_all_heads_are_those_of_each():
    *_, (stream, learner) = after_each_task(Experiment.of(TINY, "lwf", (0,), **{"stream.n": 2}))
    params = learner.shared.of_tasks(torch.arange(2))
    one: Tree = {"net": {n: leaf[0] for n, leaf in params["net"].items()}, "heads": params["heads"][0]}
    x = stream.test(0).x
    found = outputs_of_heads(learner.net, one, x, training=False)
    for task in range(2):
        torch.testing.assert_close(found[:, task], learner.predict(x, task)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["lwf", "gdumb", "icarl"])
def test_what_is_about_classes_refuses_other_targets(strategy: str):
    experiment = Experiment.of(TINY, strategy, (0,))
    with pytest.raises(UsageError, match=f"{strategy} .* classes, and a task asks for numbers: use"):
        experiment.build_strategy(experiment.stream()).check_targets([Numbers.of(numbers=1)])
