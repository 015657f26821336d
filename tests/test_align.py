"""Labels that are withheld, and the strategy that adapts a net to rows without."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_engine.core.tree import leaves_with_path
from cl_engine.data.rows_of_seeds import no_labels
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.experiment import Experiment
from cl_engine.modules.domain_judges import (
    DomainsJudged,
    balanced,
    domain_judge,
    judged,
    released_losses,
    reversed_loss,
)
from cl_engine.modules.unlabelled import Adapted, consistency, information, statistics_of
from cl_engine.nn.net import Net
from cl_engine.runs.scenario import Scenario
from cl_engine.testing import StrategyContract, small
from cl_engine.testing.walking import walk
from tests.conftest import TINY

Tiny = Callable[..., Experiment]
NORMS: dict[str, Any] = {"net.norm": "batch"}
ADAPTED: dict[str, Any] = {"stream.unlabelled": [1], "stream.n": 2, "stream.setting": "domain", **NORMS}
METHODS = ("judges", "teacher", "shot", "statistics")


def learned(experiment: Experiment, change: Callable[[Stream], None] = lambda stream: None) -> tuple[list[Event], Any]:
    stream, strategy, events = walk(experiment)
    change(stream)
    return list(events), strategy


def weights(strategy: Any) -> dict[Any, Tensor]:
    return dict(leaves_with_path(strategy.state["net"]))


def other_labels(stream: Stream) -> None:
    """Let every label of the stream's second task be another one, on training and validation rows."""
    held = type(stream).__getitem__

    class Planted(type(stream)):  # type: ignore[misc]
        def __getitem__(self, step: int) -> Experience:
            found: Experience = held(self, step)
            if found.task_id == 1:
                for part in (found.train, found.validation):
                    part.y.copy_((part.y + 1) % 10)
            return found

    stream.__class__ = Planted


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stream.name": "rotated", "stream.validation": 0.25},
        {"stream.name": "datasets", "stream.sources": ["digits", "digits"], "stream.source": None},
        {"stream.per_seed": True},
    ],
    ids=["permuted", "rotated", "datasets", "per_seed"],
)
def test_a_share_of_the_rows_comes_without_labels_whatever_the_stream(tiny: Tiny, options: dict[str, Any]):
    tables = {**Scenario.load(TINY).tables}
    stream_table = {**tables["stream"], **{name.removeprefix("stream."): value for name, value in options.items()}}
    tables["stream"] = {name: value for name, value in stream_table.items() if value is not None}
    if "sources" in tables["stream"]:
        tables["stream"].pop("n")
    tables["stream"]["unlabelled_share"] = 0.75
    stream = Experiment.of(Scenario.of("shares", tables), "finetune", (0, 1)).stream()
    whole, found, again = stream[1], stream.arrival(1), stream.arrival(1)
    assert found.labelled and found.unlabelled is not None
    assert len(found.unlabelled) == round(0.75 * len(whole.train))
    assert len(found.train) + len(found.unlabelled) == len(whole.train)
    assert (found.unlabelled.y == -1).all() and (found.train.y >= 0).all()
    assert torch.equal(found.train.x, again.train.x) and torch.equal(found.unlabelled.x, again.unlabelled.x)
    every = torch.cat([found.train.x, found.unlabelled.x]).flatten(1)
    assert torch.equal(every.double().sum(0), whole.train.x.flatten(1).double().sum(0))
    assert len(found.validation) == len(whole.validation) - round(0.75 * len(whole.validation))
    if whole.train.of_seeds is not None:
        assert found.train.of_seeds is not None and found.unlabelled.of_seeds is not None
        assert (found.unlabelled.of_seeds.y == -1).all()
        for place in range(2):
            x, y = found.train.of(place)
            pairs = list(zip(*whole.train.of(place), strict=True))
            assert all(any(torch.equal(a, c) and b == d for c, d in pairs) for a, b in zip(x, y, strict=True))


def test_a_share_holds_for_the_tasks_that_are_named_or_for_every_task(tiny: Tiny):
    def shares(**options: Any) -> list[float]:
        stream = tiny("align", **{f"stream.{name}": value for name, value in options.items()}).stream()
        return [stream.withheld(task) for task in range(3)]

    assert shares() == [0, 0, 0]
    assert shares(unlabelled=[1]) == [0, 1, 0]
    assert shares(unlabelled=[1], unlabelled_share=0.5) == [0, 0.5, 0]
    assert shares(unlabelled_share=0.5) == [0.5, 0.5, 0.5]


def test_no_label_is_left_of_rows_whose_labels_are_withheld_whatever_they_are():
    assert no_labels(torch.tensor([[3, 4]])).tolist() == [[-1, -1]]
    assert no_labels(torch.tensor([[3, 255]], dtype=torch.uint8)).tolist() == [
        [255, 255]
    ]  # what maps hold where none is
    shown = Data(torch.arange(4.0), torch.arange(4), resample=lambda draw: torch.arange(4.0) + draw)
    found = shown.at(torch.tensor([2, 0])).without_labels()
    assert found.resample is not None
    assert found.resample(10).tolist() == [12, 10] and found.y.tolist() == [-1, -1]


@pytest.mark.parametrize("share", [None, 0.6])
@pytest.mark.parametrize("method", METHODS)
def test_labels_that_are_withheld_are_never_read(tiny: Tiny, method: str, share: float | None):
    options = {**ADAPTED, "stream.validation": 0.2, "method": method, "entropy": 0.1, "balance": [1.0] * 10}
    if method in ("shot", "statistics"):
        options |= {"source_rows": 0}
    if share is None:
        experiment = tiny("align", (0,), **options)
        (_, one), (_, other) = learned(experiment), learned(experiment, other_labels)
        assert all(torch.equal(one, weights(other)[path]) for path, one in weights(one).items())
        return
    # which rows keep their labels does not depend on labels either
    stream = tiny("align", (0,), **options, **{"stream.unlabelled_share": share}).stream()
    found = stream.arrival(1)
    other_labels(stream)
    again = stream.arrival(1)
    assert torch.equal(found.train.x, again.train.x) and not torch.equal(found.train.y, again.train.y)
    assert found.unlabelled is not None and again.unlabelled is not None
    assert torch.equal(found.unlabelled.y, again.unlabelled.y)


@pytest.mark.parametrize(
    ("strategy", "options", "sentence"),
    [
        (
            "finetune",
            {"stream.unlabelled_share": 0.5},
            r"does not learn from rows with and without .* 50% .* every task",
        ),
        ("compose", {"stream.unlabelled": [2], "stream.unlabelled_share": 0.5}, r"with and without .* of tasks \[2\]"),
        (
            "finetune",
            {"stream.unlabelled_share": 1.0},
            "learns from labels, and stream.unlabelled withholds those of every",
        ),
        ("align", {"stream.unlabelled": [0]}, "task 0 comes first, and align adapts what labelled rows have taught"),
        ("align", {"stream.unlabelled": [3]}, "there is no task 3"),
        ("align", {"stream.unlabelled": [1], "source_rows": 0}, "strategy.source_rows: found 0, and judges hold"),
        (
            "align",
            {"stream.unlabelled": [1], "method": "statistics"},
            "are those of batch normalisation, and the net has none",
        ),
        ("align", {"balance": [3.0, 1.0]}, "strategy.balance: found 2 factors, and there are 10 kinds"),
        ("align", {"align": ["features", "features"]}, "strategy.align: found .*; name each once"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_first_step(
    tiny: Tiny, strategy: str, options: dict[str, Any], sentence: str
):
    experiment = tiny(strategy, **options)
    with pytest.raises(UsageError, match=sentence):
        experiment.build_strategy(experiment.stream())


def test_answers_without_kinds_and_tasks_that_ask_for_different_things_are_refused():
    def built(views: list[str], **options: Any) -> None:
        experiment = Experiment.of(small.views(), "align", (0,), **{"stream.views": views, **options})
        experiment.build_strategy(experiment.stream())

    with pytest.raises(UsageError, match=r"one head for all tasks, and they ask for 2 things \(boxes, number_map\)"):
        built(["boxes", "depth"])
    with pytest.raises(UsageError, match=r"method = 'shot': found, and 'number_map' has no kinds of answers"):
        built(["depth", "depth"], method="shot")
    with pytest.raises(
        UsageError, match=r"method = 'shot': lets all kinds .* most places of 'boxes' say that nothing is there"
    ):
        built(["boxes", "boxes"], method="shot")
    built(["depth", "depth"])


def test_side_tasks_are_asked_about_rows_without_labels_beside_those_with(tiny: Tiny):
    menu = {"menu": ["rotation"], "train.epochs": 1, "stream.unlabelled_share": 0.5, "stream.n": 1}
    _, strategy = learned(tiny("auxiliary", (0,), **menu))
    assert strategy.state["unlabelled"]["x"].shape == (1, 30, 1, 8, 8)


def test_a_judge_is_convolutional_for_maps_and_fully_connected_for_rows():
    device = torch.device("cpu")
    rows, maps = (domain_judge([0, 1], read, 8, device, "part") for read in ((5,), (5, 4, 6)))
    assert [tuple(rows[f"{k}.weight"].shape) for k in range(3)] == [(2, 8, 5), (2, 4, 8), (2, 1, 4)]
    assert tuple(maps["0.weight"].shape) == (2, 8, 5, 3, 3) and tuple(maps["2.weight"].shape) == (2, 1, 4, 1, 1)
    own = [{name: weight[0] for name, weight in judge.items()} for judge in (rows, maps)]
    assert judged(own[0], torch.randn(7, 5)).shape == (7,)
    assert judged(own[1], torch.randn(7, 5, 4, 6)).shape == (7, 4, 6)


def test_the_released_adversary_moves_the_target_side_alone_and_reversal_both():
    judge = {name: weight[0] for name, weight in domain_judge([0], (3,), 4, torch.device("cpu"), "part").items()}
    judge = {name: weight.requires_grad_() for name, weight in judge.items()}
    source, target = (torch.randn(6, 3, requires_grad=True) for _ in range(2))
    own, taught = released_losses(judge, source, target)
    by_judge = torch.autograd.grad(own, [*judge.values(), source, target], retain_graph=True, allow_unused=True)
    assert by_judge[-2] is None and by_judge[-1] is None and any(each.any() for each in by_judge[:-2])
    by_net = torch.autograd.grad(taught, [*judge.values(), source, target], allow_unused=True)
    assert [each is None for each in by_net] == [True] * (len(judge) + 1) + [False]
    plain = torch.autograd.grad(reversed_loss(judge, source, target, -1.0), [source, target])
    turned = torch.autograd.grad(reversed_loss(judge, source, target, 0.5), [source, target])
    for one, other in zip(plain, turned, strict=True):
        torch.testing.assert_close(other, -0.5 * one)


def test_an_undecided_judge_loses_two_ln_2_and_the_net_ln_2():
    nothing = {name: torch.zeros_like(w[0]) for name, w in domain_judge([0], (3,), 4, torch.device("cpu")).items()}
    own, taught = released_losses(nothing, torch.randn(5, 3), torch.randn(4, 3))
    assert (float(own), float(taught)) == pytest.approx((2 * math.log(2), math.log(2)))


def test_kinds_of_answers_count_alike_but_for_their_factors():
    chances = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
    assert balanced(chances, torch.ones(2)).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])
    found = balanced(chances, torch.tensor([3.0, 1.0]))
    assert float(found[:3].sum() / found[3]) == pytest.approx(3.0) and float(found.mean()) == pytest.approx(1.0)
    maps = chances.T[None, :, None]  # the same as places of one row
    torch.testing.assert_close(balanced(maps, torch.ones(2)).flatten(), balanced(chances, torch.ones(2)))


def test_the_share_of_a_row_holds_for_all_places_of_its_map():
    judge = {name: w[0] for name, w in domain_judge([0], (3, 2, 2), 4, torch.device("cpu"), "part").items()}
    maps, shares = torch.randn(2, 3, 2, 2), torch.tensor([0.5, 1.5])
    alone = [released_losses(judge, maps, row.unsqueeze(0))[1] for row in maps]
    together = released_losses(judge, maps, maps, shares)[1]
    torch.testing.assert_close(together, (0.5 * alone[0] + 1.5 * alone[1]) / 2)
    turned = reversed_loss(judge, maps, maps, 1.0, shares) - reversed_loss(judge, maps, maps, 1.0)
    assert float(turned.abs()) > 0


def test_information_is_greatest_where_answers_are_sure_and_diverse():
    sure = torch.eye(2).repeat(3, 1)
    assert float(information(sure)) == pytest.approx(math.log(2), abs=1e-5)
    assert float(information(sure[:1])) == pytest.approx(0, abs=1e-5)
    assert float(information(torch.full((4, 2), 0.5))) == pytest.approx(0, abs=1e-5)


def test_a_teacher_teaches_where_it_is_sure():
    teacher, student = torch.tensor([[0.95, 0.05], [0.6, 0.4]]), torch.full((2, 2), 0.5)
    assert float(consistency(student, teacher, 0.9)) == pytest.approx(0.45**2 * 2 / 2)
    assert float(consistency(student, teacher, 0.99)) == 0


def test_statistics_are_those_of_the_rows_whatever_was_known_and_weights_stay():
    norm = nn.BatchNorm1d(4, momentum=0.3)
    build = lambda: nn.Sequential(nn.Flatten(), norm, nn.ReLU(), nn.Linear(4, 2))  # noqa: E731
    net = Net(build, (4,))
    params, x = net.init([0, 1]), torch.randn(40, 4) * 3 + 2
    found = statistics_of(net, params, x, 40, [0, 1], 0)
    mean, var = (found[f"1.running_{name}"] for name in ("mean", "var"))
    torch.testing.assert_close(mean, x.mean(0).expand(2, 4))
    torch.testing.assert_close(var, x.var(0).expand(2, 4))
    assert all(torch.equal(found[name], params[name]) for name in params if "running" not in name)
    halves = statistics_of(net, params, x, 20, [0], 0)
    torch.testing.assert_close(halves["1.running_mean"][0], x.mean(0))
    assert not params["1.running_mean"].any()


def test_what_is_kept_is_the_mean_of_the_last_checkpoints(tiny: Tiny):
    def after(epochs: int, last: int) -> dict[Any, Tensor]:
        options = {"adapt_epochs": epochs, "last": last, "stream.n": 2, "stream.unlabelled": [1]}
        return weights(learned(tiny("align", (0,), **options))[1])

    checkpoints, found = [after(epochs, 1) for epochs in (1, 2, 3)], after(3, 2)
    for path, mean in found.items():
        torch.testing.assert_close(mean, (checkpoints[1][path] + checkpoints[2][path]) / 2)


def test_information_maximisation_keeps_the_head_and_no_row_of_the_source(tiny: Tiny):
    _, strategy, events = walk(tiny("align", (0,), method="shot", **ADAPTED))
    before: dict[Any, Tensor] = {}
    for event in events:
        if type(event).__name__ == "TaskLearned" and not before:
            before = {path: leaf.clone() for path, leaf in weights(strategy).items()}
    changed = {path[-1] for path, leaf in weights(strategy).items() if not torch.equal(leaf, before[path])}
    assert changed and not changed & {"head.weight", "head.bias"}
    assert "source" not in strategy.state


def test_rows_of_the_source_are_kept_and_counted_as_many_as_asked_for(tiny: Tiny):
    events, strategy = learned(tiny("align", (0,), source_rows=20, **ADAPTED))
    assert strategy.state["source"]["x"].shape == (1, 20, 1, 8, 8)
    [told] = [event for event in events if isinstance(event, DomainsJudged)]
    assert told.part == "features" and 0 <= told.accuracy[0] <= 1
    assert len([event for event in events if isinstance(event, Adapted)]) == 1


@pytest.mark.parametrize("method", ["teacher", "shot"])
def test_a_seed_is_adapted_the_same_beside_others_and_after_a_cut(method: str, tmp_path: Path):
    own = {"strategy": "align", "scenario": TINY, "options": {"stream.unlabelled": [1], "method": method}}
    contract = type("Adapting", (StrategyContract,), own)()
    contract.test_a_seed_learns_the_same_alone_as_beside_others("domain")
    contract.test_a_cut_in_the_middle_of_an_experience_is_resumed_from_the_last_epoch_saved(0, tmp_path)


@pytest.mark.parametrize("asked", ["segmentation", "boxes"])
def test_a_judge_of_predictions_reads_maps(asked: str):
    options = {"stream.views": [asked, asked], "stream.unlabelled": [1], "train.epochs": 1}
    how = {"align": ["features", "predictions"], "adversary": "reversal" if asked == "boxes" else "released"}
    if asked == "boxes":
        how["balance"] = [3.0, 1.0]
    events, strategy = learned(Experiment.of(small.views(), "align", (0, 1), **options, **how))
    told = [event for event in events if isinstance(event, DomainsJudged)]
    assert [event.part for event in told] == ["features", "predictions"]
    assert all(leaf.isfinite().all() for leaf in weights(strategy).values())


DETECTOR = Scenario.of(
    "vehicles",
    {
        "stream": {"name": "vehicles", "setting": "domain", "size": 32, "rows": 8, "test_rows": 6, "n": 2},
        "net": {"name": "isometric", "width": 8, "steps": 1, "patch": 4, "norm": "batch"},
        "train": {"epochs": 2, "batch": 4, "optimizer": "adam", "lr": 1e-3},
        "agenda": {"evaluate_ahead": 1, "curve_batches": 1, "save_share": 1.0},
    },
)
BOTH: dict[str, Any] = {"align": ["features", "predictions"], "balance": [3.0, 1.0], "entropy": 0.3}


@pytest.mark.parametrize(
    "options",
    [
        {"stream.unlabelled": [1], **BOTH},
        {"stream.unlabelled": [1], "method": "teacher"},
        {"stream.unlabelled_share": 0.5, **BOTH, "source_rows": 4},
    ],
    ids=["judges", "teacher", "share"],
)
def test_a_detector_is_adapted_the_same_beside_others_and_after_a_cut(options: dict[str, Any], tmp_path: Path):
    contract = type("Detecting", (StrategyContract,), {"strategy": "align", "scenario": DETECTOR, "options": options})()
    contract.test_a_seed_learns_the_same_alone_as_beside_others("domain")
    contract.test_a_cut_in_the_middle_of_an_experience_is_resumed_from_the_last_epoch_saved(0, tmp_path)


@pytest.mark.parametrize("method", ["judges", "teacher", "statistics"])
def test_boxes_that_are_withheld_are_never_read(method: str):
    def other_boxes(stream: Stream) -> None:
        held = type(stream).__getitem__

        class Planted(type(stream)):  # type: ignore[misc]
            def __getitem__(self, step: int) -> Experience:
                found: Experience = held(self, step)
                if found.task_id == 1:
                    found.train.y.copy_(found.train.y.flip(0))
                return found

        stream.__class__ = Planted

    own = BOTH if method == "judges" else {"method": method}
    experiment = Experiment.of(DETECTOR, "align", (0,), **{"stream.unlabelled": [1], **own})
    (_, one), (_, other) = learned(experiment), learned(experiment, other_boxes)
    assert all(torch.equal(leaf, weights(other)[path]) for path, leaf in weights(one).items())


def test_features_of_a_turned_digit_are_brought_to_those_of_upright_ones():
    options = {"stream.samples_per_class": 50, "stream.validation": 0.4, "train.epochs": 12, "last": 3}

    def accuracy(method: str) -> tuple[float, float]:
        _, strategy, events = walk(Experiment.of("align_digits", "align", (0,), method=method, **options))
        rows = [stream_rows.validation for stream_rows in (_[0], _[1])]
        list(events)
        said = [strategy.predict(part.x, None)[0].argmax(1) for part in rows]
        return tuple(float((a == part.y).double().mean()) for a, part in zip(said, rows, strict=True))  # type: ignore

    alone, adapted = accuracy("none"), accuracy("judges")
    assert adapted[1] > alone[1] + 0.05
    assert adapted[0] > alone[0] - 0.1
