"""Whatever is put in is accepted, or refused with exit code 2 and one sentence, and leaves nothing behind.

A few inputs of every kind; ``benchmarks/fuzzing.py`` tries as many as one likes.
"""

from __future__ import annotations

import pytest

from tests.fuzzing import KINDS
from tests.fuzzing.harness import many

FEW = 12


@pytest.mark.filterwarnings("default")  # what torch warns of on the way is no failure
@pytest.mark.parametrize("name", KINDS)
def test_a_changed_input_is_accepted_or_refused_in_one_sentence(name: str):
    outcomes = list(many(KINDS[name], name, range(FEW), seed=2_000))
    assert not [f"{outcome.case.about}: {outcome.text}" for outcome in outcomes if outcome.said == "failed"]
    assert any(outcome.said == "refused" for outcome in outcomes)
