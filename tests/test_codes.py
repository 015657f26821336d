"""The one contract of all strategies that keep the net of every task, found by what they have; none is named here."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from cl_engine.runs import plugins
from cl_engine.strategy import Strategy
from cl_engine.testing import CodesContract
from tests.conftest import STRATEGIES, TINY


def variants(kind: type[Strategy]) -> list[dict[str, Any]]:
    """Return the options by which a strategy keeps nets in each way it can: every codec, and all that may be encoded."""
    fields = kind.Options.model_fields
    found = [{key: choice} for key in ("codec", "what") if key in fields for choice in get_args(fields[key].annotation)]
    return found or [{}]


KEEPING = [
    name
    for name in STRATEGIES
    if all(hasattr(plugins.load("strategies", name), at) for at in ("decoded", "read_by_recall"))
]

for name in KEEPING:
    for options in variants(plugins.load("strategies", name)):
        called = "_".join(["Test", name, *options.values()])
        globals()[called] = type(called, (CodesContract,), {"strategy": name, "options": options, "scenario": TINY})


def test_codecs_hypernetworks_and_whole_nets_are_all_held_to_the_contract():
    assert {"hypernet", "hypernet_field", "independent", "skill_recall"} <= set(KEEPING)
    held = [name for name in globals() if name.startswith("Test_skill_recall_")]
    assert len(held) == 4 + 4  # codecs, and what they keep


class Uncounted(plugins.load("strategies", "hypernet")):  # type: ignore[misc]
    """Tells less than decoding reads."""

    read_by_recall = ("codes",)


def test_a_strategy_that_does_not_count_its_decoder_is_found_out(tmp_path: Any):
    class Held(CodesContract):
        strategy = f"{__name__}:Uncounted"
        scenario = TINY

    with pytest.raises(AssertionError, match="reads parts of the state"):
        Held().test_decoding_reads_what_is_counted_and_what_follows_from_the_seeds(tmp_path)
    with pytest.raises(AssertionError, match="recall_only is"):
        Held().test_the_bytes_that_are_told_are_those_of_the_state()
