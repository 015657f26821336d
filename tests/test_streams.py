"""The contract of every kind of stream, found by folder, and what each kind promises besides."""

from __future__ import annotations

import gc
import weakref
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_engine.data.source import Arrays
from cl_engine.data.source_stream import SourceStream
from cl_engine.data.stream import Data, Setting, Stream
from cl_engine.engine.agenda import AgendaOptions, Evaluate, Learn, plan
from cl_engine.errors import UsageError
from cl_engine.runs import plugins
from cl_engine.streams.permuted import Permuted
from cl_engine.streams.rotated import Rotated
from cl_engine.streams.split import Split
from tests.conftest import SETTINGS

KINDS = [name for name in plugins.names("streams") if issubclass(plugins.load("streams", name), SourceStream)]
every_kind = pytest.mark.parametrize("name", KINDS)
every_setting = pytest.mark.parametrize("setting", SETTINGS)


def images(classes: int = 6, train: int = 8, test: int = 4) -> Arrays:
    """Return random images, ``train`` and ``test`` of each class."""
    draw = np.random.default_rng(0)
    train_y, test_y = (np.tile(np.arange(classes), count) for count in (train, test))
    train_x, test_x = (draw.integers(0, 256, (len(y), 1, 5, 5), dtype=np.uint8) for y in (train_y, test_y))
    return Arrays(train_x, train_y, test_x, test_y, classes)


def make(name: str, **options: Any) -> Stream:
    stream: Stream = plugins.load("streams", name)(images(), source="digits", **options)
    return stream


def same(one: Data, other: Data) -> bool:
    return torch.equal(one.x, other.x) and torch.equal(one.y, other.y)


@every_kind
@every_setting
def test_a_step_gives_the_same_tensors_whenever_and_in_whatever_order_it_is_asked_for(name: str, setting: Setting):
    stream, other = (make(name, setting=setting, n=3, validation=0.25, samples_per_class=4) for _ in range(2))
    forwards = [stream[step] for step in range(3)]
    for step in (2, 0, 1):
        again = other[step]
        assert same(forwards[step].train, again.train)
        assert same(forwards[step].validation, again.validation)
        assert same(stream.test(again.task_id), other.test(again.task_id))


@every_kind
@every_setting
def test_labels_lie_within_the_outputs_and_every_class_of_a_task_is_there(name: str, setting: Setting):
    stream = make(name, setting=setting, n=3)
    seen: set[int] = set()
    for step in range(3):
        experience = stream[step]
        labels = set(experience.train.y.tolist())
        assert len(labels) == experience.classes
        assert labels == set(stream.test(experience.task_id).y.tolist())
        assert max(labels) < stream.outputs
        if setting == "class":
            assert not labels & seen
        else:
            assert labels == set(range(experience.classes))
        seen |= labels
    assert len(seen) == stream.outputs


@every_kind
def test_tasks_are_numbered_in_the_order_in_which_they_first_arrive(name: str):
    stream = make(name, n=3, revisit=[1, 0, 1])
    ids = [stream.task_id(step) for step in range(6)]
    assert ids == [0, 1, 2, 1, 0, 1]
    assert same(stream[1].train, stream[3].train)
    assert make(name, n=2, revisit=2).n_steps == 6


@every_kind
def test_beyond_its_end_there_is_an_index_error_and_no_task(name: str):
    stream = make(name, n=2)
    for step in (2, -1):
        with pytest.raises(IndexError, match="outside a stream of 2"):
            stream[step]


@every_kind
def test_validation_rows_are_set_aside_from_the_training_rows(name: str):
    whole, parted = make(name, n=2, samples_per_class=8), make(name, n=2, samples_per_class=8, validation=0.25)
    for step in range(2):
        one, other = whole[step], parted[step]
        assert len(other.validation) == 2 * one.classes
        assert len(other.train) + len(other.validation) == len(one.train)
        rows = torch.cat([other.train.x, other.validation.x]).flatten(1)
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, one.train.x.flatten(1).tolist()))


@every_kind
def test_an_experience_given_out_is_not_kept_alive(name: str):
    stream = make(name, n=2)
    experience = stream[0]
    kept = weakref.ref(experience.train.x)
    del experience
    gc.collect()
    assert kept() is None


@every_kind
def test_inputs_stay_as_stored_and_of_one_shape(name: str):
    stream = make(name, n=3)
    for step in range(3):
        for data in (stream[step].train, stream.test(stream.task_id(step))):
            assert data.x.dtype == torch.uint8
            assert tuple(data.x.shape[1:]) == stream.input_shape
            assert data.y.dtype == torch.int64


@every_kind
def test_sample_limits_hold_for_each_class(name: str):
    stream = make(name, n=2, samples_per_class=3, test_samples_per_class=2)
    assert set(stream[0].train.y.bincount().tolist()) == {3}
    assert set(stream.test(0).y.bincount().tolist()) == {2}


@every_kind
def test_every_option_says_what_it_means_and_unknown_ones_are_refused(name: str):
    assert all(info.description for info in plugins.load("streams", name).Options.model_fields.values())
    with pytest.raises(UsageError, match=r"no option named 'stream\.sampels_per_class' \(did you mean"):
        make(name, sampels_per_class=3)


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
    moved = one.transform(task, x)
    assert torch.equal(moved, other.transform(task, x))
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


@every_kind
def test_tasks_in_another_order_are_the_same_tasks(name: str):
    plain, shuffled = make(name, n=3), make(name, n=3, task_order=[2, 0, 1])
    for place, kind in enumerate([2, 0, 1]):
        assert same(shuffled[place].train, plain[kind].train)
        assert same(shuffled.test(place), plain.test(kind))
        assert shuffled.name_of(place) == plain.name_of(kind)
        assert (shuffled[place].task_id, shuffled[place].rng_key) == (place, kind)
    assert make(name, n=3, task_order=[1, 0, 2], revisit=1)[4].rng_key == 4


def test_orders_of_tasks_are_checked_and_drawn_from_the_streams_seed():
    with pytest.raises(UsageError, match="task_order must name each of the tasks 0 to 2 once"):
        make("permuted", n=3, task_order=[0, 1, 3])
    with pytest.raises(UsageError, match=r"task_order: found -1; allowed are 0, 1, 2"):
        make("permuted", n=3, task_order=-1)
    with pytest.raises(UsageError, match="only tasks whose number is known"):
        make("permuted", task_order=1)
    orders = [[make("permuted", n=6, task_order=k).name_of(t) for t in range(6)] for k in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
