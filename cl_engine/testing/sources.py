"""The contract of sources: arrays that streams can be made of."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from cl_engine.data.source import Arrays, Source
from cl_engine.errors import UsageError
from cl_engine.runs import plugins
from cl_engine.runs.data_root import DataRoot, default_data_root


def assert_sound(arrays: Arrays) -> None:
    """Fail, in a sentence, unless arrays fit each other and say how they are scaled."""
    for half, x in (("training", arrays.train_x), ("test", arrays.test_x)):
        assert x.dtype in (np.uint8, np.float32, np.int64), (
            f"{half} inputs are {x.dtype}: uint8, float32 or int64 is wanted"
        )
    assert arrays.train_x.dtype == arrays.test_x.dtype, "training and test inputs are of different types"
    assert arrays.train_x.shape[1:] == arrays.test_x.shape[1:], "training and test inputs are of different shapes"
    for half, x, y in (("training", arrays.train_x, arrays.train_y), ("test", arrays.test_x, arrays.test_y)):
        assert len(x) == len(y), f"there are {len(x)} {half} inputs and {len(y)} labels"
        found = set(np.unique(y).tolist())
        assert found == set(range(arrays.classes)), f"{half} labels are {found}; classes is {arrays.classes}"
    assert len(arrays.mean) == len(arrays.std), "mean and std need a number each channel"
    assert min(arrays.std) > 0, "std must be positive"


class SourceContract:
    """Holds a source to all that the engine's own are held to; each failure says what is broken.

    >>> class TestBirds(SourceContract):
    ...     source = "my_module:Birds"

    Attributes:
        source: the source's name, or ``module:Class``.
        data_root: where its files are; left out: where data sets are looked for. A source whose files are not there is
            tested for saying so.
    """

    source: ClassVar[str]
    data_root: ClassVar[Path | None] = None

    def kind(self) -> Source:
        """Return the source under test."""
        return plugins.source(self.source)

    def _arrays(self) -> Arrays:
        try:
            return DataRoot(self.data_root or default_data_root()).load(self.source)
        except UsageError as error:
            if self.kind().needs_files:
                pytest.skip(str(error))
            raise

    def test_its_arrays_are_sound_and_the_same_every_time(self) -> None:
        one, again = self._arrays(), self._arrays()
        assert_sound(one)
        for name in ("train_x", "train_y", "test_x", "test_y"):
            assert np.array_equal(getattr(one, name), getattr(again, name)), f"{name} differs from one load to the next"

    def test_without_files_it_loads_or_says_where_it_looked(self, tmp_path: Path) -> None:
        if not self.kind().needs_files:
            assert_sound(self.kind().load(tmp_path))
            return
        with pytest.raises(UsageError) as error:
            self.kind().load(tmp_path)
        assert str(tmp_path) in str(error.value), "the error does not say where the files were looked for"
