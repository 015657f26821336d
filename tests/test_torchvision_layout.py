"""EMNIST, KMNIST and Omniglot, read from small files in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.modules.events import SharingLearned
from cl_engine.runs import plugins
from cl_engine.runs.data_root import DataRoot
from cl_engine.streams.datasets import Datasets
from cl_engine.testing.sources import assert_sound
from cl_engine.testing.walking import walk


def idx(path: Path, array: np.ndarray) -> None:
    """Write bytes as an IDX file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def idx_set(folder: Path, train: str, test: str, labels: list[int]) -> None:
    """Write a set whose n-th image has one bright pixel, at row n and column 3 of the file."""
    for half, rows in ((train, labels * 2), (test, labels)):
        images = np.zeros((len(rows), 28, 28), np.uint8)
        images[np.arange(len(rows)), np.arange(len(rows)) % 28, 3] = 255
        idx(folder / "raw" / f"{half}-images-idx3-ubyte", images)
        idx(folder / "raw" / f"{half}-labels-idx1-ubyte", np.array(rows))


def loaded(name: str, root: Path) -> Arrays:
    return plugins.source(name).load(root)


def test_kmnist_is_read_as_it_is_and_scaled_by_its_own_images(tmp_path: Path):
    idx_set(tmp_path / "KMNIST", "train", "t10k", list(range(10)))
    arrays = loaded("kmnist", tmp_path)
    assert_sound(arrays)
    assert arrays.train_x[2, 0, 2, 3] == 255
    assert arrays.mean == (pytest.approx(255 / 784),)
    assert arrays.std == (pytest.approx(arrays.train_x.std()),)


@pytest.mark.parametrize(("split", "first", "classes"), [("digits", 0, 10), ("letters", 1, 26), ("balanced", 0, 47)])
def test_emnist_stands_upright_and_counts_from_zero(split: str, first: int, classes: int, tmp_path: Path):
    labels = list(range(first, first + classes))
    idx_set(tmp_path / "EMNIST", f"emnist-{split}-train", f"emnist-{split}-test", labels)
    arrays = loaded(f"emnist?split={split}", tmp_path)
    assert_sound(arrays)
    assert (arrays.classes, arrays.digits) == (classes, split == "digits")
    assert arrays.train_x[2, 0, 3, 2] == 255  # columns of the file are rows here
    assert arrays.about == {"data": f"torchvision EMNIST, {split}"}
    with pytest.raises(UsageError, match=r"python run\.py fetch emnist"):
        loaded("emnist?split=byclass", tmp_path)


def test_letters_that_are_not_numbered_from_one_are_damaged(tmp_path: Path):
    idx_set(tmp_path / "EMNIST", "emnist-letters-train", "emnist-letters-test", list(range(26)))
    with pytest.raises(UsageError, match="is damaged"):
        loaded("emnist?split=letters", tmp_path)


@pytest.fixture
def alphabets(tmp_path: Path) -> Path:
    """Return a data root with three alphabets of two characters, each drawn ten times: a dot, further right each time."""
    for half, alphabet in (("background", "B"), ("background", "A"), ("evaluation", "C")):
        for character in (1, 2):
            folder = tmp_path / "omniglot-py" / f"images_{half}" / alphabet / f"character{character:02}"
            folder.mkdir(parents=True)
            for drawing in range(10):
                image = np.ones((105, 105), bool)
                image[10 * character : 10 * character + 5, 10 * drawing : 10 * drawing + 5] = False
                Image.fromarray(image).save(folder / f"{character:04}_{drawing:02}.png")
    return tmp_path


def test_omniglot_has_bright_ink_and_tests_on_the_last_fifth_of_the_drawings_of_each_character(alphabets: Path):
    arrays = loaded("omniglot?side=21", alphabets)
    assert_sound(arrays)
    assert arrays.classes == 6
    assert (arrays.train_x.shape, arrays.test_x.shape) == ((48, 1, 21, 21), (12, 1, 21, 21))
    first, tested = arrays.train_x[0, 0], arrays.test_x[:2, 0]
    assert first[2, 0] == first.max() > 128
    assert first[10:].max() == 0
    assert [int(image[2].argmax()) for image in tested] == [16, 18]


def test_one_alphabet_of_omniglot_is_a_task(alphabets: Path):
    sources = [f"omniglot?alphabet={number}" for number in range(3)]
    stream = Datasets(DataRoot(alphabets), sources=sources)
    assert [stream[step].classes for step in range(3)] == [2, 2, 2]
    about = [loaded(source, alphabets).about["data"] for source in sources]
    assert about == [f"torchvision Omniglot, {alphabet}" for alphabet in "ABC"]  # background ones first, by name
    with pytest.raises(UsageError, match="alphabet=3 is none of the 3 alphabets"):
        loaded("omniglot?alphabet=3", alphabets)


def test_a_character_without_drawings_is_damaged(alphabets: Path):
    (alphabets / "omniglot-py" / "images_background" / "A" / "character03").mkdir()
    with pytest.raises(UsageError, match=r"damaged: .*character03 has 0 drawings"):
        loaded("omniglot", alphabets)


def test_the_published_set_up_of_weight_sharing_learns_from_files_in_this_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for split, labels in (("digits", range(10)), ("letters", range(1, 27))):
        idx_set(tmp_path / "EMNIST", f"emnist-{split}-train", f"emnist-{split}-test", list(labels))
    idx_set(tmp_path / "KMNIST", "train", "t10k", list(range(10)))
    monkeypatch.setenv("CL_DATA_ROOT", str(tmp_path))
    few = {"train.epochs": 1, "train.batch": 26, "samples": 2, "net.width": 4}
    stream, strategy, events = walk(Experiment.of("weight_sharing_dkl_mnist", "weight_sharing", (0,), **few))
    sets = [event.set[0] for event in events if isinstance(event, SharingLearned)]
    assert len(sets) == 3 * 5
    assert [stream[step].classes for step in range(3)] == [10, 26, 10]
    assert strategy.predict(stream.test(1).x, 1).shape == (1, 26, 26)
