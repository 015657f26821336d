"""Sources: what each gives, found by folder, and what is said when files are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cl_engine.data.torchvision import TorchvisionSource
from cl_engine.errors import UsageError
from cl_engine.runs import plugins
from cl_engine.sources import digits
from cl_engine.testing import SourceContract
from cl_engine.testing.sources import assert_sound

SOURCES = plugins.names("sources")
FEWER = {"scenes": "scenes?rows=300&test_rows=100"}  # of what is drawn, not read
FROM_FILES = [name for name in SOURCES if issubclass(plugins.load("sources", name), TorchvisionSource)]


for name in SOURCES:
    if not plugins.load("sources", name).takes_path:
        globals()[f"Test_{name}"] = type(f"Test_{name}", (SourceContract,), {"source": FEWER.get(name, name)})


def test_no_digit_is_both_in_training_and_test_rows():
    arrays = plugins.load("sources", "digits")().load(Path())
    rows = {tuple(row) for row in arrays.train_x.reshape(len(arrays.train_x), -1)}
    shared = [row for row in arrays.test_x.reshape(len(arrays.test_x), -1) if tuple(row) in rows]
    assert len(arrays.train_x) + len(arrays.test_x) == 1797
    assert not shared


@pytest.mark.parametrize("name", FROM_FILES)
def test_missing_files_are_said_with_the_path_and_the_command_that_gets_them(name: str, tmp_path: Path):
    with pytest.raises(UsageError) as error:
        plugins.load("sources", name)().load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert f"python run.py fetch {name} --data-root {tmp_path}" in str(error.value)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_the_real_files_are_read_and_scaled_by_their_own_statistics(name: str, data_root: Path):
    arrays = plugins.load("sources", name)().load(data_root)
    assert_sound(arrays)
    assert len(arrays.test_x) == 10_000
    axes = (0, 2, 3)
    assert np.allclose(arrays.train_x.mean(axis=axes), arrays.mean, atol=0.5)
    assert np.allclose(arrays.train_x.std(axis=axes), arrays.std, atol=1.5)


@pytest.mark.parametrize("found", [True, False])
def test_the_digits_are_those_that_scikit_learn_loads(found: bool, monkeypatch: pytest.MonkeyPatch):
    from sklearn.datasets import load_digits

    if not found:
        monkeypatch.setattr(digits, "find_spec", lambda name: None)
    rows, theirs = digits._shipped.__wrapped__(), load_digits()
    np.testing.assert_array_equal(rows[:, :-1], theirs.data)
    np.testing.assert_array_equal(rows[:, -1], theirs.target)
