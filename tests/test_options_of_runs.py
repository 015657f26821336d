"""Options of many runs, read as what they are."""

from __future__ import annotations

import numpy as np

from cl_engine.results.dataset import _differing


def test_options_are_numbers_truths_or_texts_as_they_are():
    found = _differing(
        [
            {"lr": "0.1", "n": "2", "flag": "true", "kind": "a", "beta": "null", "hidden": "[1]"},
            {"lr": "1e-3", "n": "3", "flag": "false", "kind": "1", "beta": "0.5", "hidden": "[2]"},
        ]
    )
    assert found["lr"].tolist() == [0.1, 0.001] and found["n"].tolist() == [2, 3] and found["n"].dtype.kind == "i"
    assert found["flag"].tolist() == [True, False] and found["kind"].tolist() == ["a", "1"]
    assert np.isnan(found["beta"][0]) and found["beta"][1] == 0.5 and found["hidden"].tolist() == ["[1]", "[2]"]
