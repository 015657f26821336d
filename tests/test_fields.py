"""Neural fields: pictures asked for as functions of coordinates, nets for them, and nets made from a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.data.source import Arrays
from cl_engine.data.stream_of_seeds import for_seeds
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.nets.siren import Siren
from cl_engine.streams.fields import Fields
from cl_engine.targets.numbers import Numbers
from cl_engine.testing import CodesContract, StrategyContract
from cl_engine.testing.small import images
from cl_engine.testing.streams import Given

PICTURES = images()


def fields(**options: object) -> Fields:
    return Fields(Given(PICTURES), source="given", **options)


def test_a_field_asks_for_every_pixel_of_a_picture_at_its_place():
    stream = fields(n=3)
    data, stored = stream[2].train, PICTURES.train_x[stream.picture(2), 0]
    assert data.x.shape == (25, 2) and data.y.shape == (25, 1)
    for (down, right), (value,) in zip(data.x.tolist(), data.y.tolist(), strict=True):
        row, column = round((down + 1) / 2 * 5 - 0.5), round((right + 1) / 2 * 5 - 0.5)
        assert value == pytest.approx(stored[row, column] / 255)
    assert torch.equal(stream.test(2).y, data.y) and not stream.held_out


def test_pictures_of_another_size_are_the_means_of_areas():
    stream = Fields(Given(images_of(np.arange(32, dtype=np.uint8).reshape(1, 2, 4, 4))), source="given", size=2, n=1)
    assert (stream[0].train.y * 255).tolist() == [[2.5, 18.5], [4.5, 20.5], [10.5, 26.5], [12.5, 28.5]]


def test_without_a_number_of_tasks_pictures_come_again_in_another_order():
    stream, count = fields(), len(PICTURES.train_x)
    first, second = ([stream.picture(again * count + k) for k in range(count)] for again in (0, 1))
    assert sorted(first) == sorted(second) == list(range(count)) and first != second
    assert stream[10**6].task_id == 10**6 and stream.n_steps is None


def test_each_learner_has_pictures_of_its_own_where_that_is_asked_for():
    (_, mine), (_, theirs) = (for_seeds(fields(n=3, per_seed=True), [0, 1])[1].train.of(place) for place in (0, 1))
    assert not torch.equal(mine, theirs)


def test_the_score_of_a_field_is_the_peak_signal_to_noise_ratio_beside_its_error():
    target, y = Numbers.of(numbers=1, measured_by="psnr"), torch.tensor([[0.0], [1.0]])
    scores = target.scores(target.sums(y + 0.1, y).numpy())
    assert scores["rmse"] == pytest.approx(0.1) and scores["psnr"] == pytest.approx(20, abs=1e-4)
    assert target.score(target.sums(y, y).numpy()) == pytest.approx(100)  # at most, so that means are finite
    assert target.measure.title == "psnr (dB)" and target.measure.higher


@pytest.mark.parametrize(
    ("arrays", "options", "said"),
    [
        (PICTURES, {"setting": "class"}, r"stream\.setting: found 'class'; fields ask for different pictures"),
        (PICTURES, {"size": 0}, r"stream\.size"),
        (
            Arrays(np.zeros((4, 1, 40), np.float32), np.arange(4) % 2, np.zeros((2, 1, 40)), np.arange(2), 2),
            {},
            r"inputs of 'given' are float32 of shape \(1, 40\); fields are made of images",
        ),
    ],
)
def test_what_fields_cannot_be_made_of_is_refused(arrays: Arrays, options: dict[str, object], said: str):
    with pytest.raises(UsageError, match=said):
        Fields(Given(arrays), source="given", **options)


def test_layers_of_a_siren_begin_within_the_published_bounds():
    architecture = Siren()
    architecture.configure({"hidden": [8, 6]}, "net")
    first, middle, last = (layer.weight for layer in architecture.build((2,), 1) if hasattr(layer, "weight"))
    assert first.abs().max() <= 1 / 2
    assert middle.abs().max() <= np.sqrt(6 / 8) / 30
    assert last.abs().max() <= np.sqrt(6 / 6) / 30


# Nets made from a picture

SMALL: dict[str, Any] = {
    "condition": "labels",
    "encoder": [16],
    "hidden": [16],
    "horizon": 20,
    "stream.n": 2,
    "net.hidden": [6],
    "train.epochs": 3,
    "train.optimizer": "adam",
    "train.lr": 0.01,
}


def learned(seeds: tuple[int, ...] = (0,), scenario: str = "fields_digits", **options: Any) -> tuple[Any, Any]:
    """Return the stream, and a field that has learned its pictures, given them in place of codes."""
    experiment = Experiment.of(scenario, "hypernet_field", seeds, **{**SMALL, **options})
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    list(simulate(stream, learner, plan(stream, experiment.agenda)))
    return stream, learner


def test_a_net_of_a_picture_never_learned_is_made_in_one_pass_at_any_step():
    _, learner = learned((0, 1))
    unseen = Experiment.of("fields_digits", "finetune", **{"stream.n": 9}).stream()[8]
    start, halfway, end = (learner.net_at(unseen, time) for time in (0, 10, 20))
    drawn = learner.net.init([0, 1])
    assert all(torch.equal(tensor, drawn[name]) for name, tensor in start.items())
    for name, tensor in end.items():
        assert tensor.shape[0] == 2 and not torch.equal(tensor, halfway[name])
    other = learner.net_at(Experiment.of("fields_digits", "finetune", **{"stream.n": 9}).stream()[7], 20)
    assert not torch.equal(other["head.weight"], end["head.weight"])


def test_the_code_of_a_picture_is_kept_and_the_encoder_is_not_needed_to_recall():
    stream, learner = learned()
    assert torch.equal(learner.nets.code(1), learner.encoded(stream[1]))
    assert not torch.equal(learner.nets.code(0), learner.encoded(stream[0]))  # the encoder has learned since
    before = learner.predict(stream.test(0).x, 0)
    del learner.state["encoder"]
    assert torch.equal(before, learner.predict(stream.test(0).x, 0))


class GivenPictures(StrategyContract, CodesContract):
    """A field that is given pictures, to be asked for some of what contracts hold strategies to."""

    strategy, scenario, options = "hypernet_field", "fields_digits", {**SMALL, "agenda.save_share": 1.0}

    __test__ = False


def test_a_field_that_is_given_pictures_keeps_the_contracts(tmp_path: Path):
    held = GivenPictures()
    held.test_a_cut_in_the_middle_of_an_experience_is_resumed_from_the_last_epoch_saved(0, tmp_path)
    held.test_a_seed_learns_the_same_alone_as_beside_others("task")
    held.test_decoding_reads_what_is_counted_and_what_follows_from_the_seeds(tmp_path)
    held.test_the_bytes_that_are_told_are_those_of_the_state()


def test_from_a_task_on_pictures_may_be_encoded_and_nothing_trained():
    _, learner = learned()
    stream, later = learned(encode_from=2, **{"stream.n": 4})
    for name, tensor in learner.state["generator"].items():
        assert torch.equal(tensor, later.state["generator"][name])
    assert torch.equal(later.nets.code(3), later.encoded(stream[3]))


@pytest.mark.parametrize(
    ("scenario", "options", "said"),
    [
        (
            "permuted_digits",
            {"net.name": "mlp"},
            "condition = 'labels' is for tasks that differ in the numbers they ask",
        ),
        ("fields_digits", {"warm": True}, "warm starts codes that are learned"),
        ("fields_digits", {"condition": "code", "encode_from": 2}, "encode_from is about an encoder"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(scenario: str, options: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        learned(scenario=scenario, **options)


def test_an_encoder_refuses_a_picture_of_another_size():
    _, learner = learned()
    with pytest.raises(UsageError, match="a task has 9 numbers to ask for, and the first had 64"):
        learner.encoded(fields(n=1, size=3)[0])


def images_of(x: np.ndarray) -> Arrays:
    return Arrays(x, np.zeros(len(x), np.int64), x, np.zeros(len(x), np.int64), 1)
