"""The compositional stream: parts that come again, or do not, as the scenario says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.data.augmentation import Augmentation
from cl_engine.data.stream import Composition
from cl_engine.data.transformations import transformed
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.sources.cifar10 import Cifar10
from cl_engine.sources.digits import Digits
from cl_engine.sources.fashion_mnist import FashionMnist
from cl_engine.sources.mnist import Mnist
from cl_engine.streams.compositional import Compositional
from cl_engine.streams.views import Views
from tests.conftest import Given

DIGITS = Digits().load(Path())


def stream(**options: Any) -> Compositional:
    return Compositional(Given(lambda name: DIGITS), **options)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_a_task_is_the_same_whatever_was_asked_for_before_it(reuse_input: float, reuse_labels: float, seed: int):
    options = {"reuse_input": reuse_input, "reuse_labels": reuse_labels, "seed": seed, "classes": 3}
    one, other = stream(**options), stream(**options)
    assert one.parts(17) == other.parts(17)
    assert [one.parts(task) for task in range(17)] == [other.parts(task) for task in reversed(range(17))][::-1]
    first, again = one[5].train, other[5].train
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)


def test_parts_always_come_again_or_never_as_long_as_there_are_new_ones():
    same = stream(reuse_input=1.0, reuse_labels=1.0, classes=3)
    assert len({same.parts(task) for task in range(30)}) == 1
    new = stream(reuse_input=0.0, reuse_labels=0.0, classes=3)
    assert len({new.parts(task).inputs for task in range(30)}) == 30
    assert len({new.parts(task).classes for task in range(30)}) == 30
    few = stream(transforms=["turn"], depth=1, reuse_input=0.0)
    assert {few.parts(task).inputs for task in range(5)} == {("turn",)}


def test_transformations_are_done_one_after_the_other_and_the_first_ones_can_be_named():
    named = stream(inputs=[[], ["turn"], ["invert", "mirror"]], samples_per_class=5, seed=3)
    assert [named.name_of(task) for task in range(3)] == ["digits", "digits turn", "digits invert mirror"]
    plain = torch.from_numpy(DIGITS.test_x)
    tests = [named.test(task) for task in range(3)]
    for images, expected in zip(tests, (plain, plain.rot90(1, (2, 3)), (255 - plain).flip(3)), strict=True):
        found = {tuple(image.flatten().tolist()) for image in images.x}
        assert found == {tuple(image.flatten().tolist()) for image in expected}


def test_every_transformation_is_undone_by_none_of_the_others_and_keeps_shape_and_type():
    made, image = stream(), torch.from_numpy(DIGITS.train_x[:1])
    seen = {tuple(image.flatten().tolist())}
    for transform in made.transforms:
        changed = transformed(image, transform, made.seed)
        assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
        seen.add(tuple(changed.flatten().tolist()))
    assert len(seen) == 1 + len(made.transforms)


def test_labels_are_places_in_the_rule_and_scarce_tasks_have_few_rows():
    made = stream(inputs=[["turn"]], classes=4, samples_per_class=9, scarce=2, validation=0.5, reuse_labels=0.0)
    assert len(made[0].train) + len(made[0].validation) == 4 * 9
    assert len(made[1].train) == len(made[1].validation) == 4
    assert made[1].train.y.tolist() == [0, 1, 2, 3]
    assert made.outputs == made[1].classes == 4


def test_it_has_no_end_unless_told():
    assert stream().n_steps is None
    assert stream(n=3).n_tasks == 3
    assert len(stream()[400].train) == len(DIGITS.train_x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 11}, r"stream\.classes: found 11, and a source has 10"),
        ({"setting": "class"}, r"use 'task' or 'domain'"),
        ({"sources": []}, r"stream\.sources is empty"),
        ({"shape": [1, 8, 6]}, r"'turn' needs images as wide as high"),
        ({"transforms": ["twirl"]}, r"stream\.transforms"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        stream(**options)


def test_a_task_withholds_its_labels_from_learners_and_not_from_tests():
    made = stream(n=3, unlabelled=[1], validation=0.2)
    arrived = made.arrival(1)
    assert not arrived.labelled
    assert (arrived.train.y == -1).all()
    assert (arrived.validation.y == -1).all()
    assert torch.equal(arrived.train.x, made[1].train.x)
    assert (made.test(1).y >= 0).all()
    assert made.arrival(0).labelled
    assert plugins.load("streams", "compositional") is Compositional


def test_classes_of_the_first_tasks_can_be_said_and_experiments_without_stay_as_they_were():
    plain = Experiment.of("endless_compositional", "finetune")
    assert '"labels"' not in plain.json
    labels = [[0, 1, 2], [3, 4]]
    found = Experiment.of("endless_compositional", "finetune", **{"stream.labels": labels, "stream.n": 2}).stream()
    assert [found.parts(task).classes for task in range(2)] == [(0, 1, 2), (3, 4)]  # type: ignore[attr-defined]
    assert found.outputs == 3
    odd = Experiment.of("endless_compositional", "finetune", **{"stream.labels": [[0, 0]]})
    with pytest.raises(UsageError, match=r"stream.labels: each must be two or more different classes"):
        odd.stream()


def test_rules_ask_about_images_as_they_are_before_they_are_transformed():
    options = {"inputs": [[], ["permute"], ["invert"]], "samples_per_class": 6, "validation": 0.5, "n": 3, "seed": 2}
    made = stream(rules=["parity", "ink"], first_rules=["parity", "parity", "ink"], **options)
    assert [made.name_of(task) for task in range(3)] == ["digits parity", "digits permute parity", "digits invert ink"]
    assert [made.target(task).outputs for task in range(3)] == [2, 2, 4]
    assert (made.outputs, made[2].classes, len(made.targets)) == (4, 4, 2)
    digits = Compositional(Given(lambda name: DIGITS), **options)
    for task in range(2):  # the same rows as without rules, asked something else
        for mine, plain in zip(
            (made[task].train, made.test(task)), (digits[task].train, digits.test(task)), strict=True
        ):
            assert torch.equal(mine.x, plain.x)
            assert torch.equal(mine.y, plain.y % 2)
    images = 255 - made.test(2).x.float()
    ink = images.flatten(1).sum(dim=1)
    assert ink[made.test(2).y == 3].min() > ink[made.test(2).y == 0].max()
    with_numbers = stream(rules=["ink?asked=number", "digit"], first_rules=["ink?asked=number"], inputs=[[]], n=1)
    assert (with_numbers[0].classes, with_numbers.target(0).name()) == (0, "numbers")
    assert len(with_numbers.targets) == 2


def test_tasks_beyond_those_listed_are_compositions_that_have_not_come_before():
    inputs, rules = [[], ["permute"], ["turn"], []], ["digit", "parity", "digit", "parity"]
    made = stream(rules=["digit", "parity"], inputs=inputs, first_rules=rules, reuse_input=1.0, reuse_labels=1.0, n=6)
    found = [(made.parts(task).inputs, made.parts(task).rule) for task in range(6)]
    assert len(set(found)) == 6
    assert set(found[4:]) == {(("permute",), "digit"), (("turn",), "parity")}


def test_a_composition_names_the_modules_of_a_task_in_order_and_experiments_without_rules_stay_as_they_were():
    made = stream(rules=["digit"], inputs=[[], ["turn", "mirror"]])
    assert [made.composition(task) for task in range(2)] == [
        Composition(("plain",), "digit"),
        Composition(("turn", "mirror"), "digit"),
    ]
    plain = stream(inputs=[["turn"]], classes=2)
    assert plain.composition(0) == Composition(("turn",), ", ".join(map(str, plain.parts(0).classes)))
    assert plain.asks_classes
    assert plain[0].target is None
    assert '"rules"' not in Experiment.of("endless_compositional", "finetune").json
    several = stream(sources=["digits", "others"], inputs=[["turn"]])
    assert several.composition(0).inputs == (several.parts(0).source, "turn")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": ["digt"]}, r"stream\.rules: no view named 'digt' \(did you mean 'digit'"),
        ({"rules": ["edges"]}, r"stream\.rules: 'edges' asks for answers at places"),
        ({"rules": ["digit"], "classes": 3}, r"stream\.rules ask about all classes"),
        ({"rules": ["digit"], "labels": [[0, 1]]}, r"stream\.rules ask about all classes"),
        ({"rules": ["digit"], "first_rules": ["parity"]}, r"stream\.first_rules: no rule named 'parity'"),
        ({"rules": ["digit", "parity"], "setting": "domain"}, r"several rules ask different things"),
    ],
)
def test_rules_that_cannot_be_asked_are_refused_in_a_sentence(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        stream(**options)


def test_questions_about_digits_are_refused_of_what_is_known_to_be_something_else():
    clothes = Given(lambda name: replace(DIGITS, digits=False))
    with pytest.raises(UsageError, match=r"'parity' is about ten digits; the classes of the source are something else"):
        Compositional(clothes, rules=["parity"])
    with pytest.raises(UsageError, match="something else"):
        Views(clothes, source="clothes", views=["prime"])
    assert Mnist.digits
    assert not FashionMnist.digits
    assert not Cifar10.digits


def test_mirrored_images_are_refused_of_rules_to_which_they_are_others():
    with pytest.raises(UsageError, match=r"train\.flip: to 'rotation' a mirrored image has another answer"):
        stream(rules=["rotation"]).check_augmentation(Augmentation(flip=0.5))
