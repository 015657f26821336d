"""Views: several questions about the same inputs, and the label functions that ask them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.data.label_function import LabelFunction, moments
from cl_engine.data.source import Arrays, Labels
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.runs import plugins
from cl_engine.runs.data_root import DataRoot
from cl_engine.streams.views import Views
from cl_engine.testing import LabelFunctionContract
from cl_engine.testing.streams import Given

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
Y = np.arange(40) % 10
DEPTH = DRAW.random((40, 1, 8, 8)).astype(np.float16) + 1
ARRAYS = Arrays(
    *(X, Y, X[:20], Y[:20]),
    classes=10,
    labels={"depth": Labels("number_map", {"channels": 1, "kind": "depth"}, DEPTH, DEPTH[:20])},
)
VIEWS = plugins.names("labels")


def views(*names: str, **options: Any) -> Views:
    return Views(Given(ARRAYS), source="given", views=list(names), **options)


def asked(name: str, **options: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Return the target of a label function, and what it shows and asks of the images above."""
    function: LabelFunction = plugins.load("labels", name)()
    function.configure(options, "view")
    target, about = function.prepare(ARRAYS)
    x, y = function.ask(torch.from_numpy(X), torch.from_numpy(Y), np.random.default_rng(1))
    return plugins.load("targets", target).of(**about), x, y


for name in VIEWS:
    globals()[f"Test_{name}"] = type(f"Test_{name}", (LabelFunctionContract,), {"function": name})


class TestOwn(LabelFunctionContract):
    function = "tests.own_plugins:Light"


@pytest.mark.parametrize(
    ("name", "digit", "answer"), [("parity", 7, 1), ("big", 4, 0), ("loops", 8, 2), ("prime", 9, 0)]
)
def test_questions_about_digits_have_the_answers_that_everybody_knows(name: str, digit: int, answer: int):
    assert plugins.load("labels", name).answers[digit] == answer


def test_a_rotation_is_undone_by_as_many_quarter_turns_back():
    _, x, y = asked("rotation")
    for shown, turns, image in zip(x, y, torch.from_numpy(X), strict=True):
        assert torch.equal(shown.rot90(-int(turns), (1, 2)), image)


def test_the_quarters_of_a_jigsaw_are_those_of_the_image():
    _, x, y = asked("jigsaw")
    original = torch.from_numpy(X)
    unmoved = y == 0
    assert torch.equal(x[unmoved], original[unmoved]) and unmoved.any()
    assert torch.equal(x[y == 3][:, :, :4, :4], original[y == 3][:, :, 4:, 4:])
    assert torch.equal(x.flatten(1).sort(dim=1).values, original.flatten(1).sort(dim=1).values)


def test_quarters_of_a_quantity_are_equally_many():
    for name in ("ink", "slant", "aspect"):
        assert asked(name)[2].bincount().tolist() == [10] * 4


def test_a_quantity_can_be_asked_for_as_a_number():
    target, _, y = asked("ink", asked="number")
    assert target.name() == "numbers"
    assert y[:, 0].numpy() == pytest.approx(X.astype(np.float64).mean(axis=1).sum(axis=(1, 2)), rel=1e-5)


def test_moments_are_those_of_a_bar_by_hand():
    bar = torch.zeros(1, 1, 9, 9)
    bar[0, 0, 4, 1:8] = 1
    across, upright, mixed = moments(bar)
    assert across.item() == pytest.approx(4) and upright.item() == 0 and mixed.item() == 0  # (3² + 2² + 1²) · 2 / 7
    slanted = torch.eye(9)[None, None]
    across, upright, mixed = moments(slanted)
    assert mixed.item() == pytest.approx(upright.item())


def test_what_is_hidden_or_noisy_is_to_be_given_back():
    for name in ("denoise", "in_paint", "autoencode", "colour"):
        _, x, y = asked(name)
        assert np.array_equal(y.numpy(), X)
        assert torch.equal(x, y) == (name == "autoencode")


def test_a_step_of_brightness_is_an_edge_and_its_ends_are_corners():
    image = np.zeros((1, 1, 16, 16), np.uint8)
    image[:, :, 4:12, 4:12] = 200
    for name, row, column in (("edges", 4, 8), ("corners", 4, 4)):
        function = plugins.load("labels", name)()
        y = function.ask(torch.from_numpy(image), torch.zeros(1), np.random.default_rng(0))[1][0, 0]
        assert y[row, column] > 0.5 * y.max() and y[8, 8] == 0


def test_inputs_are_held_once_whatever_the_number_of_tasks():
    stream = views("classes", "depth", "ink", "autoencode")
    held = {stream[step].train.x.data_ptr() for step in range(4)}
    assert len(held) == 1
    assert stream[3].train.y.data_ptr() in held


def test_a_task_has_the_target_of_its_view_and_the_stream_as_many_outputs_as_the_greatest():
    stream = views("parity", "depth", "digit")
    assert [stream.target(task).name() for task in range(3)] == ["classes", "number_map", "classes"]
    assert stream.outputs == 10 and stream[1].target is stream.target(1) and stream[1].classes == 0
    assert [stream.name_of(task) for task in range(3)] == ["parity", "depth", "digit"]


def test_numbers_are_learned_in_units_of_their_deviation_over_training_rows():
    target = views("depth").target(0)
    assert target.options()["mean"] == pytest.approx([DEPTH.astype(float).mean()], rel=1e-3)
    assert target.options()["std"] == pytest.approx([DEPTH.astype(float).std()], rel=2e-2)


def test_the_labelled_rows_of_two_views_are_the_first_of_one_shuffle():
    stream = views("digit", "parity", labelled=[12, 30])
    few, more = stream[0].train, stream[1].train
    assert (len(few), len(more)) == (12, 30)
    assert torch.equal(few.x, more.x[:12])
    assert torch.equal(few.y % 2, more.y[:12])


def test_validation_rows_are_set_aside_from_the_labelled_ones():
    experience = views("digit", labelled=20, validation=0.25)[0]
    assert (len(experience.train), len(experience.validation)) == (15, 5)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25])  # of 40 rows, none at 0.01
def test_labels_are_those_of_the_rows_shown_however_many_are_set_aside(share: float):
    labels = {"own": Labels("classes", {"classes": 10}, Y, Y[:20])}
    stream = Views(Given(replace(ARRAYS, labels=labels)), source="given", views=["own", "digit"], validation=share)
    for half in (stream[0].train, stream[1].train):
        assert half.index is not None and half.y.tolist() == Y[half.index.numpy()].tolist()


def test_tasks_come_back_and_in_another_order():
    stream = views("digit", "parity", "big", task_order=[2, 0, 1], revisit=[0])
    assert [stream.task_id(step) for step in range(4)] == [0, 1, 2, 0]
    assert stream.name_of(0) == "big" and torch.equal(stream[0].train.y, stream[3].train.y)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"views": ["digit", "smell"]}, "no view named 'smell'.*holds depth"),
        ({"views": ["digit"], "setting": "domain"}, "stream.setting: found 'domain'"),
        ({"views": ["digit"], "labelled": 99}, "stream.labelled: found 99"),
        ({"views": ["digit"], "labelled": [1, 2]}, "stream.labelled: 2 numbers for 1 views"),
        ({"views": ["digit"], "n": 2}, "stream.n: found 2"),
        ({"views": ["ink?asked=weight"]}, "view 'ink'.*asked"),
        ({"views": ["ink/number"]}, "no view named .ink/number."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(options: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        Views(Given(ARRAYS), source="given", **options)


def test_questions_that_a_source_cannot_answer_are_refused():
    grey = Arrays(X[:, :1, :, :6], Y % 3, X[:20, :1, :, :6], Y[:20] % 3, classes=3)
    for view, words in (("parity", "ten digits"), ("rotation", "as wide as high"), ("colour", "3 channels")):
        with pytest.raises(UsageError, match=words):
            Views(Given(grey), source="given", views=[view])


def own(root: Path, **arrays: np.ndarray) -> str:
    np.savez(root / "mine.npz", **arrays)
    return "arrays/mine"


def test_arrays_of_ones_own_are_a_source_with_labellings_by_name(tmp_path: Path):
    half = {"x": X, "y": Y, "depth": DEPTH, "parts": Y[:, None, None] * np.ones((1, 8, 8), int), "weight": Y / 7.0}
    name = own(tmp_path, **{f"{when}_{key}": value for when in ("train", "test") for key, value in half.items()})
    found = DataRoot(tmp_path).load(name)
    assert found.classes == 10 and found.train_x.dtype == np.uint8 and len(found.mean) == 3
    targets = {key: labels.target for key, labels in found.labels.items()}
    assert targets == {"depth": "number_map", "parts": "class_map", "weight": "numbers"}
    stream: Stream = Views(DataRoot(tmp_path), source=name, views=["classes", "weight"])
    assert stream[1].train.y.shape == (40, 1)


def test_a_table_of_ones_own_is_a_source(tmp_path: Path):
    lines = ["a,b,label,label:price,split"]
    lines += [
        f"{k},{k * 0.5},{'cat' if k % 2 else 'dog'},{k * 1.5},{'test' if k % 4 > 1 else 'train'}" for k in range(12)
    ]
    (tmp_path / "pets.csv").write_text("\n".join(lines))
    found = DataRoot(tmp_path).load("arrays/pets")
    assert found.train_x.shape == (6, 2) and found.train_y.tolist() == [1, 0] * 3  # in order of the alphabet
    assert found.labels["price"].train[1] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train_x": X}, "'test_x' is missing"),
        ({"train_x": X, "test_x": X, "train_y": Y}, "no 'test_y'"),
        ({"train_x": X, "test_x": X, "train_y": Y[:5], "test_y": Y}, r"'train_y' has shape \(5,\), and there are 40"),
        ({"train_x": X, "test_x": X[..., 1:]}, "inputs must be alike"),
        ({"train_x": X, "test_x": X, "other": Y}, "'other' is neither"),
        ({"train_x": X.astype(complex), "test_x": X}, "complex128"),
        (
            {"train_x": X, "test_x": X, "train_y": Y, "test_y": Y, "train_z": X[0], "test_z": X[0]},
            "'train_z' has shape",
        ),
        ({"train_x": X, "test_x": X, "train_y": Y - 1, "test_y": Y}, "one of its training labels is -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_odd_arrays_are_refused_in_a_sentence(tmp_path: Path, arrays: dict[str, np.ndarray], words: str):
    with pytest.raises(UsageError, match=words):
        DataRoot(tmp_path).load(own(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a,label\n1,2", "no column 'split'"),
        ("a,label,split\n1,2,train\n1,train", "line 3"),
        ("a,label,split\nx,2,train\n1,2,test", "an input is no number"),
        ("a,label,split\n1,2,dev", "'dev'; allowed are train and test"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_odd_tables_are_refused_in_a_sentence(tmp_path: Path, table: str, words: str):
    (tmp_path / "odd.csv").write_text(table)
    with pytest.raises(UsageError, match=words):
        DataRoot(tmp_path).load("arrays/odd")


def test_sentences_say_what_their_labels_say():
    found = DataRoot(Path("nowhere")).load("phrases?rows=200&test_rows=50")
    assert found.train_x.dtype == np.int64 and found.vocabulary is not None
    assert (found.labels["words"].train[:, 0] == (found.train_x > 0).sum(axis=1)).all()
    train = {tuple(row) for row in found.train_x.tolist()}
    assert not train & {tuple(row) for row in found.test_x.tolist()}
    question = found.labels["question"].train
    last = [row[row > 0][-1] for row in found.train_x]
    assert len({*zip(last, question.tolist(), strict=True)}) == 2  # each mark stands for one answer
