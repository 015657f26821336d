"""Weight sharing by learned assignment: the step of evolution, what sharing all or nothing comes to, and what stays frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cl_engine.data.stream import Data
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.masks.layout import Layout
from cl_engine.modules import assignment
from cl_engine.modules.events import ModuleAdded, PathChosen, PathStep, SharingLearned
from cl_engine.modules.library import Library
from cl_engine.modules.weight_sets import WeightSets
from cl_engine.nn.division import division
from cl_engine.nn.net import Net
from cl_engine.runs.plugins import net_builder
from cl_engine.runs.scenario import Scenario
from cl_engine.targets.classes import Classes
from cl_engine.testing import StrategyContract, small
from cl_engine.testing.walking import after_each_task, answers, walk
from cl_engine.training.grid import none_lost
from tests.conftest import TINY

BOTH = pytest.mark.parametrize("form", ["continual", "joint"])


def run(seeds: tuple[int, ...] = (0,), **options: Any) -> tuple[Any, Any, list[Any]]:
    """Return the stream, the strategy as it is after a run over tiny tasks, and the events."""
    stream, strategy, events = walk(Experiment.of(TINY, "weight_sharing", seeds, **{"stream.n": 2, **options}))
    return stream, strategy, list(events)


def told(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def stepped(chances: Tensor, chosen: Tensor, losses: Tensor, eta: float, by_task: bool = False) -> Tensor:
    return chances + eta * assignment.direction(chances, chosen, losses, by_task=by_task)


# The step of evolution.


def test_a_step_of_evolution_is_the_published_one():
    even = torch.full((1, 1, 3), 1 / 3)
    found = stepped(even, torch.tensor([[[0]], [[2]]]), torch.tensor([[0.1], [0.9]]), 0.1)
    torch.testing.assert_close(found, torch.tensor([[[0.383333, 0.333333, 0.283333]]]), rtol=0, atol=1e-6)


def test_utilities_go_by_rank_from_one_to_minus_one_and_equal_losses_share_theirs():
    assert assignment.utilities(torch.tensor([0.3, 9.0, 0.1])).tolist() == [0, -1, 1]
    assert assignment.utilities(torch.tensor([0.5, 0.5, 0.1])).tolist() == [-0.5, -0.5, 1]
    assert assignment.utilities(torch.tensor([2.0, 2.0])).tolist() == [0, 0]


def test_each_task_moves_by_its_own_loss_where_assignments_are_ranked_for_each():
    even = torch.full((2, 1, 2), 0.5)
    chosen = torch.tensor([[[0], [0]], [[1], [1]]])
    losses = torch.tensor([[0.0, 0.4], [0.3, 0.0]])  # the first is better for task 0, the second for task 1 and in all
    assert stepped(even, chosen, losses, 1.0, by_task=True).tolist() == [[[1, 0]], [[0, 1]]]
    assert stepped(even, chosen, losses, 1.0).tolist() == [[[0, 1]], [[0, 1]]]


def test_chances_sum_to_one_and_none_that_is_allowed_falls_below_a_thousandth():
    draw = torch.Generator().manual_seed(0)
    allowed = torch.ones(50, 4, 5)
    allowed[::2, :, 3:] = 0
    chances = assignment.even(allowed)
    for _ in range(30):
        chances += 0.2 * (torch.rand(chances.shape, generator=draw) - 0.5) * allowed
        chances += (1 - chances.sum(dim=-1, keepdim=True)) * allowed / allowed.sum(dim=-1, keepdim=True)
        assignment.bring_back(chances, allowed)
        torch.testing.assert_close(chances.sum(dim=-1), torch.ones(50, 4), rtol=0, atol=1e-6)
        assert chances[allowed > 0].min() > 1e-3 - 1e-6
        assert chances[allowed == 0].abs().max() == 0
    inside = torch.tensor([0.383333, 0.333333, 0.283334])
    found = inside.clone()
    assignment.bring_back(found, torch.ones(3))
    torch.testing.assert_close(found, inside, rtol=0, atol=1e-6)


def test_assignments_are_drawn_by_chances_and_never_a_set_without_any():
    chances = torch.tensor([[[0.0, 0.7, 0.0, 0.3, 0.0]]])
    numbers = torch.linspace(0, 1, 1001).reshape(-1, 1, 1)
    drawn = assignment.drawn(chances, numbers)
    assert set(drawn.flatten().tolist()) == {1, 3}
    assert (drawn == 1).float().mean() == pytest.approx(0.7, abs=2e-3)


# Nets put together from sets.


def net() -> Net:
    return Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))


def parts_of(sets: int, chances: Tensor) -> tuple[WeightSets, dict[str, Any], list[Layout]]:
    own = net()
    layouts = Library(own, division(own)).layouts
    inits = own.init(range(sets))
    rows = {f"{depth}": layout.row(inits).requires_grad_() for depth, layout in enumerate(layouts)}
    return WeightSets(own, layouts), {"sets": rows, "choice": {"chances": chances}}, layouts


def data(tasks: int = 2) -> tuple[Tensor, list[Tensor]]:
    draw = torch.Generator().manual_seed(1)
    y = [torch.randint(3, (4,), generator=draw) for _ in range(tasks)]
    return torch.randn(4, tasks, 1, 2, 2, generator=draw), y


def test_chances_that_are_certain_of_different_sets_are_no_sharing():
    certain = torch.eye(2).unsqueeze(1).expand(2, 3, 2)
    nets, params, _ = parts_of(2, certain)
    x, ys = data()
    targets = [Classes.of(classes=3)] * 2
    frozen = {"numbers": torch.rand(5, 2, 2, 2, 3)}
    ranked = [torch.cat([y, y]) for y in ys]
    numbers = torch.tensor(3), torch.tensor(1.0)
    nets.loss(targets, 4, False, params, frozen, torch.cat([x, x]), *ranked, *numbers).backward()
    sampled = [rows.grad for rows in params["sets"].values()]
    alone, own, _ = parts_of(2, certain)
    for task in range(2):
        one = {"sets": {depth: rows[task : task + 1] for depth, rows in own["sets"].items()}}
        certainly = {"choice": {"chances": torch.ones(1, 3, 1)}}
        alone.loss(targets[:1], 0, False, {**one, **certainly}, None, x[:, task], ys[task]).backward()
    for found, rows in zip(sampled, own["sets"].values(), strict=True):
        torch.testing.assert_close(found, rows.grad)


def test_a_set_that_all_tasks_use_learns_from_the_mean_of_their_losses():
    shared = torch.ones(2, 3, 1)
    nets, params, layouts = parts_of(1, shared)
    x, ys = data()
    targets = [Classes.of(classes=3)] * 2
    nets.loss(targets, 0, False, params, None, x, *ys).backward()
    own, rows = net(), params["sets"]
    plain = {depth: row.detach().clone().requires_grad_() for depth, row in rows.items()}
    weights = {n: t[0] for d, layout in enumerate(layouts) for n, t in layout.named(plain[f"{d}"]).items()}
    losses = [targets[t].loss(own.one(weights, x[:, t], True), ys[t]) for t in range(2)]
    torch.stack(losses).mean().backward()
    for depth, row in rows.items():
        torch.testing.assert_close(row.grad, plain[depth].grad)


def test_evolution_moves_chances_by_its_step_and_leaves_the_loss_as_it_is():
    chances = torch.full((2, 3, 2), 0.5, requires_grad=True)
    nets, params, _ = parts_of(2, chances)
    x, ys = data()
    targets, numbers = (
        [Classes.of(classes=3)] * 2,
        torch.rand(7, 2, 8, 2, 3, generator=torch.Generator().manual_seed(2)),
    )
    given = params, {"numbers": numbers}, torch.cat([x, x]), *(torch.cat([y, y]) for y in ys)
    still = nets.loss(targets, 4, False, *given, torch.tensor(9), torch.tensor(0.0))
    moving = nets.loss(targets, 4, False, *given, torch.tensor(9), torch.tensor(1.0))
    torch.testing.assert_close(moving, still)
    still.backward()
    assert chances.grad is None or not chances.grad.any()
    moving.backward()
    second = assignment.drawn(chances, numbers[2, 1])
    lost = torch.stack(
        [torch.stack([one_loss(nets, params, second[j, t], x, ys, t) for t in range(2)]) for j in range(8)]
    )
    wanted = assignment.direction(chances.detach(), second, lost, by_task=False)
    assert wanted.any()
    torch.testing.assert_close(-chances.grad, wanted)  # type: ignore[operator]


def one_loss(nets: WeightSets, params: Any, chosen: Tensor, x: Tensor, ys: list[Tensor], task: int) -> Tensor:
    own = {"sets": {f"{d}": params["sets"][f"{d}"][chosen[d]].unsqueeze(0) for d in range(3)}}
    tree = {**own, "choice": {"chances": torch.ones(1, 3, 1)}}
    return Classes.of(classes=3).loss(nets.of_place(0, tree, None, x[:, task]), ys[task]).detach()


# The strategy.


@BOTH
def test_one_set_a_layer_is_full_sharing_bit_for_bit(form: str):
    one, full = (run((0, 1), form=form, **options)[1].state for options in ({"sets": 1}, {"sharing": "full"}))
    for depth in "0123":
        assert torch.equal(one["modules"][depth].rows, full["modules"][depth].rows)
        assert one["modules"][depth].rows.shape[1] == (2 if depth == "3" else 1)  # heads are a task's own
    assert torch.equal(one["paths"].rows, full["paths"].rows)


@BOTH
def test_controls_use_the_sets_they_say(form: str):
    wanted = {"full": [0, 0, 0, 1], "none": [1, 1, 1, 1], "lower": [0, 1, 1, 1]}
    for sharing, path in wanted.items():
        assert run(form=form, sharing=sharing)[1].state["paths"].rows[0].tolist() == [[0, 0, 0, 0], path]
    found = run(form=form, sharing="lower", lower=2)[1].state["paths"].rows[0]
    assert found.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]


def test_past_tasks_are_not_forgotten_at_all():
    walked = after_each_task(Experiment.of(TINY, "weight_sharing", (0, 1), **{"net.norm": "layer"}))
    stream, strategy = next(walked)
    before = answers(stream, strategy, 0)
    for stream, strategy in walked:
        assert torch.equal(answers(stream, strategy, 0), before)


def test_the_choice_between_old_and_new_sets_is_told_layer_by_layer():
    _, strategy, events = run((0, 1), eta=0.5, **{"train.epochs": 4})
    second = [event for event in told(events, SharingLearned) if event.task_id == 1]
    assert [event.part for event in second] == ["1", "3", "5", "head"]
    for depth, event in enumerate(second):
        assert event.set == tuple(strategy.state["paths"].rows[:, 1, depth].tolist())
    assert max(second[0].entropy) <= torch.tensor(2.0).log() + 1e-6
    assert second[-1].entropy == (0, 0)  # a head is the task's own
    paths = [event.module for event in told(events, PathStep) if event.task_id == 1]
    assert paths == [event.set for event in second]
    assert len(told(events, PathChosen)) == 2
    assert told(events, ModuleAdded)


def test_a_layer_has_no_more_sets_than_are_allowed():
    _, strategy, _ = run((0, 1), sets=2, **{"stream.n": 4, "train.epochs": 1})
    assert all(len(strategy.state["modules"][depth]) <= 2 for depth in "012")
    assert strategy.state["held"][:, :3].max() <= 2


def test_joint_sharing_keeps_used_sets_alone_and_counts_all_rows_as_memory():
    stream, strategy, events = run((0, 1), form="joint", sets=5, held_out=0.5)
    state = strategy.state
    for depth in range(4):
        paths, held = state["paths"].rows[:, :, depth], state["held"][:, depth]
        assert [len(own.unique()) for own in paths] == held.tolist()
        assert len(state["modules"][f"{depth}"]) == int(held.max())
    kept = sum(state[part]["y"].shape[1] for part in ("data", "ranked"))
    assert kept == sum(len(stream[step].train) for step in range(2))
    last = [event for event in told(events, SharingLearned) if event.step == 1]
    assert {event.task_id for event in last} == {0, 1}
    assert all(0 <= number < 5 for event in last for number in event.set)


def test_tasks_that_are_waited_for_are_learned_with_the_next_as_if_each_had_been_learned():
    waiting, all_along = (run((0, 1), form="joint", wait=wait)[1] for wait in (1, 0))
    for depth in "0123":
        assert torch.equal(waiting.state["modules"][depth].rows, all_along.state["modules"][depth].rows)
    _, _, events = run(form="joint", wait=1)
    assert {event.step for event in told(events, SharingLearned)} == {1}


def test_rows_that_assignments_are_ranked_by_are_not_trained_on():
    stream, strategy, _ = run(form="joint", held_out=0.4)
    data, ranked = ({row.numpy().tobytes() for row in strategy.state[part]["x"][0]} for part in ("data", "ranked"))
    assert len(ranked) == pytest.approx(0.4 * 2 * len(stream[0].train), rel=0.2)
    assert not data & ranked
    assert "ranked" not in run(form="joint", held_out=0.0)[1].state


def test_the_only_row_of_a_class_is_trained_on_and_ranked_by():
    own = run(**{"train.epochs": 1})[0][0]
    y = own.train.y.clone()
    y[y == 3] = 4
    y[0] = 3
    part = none_lost(replace(own, train=Data(own.train.x, y)), 0.3, "strategy.held_out")
    assert [int((rows.y == 3).sum()) for rows in (part.train, part.validation)] == [1, 1]
    assert len(part.train) + len(part.validation) == len(y) + 1


def test_assignments_are_ranked_on_validation_rows_where_the_stream_sets_some_aside():
    stream, strategy, _ = run(form="joint", **{"stream.validation": 0.34})
    assert torch.equal(strategy.state["ranked"]["x"][0][: len(stream[0].validation)], stream[0].validation.x)
    assert torch.equal(strategy.state["data"]["x"][0][: len(stream[0].train)], stream[0].train.x)


def test_a_task_has_normalisation_of_its_own():
    stream, strategy, _ = run(form="joint", sharing="full", **{"net.norm": "batch"})
    first, second = strategy.state["norms"][0], strategy.state["norms"][1]
    assert not torch.equal(first, second)
    assert not torch.equal(answers(stream, strategy, 0), strategy.predict(stream.test(0).x, 1))


def test_joint_sharing_practises_tasks_by_the_rule_of_sampling():
    # practice by classes of equal numbers of them is uniform
    by_rule, plain = (run(form="joint", sampling=rule)[1] for rule in ("classes", "uniform"))
    for depth in "0123":
        torch.testing.assert_close(by_rule.state["modules"][depth].rows, plain.state["modules"][depth].rows)
    _, _, events = run(form="joint", sampling="loss", **{"stream.validation": 0.34, "train.epochs": 3})
    weighed = [event for event in events if type(event).__name__ == "TaskWeighed" and event.step == 1]
    assert sum(event.weight[0] for event in weighed if event.epoch == 2) == pytest.approx(1)
    assert any(event.weight[0] != pytest.approx(0.5, abs=1e-6) for event in weighed if event.epoch == 2)


@BOTH
def test_nets_that_vmap_cannot_run_are_sampled_one_by_one(form: str):
    dropping = {"net.name": f"{small.__name__}:with_dropout", "net.hidden": 8}
    convolving = {"net.name": "small_cnn", "net.width": 4, "net.layers": 1, "net.hidden": [6]}
    for overrides in (dropping, convolving):
        stream, strategy, _ = run(form=form, **{"train.epochs": 1, **overrides})
        assert answers(stream, strategy, 1).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": 0}, "sets"),
        ({"samples": 1}, "samples"),
        ({"held_out": 0.95, "form": "joint"}, "held_out: 0.95 leaves no row of a class of task 0"),
        ({"net.hidden": []}, "the net has one module, its head, and nothing to share"),
        ({"lower": 4}, "lower: the net has 3 layers before its head, and 4 are to be shared"),
        ({"wait": 2}, "wait: nothing would be learned, as there are 2 tasks, and 2 are waited for"),
        ({"sampling": "classes"}, "sampling: 'classes' is about tasks learned together"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_a_sentence(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        run(**options)


def test_heads_are_shared_only_where_all_tasks_ask_for_the_same():
    found = run(form="joint", heads="learned", sets=2, eta=0.5)[1].state
    assert len(found["modules"]["3"]) <= 2
    views = TINY.with_name("views.toml")
    with pytest.raises(
        UsageError, match=r"heads: 'learned' lets tasks share heads, and they ask for \d+ different things"
    ):
        list(walk(Experiment.of(views, "weight_sharing", (0,), heads="learned"))[2])


class Jointly(StrategyContract):
    """The contract of strategies, for the form that is not the default."""

    strategy = "weight_sharing"
    scenario = TINY
    views = TINY.with_name("views.toml")
    options: ClassVar[dict[str, Any]] = {"form": "joint", "samples": 2}


def test_joint_sharing_that_is_cut_in_the_middle_goes_on_as_if_it_had_not_been(tmp_path: Path):
    Jointly().test_a_cut_in_the_middle_of_an_experience_is_resumed_from_the_last_epoch_saved(1, tmp_path)


def test_a_seed_shares_jointly_alone_as_beside_others():
    Jointly().test_a_seed_learns_the_same_alone_as_beside_others("task")


def test_the_nets_of_published_set_ups_have_the_layers_that_are_learned_and_shared():
    wanted = {"dkl_mnist": ((1, 28, 28), (128, 288), 3), "cifar100": ((3, 32, 32), (128, 128), 20)}
    for name, (shape, first, sets) in wanted.items():
        tables = Scenario.load(f"weight_sharing_{name}").tables
        options = {key: value for key, value in tables["net"].items() if key != "name"}
        own = Net(net_builder("small_cnn", options, shape, 5), shape)
        assert own.shapes["fc0.weight"] == first
        assert tables["strategy"]["weight_sharing"]["sets"] == sets
    order = Scenario.load("weight_sharing_cifar100").tables["stream"]["class_order"]
    assert sorted(order) == list(range(100))
    assert order[5:10] == [1, 32, 67, 73, 91]  # fish: aquarium fish, flatfish, ray, shark, trout
