"""The contract that every strategy keeps, whichever it is: found by folder, not named here; and its trace of events."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cl_engine.strategy import Strategy
from cl_engine.testing import StrategyContract
from cl_engine.testing.walking import traced, walk
from tests.conftest import STRATEGIES, TINY

GOLDEN = Path(__file__).parent / "golden"


class OwnStrategyContract(StrategyContract):
    """What strategies of this project are held to besides."""

    scenario = TINY
    views = TINY.with_name("views.toml")

    def test_the_trace_of_events_is_the_one_on_file(self, setting: str):
        trace = [line for event in walk(self.experiment(**{"stream.setting": setting}))[2] for line in traced(event)]
        path = GOLDEN / f"{self.strategy}-{setting}.json"
        if os.environ.get("CL_UPDATE_GOLDEN") or not path.exists():
            assert not os.environ.get("CI"), f"there is no trace on file: {path}"
            path.parent.mkdir(exist_ok=True)
            path.write_text("[\n" + ",\n".join(json.dumps(line) for line in trace) + "\n]\n")
        assert [renamed(line) for line in json.loads(path.read_text())] == json.loads(json.dumps(trace))

    def test_no_strategy_subclasses_another(self):
        assert self.kind().__bases__ == (Strategy,)


def renamed(line: list[Any]) -> list[Any]:
    """Return a line of a trace with the names that events and fields have had since it was recorded."""
    kind, values = line
    kinds, fields = {"Unchanged": "ScoresReused", "EarlierTested": "EarlierTaskTested"}, {"place": "cursor"}
    return [kinds.get(kind, kind), {fields.get(name, name): value for name, value in values.items()}]


CUT_EVERY = {
    "cognitive_loop": 21,
    "policy": 14,
    "taxonomy": 49,
}  # of fits that are alike a run has many, and each cut is a run
OPTIONS = {"align": {"stream.unlabelled": [1]}}  # of what does nothing in particular on other streams
STEPS_WAIT = {"mntdp_s"}  # each step trains a path that is drawn from chances that the step before has moved

for name in STRATEGIES:
    own = {"strategy": name, "cut_every": CUT_EVERY.get(name, 11), "options": OPTIONS.get(name, {})}
    own["steps_wait"] = name in STEPS_WAIT
    globals()[f"Test_{name}"] = type(f"Test_{name}", (OwnStrategyContract,), own)
