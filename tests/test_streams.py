"""The contract of every kind of stream, found by folder, and what each kind promises besides."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cl_engine.data.source import Arrays
from cl_engine.data.source_stream import SourceStream
from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import AgendaOptions, Evaluate, Learn, plan
from cl_engine.errors import UsageError
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.streams.permuted import Permuted
from cl_engine.streams.rotated import Rotated
from cl_engine.streams.split import Split
from cl_engine.testing import StreamContract
from cl_engine.testing.small import images

# streams of several sources are held to it with little to draw, so that it takes no time
OPTIONS = {
    "bell": {
        "kind": "s_minus",
        "classes": 4,
        "views": [[], ["mirror"]],
        "full": 20,
        "fewer": 12,
        "few_images": 8,
        "aside": 6,
        "test_rows": 10,
    },
    "ctrl": {"shape": [3, 5, 5], "large": [4, 2], "small": [4, 2]},
    "compositional": {"depth": 1},
    "radio": {"frames": 16, "test_frames": 16, "feedback": 8},
    "resolution": {"canvas": 7, "sizes": [3, 5, 7], "blur": [0.0, 0.0, 1.0], "places": "random"},
    "vehicles": {"size": 32, "rows": 8, "test_rows": 6},
    "views": {"views": ["classes", "flip", "rotation"]},
}

for kind in plugins.names("streams"):
    globals()[f"Test_{kind}"] = type(
        f"Test_{kind}", (StreamContract,), {"stream": kind, "options": OPTIONS.get(kind, {})}
    )


def make(name: str, **options: Any) -> Stream:
    stream: Stream = plugins.load("streams", name)(images(), source="digits", **options)
    return stream


def test_an_option_that_is_misspelt_is_refused_with_the_one_that_was_meant():
    with pytest.raises(UsageError, match=r"no option named 'stream\.sampels_per_class' \(did you mean"):
        make("permuted", sampels_per_class=3)


def test_split_deals_all_classes_out_once():
    for n in (1, 2, 4, 6):
        stream = make("split", n=n, class_order=3)
        assert isinstance(stream, Split)
        dealt = [label for task in range(n) for label in stream.classes_of(task)]
        assert sorted(dealt) == list(range(6))
    assert make("split").n_tasks == 3


def test_split_orders_differ_by_number_and_can_be_given():
    orders = [[make("split", class_order=k).classes_of(t) for t in range(3)] for k in (0, 1, 2)]  # type: ignore[attr-defined]
    assert orders[0] == [(0, 1), (2, 3), (4, 5)]
    assert orders[1] != orders[2]
    given_order = make("split", class_order=[5, 4, 3, 2, 1, 0])
    assert given_order.classes_of(0) == (5, 4)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 7}, "7 tasks cannot share the 6 classes"),
        ({"class_order": [0, 1]}, "must name each of the classes 0 to 5 once"),
        ({"class_order": -1}, "allowed are 0, 1, 2"),
        ({"revisit": [9]}, "there is no task 9"),
        ({"revisit": -2}, "stream.revisit: found -2"),
        ({"validation": 1.0}, "stream.validation"),
        ({"n": 0}, "stream.n"),
        ({"n": "three"}, "stream.n"),
        ({"setting": "online"}, "stream.setting"),
    ],
)
def test_split_refuses_what_does_not_fit(options: dict[str, Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        make("split", **options)


def test_permuted_keeps_every_pixel_and_moves_them_alike_in_every_image():
    plain, stream = make("permuted", n=1), make("permuted")
    first, second = plain.test(0).x.flatten(1), stream.test(1).x.flatten(1)
    assert torch.equal(first, stream.test(0).x.flatten(1))
    order = [int(torch.nonzero((first == column[:, None]).all(dim=0))[0]) for column in second.T]
    assert sorted(order) == list(range(25))
    assert order != list(range(25))


def test_permuted_has_no_end_unless_told_and_its_thousandth_task_costs_no_more_than_its_first():
    stream = make("permuted")
    assert stream.n_steps is None
    assert stream[123_456].task_id == 123_456
    assert len(list(islice(plan(stream, AgendaOptions()), 3000))) == 3000
    with pytest.raises(UsageError, match=r"stream\.n is missing"):
        make("permuted", setting="class")
    with pytest.raises(UsageError, match=r"stream\.n is missing"):
        make("permuted", revisit=1)


def test_an_endless_stream_has_each_untrained_test_before_the_task_is_learned():
    items = list(islice(plan(make("permuted"), AgendaOptions(evaluate_ahead=2)), 40))
    untrained: set[int] = set()
    for item in items:
        if isinstance(item, Evaluate) and item.step < 0:
            assert not untrained & set(item.task_ids)
            untrained |= set(item.task_ids)
        elif isinstance(item, Evaluate):
            assert set(item.task_ids) <= untrained
        elif isinstance(item, Learn):
            assert item.step in untrained


def test_rotated_turns_and_a_half_turn_twice_is_the_identity():
    stream = make("rotated", n=2, degrees=360.0)
    assert isinstance(stream, Rotated)
    assert [stream.angle(task) for task in range(2)] == [0.0, 180.0]
    x = stream.test(0).x
    assert torch.equal(stream.transform(1, x), x.flip(2).flip(3))
    drawn = make("rotated", degrees=90.0)
    assert isinstance(drawn, Rotated)
    angles = [drawn.angle(task) for task in range(50)]
    assert len(set(angles)) == 50
    assert all(0 <= angle <= 90 for angle in angles)


def test_rotated_refuses_signals():
    signals = Arrays(
        np.zeros((4, 1, 40), np.float32), np.arange(4) % 2, np.zeros((2, 1, 40), np.float32), np.arange(2), 2
    )
    with pytest.raises(UsageError, match="no images to rotate"):
        Rotated(signals, source="mnist1d")


@given(seed=st.integers(0, 1000), task=st.integers(0, 10_000))
def test_a_permutation_depends_on_seed_and_task_alone(seed: int, task: int):
    x = torch.arange(25, dtype=torch.uint8).reshape(1, 1, 5, 5)
    one, other = (Permuted(images(), source="digits", seed=seed) for _ in range(2))
    moved = one.lens(task)(x)
    assert torch.equal(moved, other.lens(task)(x))
    assert sorted(moved.flatten().tolist()) == list(range(25))


# One against some


def against(**options: Any) -> SourceStream:
    stream = make("one_against", **options)
    assert isinstance(stream, SourceStream)
    return stream


def test_one_class_against_every_pair_of_others_is_a_task_once():
    stream = against()
    assert stream.n_tasks == 6 * 10
    tasks = {stream.classes_of(task) for task in range(60)}
    assert len(tasks) == 60
    assert all(len(set(task)) == 3 for task in tasks)
    assert [stream.classes_of(task) for task in range(60)] != sorted(tasks)
    assert [against(shuffled=False).classes_of(task) for task in range(60)] == sorted(tasks)
    assert stream.name_of(0).startswith(f"{stream.classes_of(0)[0]} against ")


def test_listed_negatives_stand_against_their_class_with_a_share_of_their_rows():
    stream = against(positives=[2, 0], negatives=[[1, 3], [4]], share=0.5, shuffled=False)
    assert [stream.classes_of(task) for task in range(2)] == [(2, 1, 3), (0, 4)]
    assert stream[0].train.y.bincount().tolist() == [8, 8]
    assert stream[1].train.y.bincount().tolist() == [8, 4]
    assert stream.outputs == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 61}, "there are 60 tasks"),
        ({"negatives": [[1]]}, "1 lists for 6 positives"),
        ({"positives": [0], "negatives": [[0]]}, "needs different classes from 0 to 5"),
        ({"positives": [0], "negatives": [[6]]}, "needs different classes from 0 to 5"),
        ({"positives": [0], "negatives": [[]]}, "at least two"),
        ({"of": 6}, "at least two"),
    ],
)
def test_tasks_of_one_against_some_that_cannot_be_are_refused(options: dict[str, Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        against(**options)


def test_orders_of_tasks_are_checked_and_drawn_from_the_streams_seed():
    with pytest.raises(UsageError, match="task_order must name each of the tasks 0 to 2 once"):
        make("permuted", n=3, task_order=[0, 1, 3])
    with pytest.raises(UsageError, match=r"task_order: found -1; allowed are 0, 1, 2"):
        make("permuted", n=3, task_order=-1)
    with pytest.raises(UsageError, match="only tasks whose number is known"):
        make("permuted", task_order=1)
    orders = [[make("permuted", n=6, task_order=k).name_of(t) for t in range(6)] for k in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_labels_permuted_are_the_same_rows_under_other_names():
    stream = make("label_permuted", n=3, same_rows=True)
    plain, renamed = stream[0].train, stream[1].train
    names = {int(a): int(b) for a, b in zip(plain.y, _matched(plain.x, renamed.x, renamed.y), strict=True)}
    assert sorted(names) == sorted(names.values()) == list(range(6))
    assert any(a != b for a, b in names.items())


def _matched(rows: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> list[int]:
    """Return for each row the label that an equal row among others has."""
    return [int(labels[(others == row).flatten(1).all(dim=1)][0]) for row in rows]


@pytest.mark.parametrize("draw", ["shuffle", "each"])
def test_random_labels_are_others_in_every_task_for_the_same_rows(draw: str):
    stream = make("random_labels", n=3, samples_per_class=8, draw=draw, tested="learned")
    first, second = stream[0].train, stream[1].train
    assert torch.equal(first.x, second.x)
    assert not torch.equal(first.y, second.y)
    assert torch.equal(stream.test(1).x, second.x)
    assert torch.equal(stream.test(1).y, second.y)
    if draw == "shuffle":
        assert torch.bincount(first.y).tolist() == torch.bincount(second.y).tolist() == [8] * 6


def test_pairs_deal_out_all_classes_before_one_comes_again():
    stream = make("pairs", n=30)
    rounds = [[stream.classes_of(3 * k + j) for j in range(3)] for k in range(10)]  # type: ignore[attr-defined]
    assert all(sorted(label for pair in pairs for label in pair) == list(range(6)) for pairs in rounds)
    assert len({tuple(pairs) for pairs in rounds}) > 1
    with pytest.raises(UsageError, match="none comes again"):
        make("pairs", n=4, again=False)


def test_rows_that_are_drawn_can_be_the_same_in_all_tasks():
    again, anew = (make("permuted", n=2, samples_per_class=3, same_rows=same)[1].train for same in (True, False))
    first = make("permuted", n=2, samples_per_class=3)[0].train
    assert torch.equal(first.x.flatten(1).sort().values, again.x.flatten(1).sort().values)
    assert not torch.equal(first.x.flatten(1).sort().values, anew.x.flatten(1).sort().values)


# What nets see pixels as


@pytest.mark.parametrize(("pixels", "low", "high"), [("unit", 0.0, 1.0), ("symmetric", -1.0, 1.0)])
def test_bytes_are_brought_to_where_pixels_says(pixels: str, low: float, high: float):
    stream = make("permuted", pixels=pixels)
    net = Net(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(stream.input_shape)), 2)),
        stream.input_shape,
        mean=stream.mean,
        std=stream.std,
    )
    seen = net.prepare(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1))
    assert seen.flatten().tolist() == [low, high]


def test_pixels_are_refused_where_inputs_are_no_bytes():
    signals = Arrays(
        np.zeros((4, 1, 40), np.float32), np.arange(4) % 2, np.zeros((2, 1, 40), np.float32), np.arange(2), 2
    )
    with pytest.raises(UsageError, match=r"stream\.pixels: 'unit' is about bytes"):
        Permuted(signals, source="mnist1d", pixels="unit")
