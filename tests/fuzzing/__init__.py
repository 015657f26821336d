"""Good inputs, changed: what `tests/test_fuzzing.py` tries a few of, and ``benchmarks/fuzzing.py`` many."""

from __future__ import annotations

from tests.fuzzing.files import FILES
from tests.fuzzing.harness import Maker
from tests.fuzzing.options import WORDS

KINDS: dict[str, Maker] = {**WORDS, **FILES}
