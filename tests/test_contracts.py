"""The contracts that `cl_engine.testing` ships: a broken plug-in fails in a sentence that says what is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
START = """
import itertools
import numpy as np
import torch
from cl_engine.data.source_stream import SourceStream
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Strategy
from cl_engine.testing import StrategyContract, StreamContract


class Mine(Strategy):
    \"\"\"Mine: learns nothing, and answers with the net it started from.\"\"\"

    shared = SharedNet()

    def start(self):
        return self.shared.start()

    def learn(self, experience):
        params = yield from self.fit(self.shared.params(experience.task_id), self.loss, experience)
        self.shared.keep(experience.task_id, params)

    def predict(self, x, task_id):
        return self.net.all(self.shared.params(task_id), x)


class Plain(SourceStream):
    \"\"\"Plain: the whole source, again and again.\"\"\"

    def classes_of(self, kind):
        return tuple(range(self.arrays.classes))

    def global_label(self, kind, local):
        return kind * self.arrays.classes + local
"""
# what is broken, and parts of the sentences that say so
STRATEGIES: dict[str, tuple[str, ...]] = {
    "hidden": (
        "    hidden = 0\n    def learn(self, experience):\n        yield from super().learn(experience)\n"
        "        type(self).hidden += 1\n    def predict(self, x, task_id):\n"
        "        if 'seen' in self.state:\n            self.state['seen'] += 1\n"
        "        return super().predict(x, task_id)\n    def start(self):\n        return {**super().start(), 'seen': 0}\n",
        "predict changed the state (seen): only learn may",
    ),
    "fingerprint": (
        "    def fingerprint(self, task_id):\n        return 7\n",
        "is the same as before and the answers are not",
    ),
    "global randomness": (
        "    def learn(self, experience):\n        torch.rand(1)\n        np.random.rand()\n"
        "        yield from super().learn(experience)\n",
        "drew from torch's and NumPy's global generator",
    ),
    "order of rows": (
        "    def predict(self, x, task_id):\n        beside = torch.arange(len(x))[:, None] // 4\n"
        "        return super().predict(x.clamp_(max=1), task_id) + beside\n",
        "predict gives rows other answers in another order",
        "predict changed the rows it was asked about",
    ),
    "outside of the state": (
        "    best = None\n    def learn(self, experience):\n        yield from super().learn(experience)\n"
        "        self.own = self.shared.params(experience.task_id)\n        self.state['net'] = "
        "{name: torch.zeros_like(t) for name, t in self.state['net'].items()}\n"
        "        self.ids = itertools.count()\n    def predict(self, x, task_id):\n"
        "        scale = 1.0 if not hasattr(self, 'own') else 1.0 + id(self.state['net']) % 997\n"
        "        return scale + super().predict(x, task_id)\n",
        "depend on something outside of self.state",
    ),
    "no seed axis": (
        "    def start(self):\n        return {**super().start(), 'mean': torch.zeros(5)}\n",
        "mean",
    ),
}
STREAMS: dict[str, tuple[str, ...]] = {
    "depends on the past": (
        "    def transform(self, kind, x):\n        self.asked = getattr(self, 'asked', 0) + 1\n"
        "        return x.roll(self.asked, -1)\n",
        "depends on what was asked for before",
    ),
    "kept alive": (
        "    kept = []\n    def transform(self, kind, x):\n        self.kept.append(x)\n        return x\n",
        "the stream keeps the rows it has given out",
    ),
    "test rows learned": (
        "    def prepare(self):\n        self._test.x = self._train.x[: len(self._test.x)]\n",
        "rows of task 0 are learned and tested",
    ),
    "labels": (
        "    def _outputs(self):\n        return 2\n",
        "and outputs is 2",
    ),
}


def code_of(kind: str, base: str, contract: str, broken: dict[str, tuple[str, ...]]) -> str:
    """Return broken plug-ins, each with the class that holds it to its contract."""
    code = ""
    for number, (what, (body, *_)) in enumerate(broken.items()):
        name = f"Broken{base}{number}"
        code += f'\n\nclass {name}({base}):\n    """{what}: a plug-in that breaks its contract."""\n\n{body}'
        code += f"\n\nclass Test{name}({contract}):\n    {kind} = 'mine:{name}'\n"
    return code


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what pytest says in a folder of a user's own, with sound plug-ins and broken ones."""
    folder = tmp_path_factory.mktemp("user")
    sound = "\n\nclass TestMine(StrategyContract):\n    strategy = 'mine:Mine'\n"
    sound += "\n\nclass TestPlain(StreamContract):\n    stream = 'mine:Plain'\n"
    code = sound + code_of("strategy", "Mine", "StrategyContract", STRATEGIES)
    (folder / "mine.py").write_text(START + code + code_of("stream", "Plain", "StreamContract", STREAMS))
    (folder / "test_mine.py").write_text("from mine import *\n")
    slow = "not cut and not kill and not processes and not bfloat16 and not moved and not batchnorm and not seed_learns"
    slow += " and (TestMine or TestPlain or not every_kind)"  # what is broken shows without them
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rA",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "test_mine.py",
            "-k",
            slow,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1", "HOME": str(folder)},
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        *((f"TestBrokenMine{number}", sentences) for number, (_, *sentences) in enumerate(STRATEGIES.values())),
        *((f"TestBrokenPlain{number}", sentences) for number, (_, *sentences) in enumerate(STREAMS.values())),
    ],
    ids=[*STRATEGIES, *STREAMS],
)
def test_a_broken_plug_in_is_told_what_is_broken(name: str, sentences: list[str], said: str):
    failures = said.split(f" {name}.")  # pytest heads each with the name of the class and the test
    for sentence in sentences:
        assert any(sentence in failure.split("\n___")[0] for failure in failures[1:]), said[-4000:]


def test_sound_plug_ins_of_ones_own_keep_all_of_it(said: str):
    assert "PASSED test_mine.py::TestMine::" in said
    assert "PASSED test_mine.py::TestPlain::" in said
    assert "FAILED test_mine.py::TestMine::" not in said
    assert "FAILED test_mine.py::TestPlain::" not in said
