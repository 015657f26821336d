"""The engine on a GPU that is pretended, in processes of their own: one that has the pretend device keeps it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cl_engine.core.gpu import is_gpu
from cl_engine.testing.pretend_gpu import WANTING
from cl_engine.testing.pretend_tensor import Pretend
from tests.conftest import STRATEGIES_IN_SETTINGS

ROOT = Path(__file__).parents[1]


OWN = """
import torch
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Strategy
from cl_engine.testing import StrategyContract


class Mine(Strategy):
    \"\"\"Mine: one net for all tasks, each with a head of its own.\"\"\"

    shared = SharedNet()

    def start(self):
        return self.shared.start()

    def learn(self, experience):
        params = yield from self.fit(self.shared.params(experience.task_id), self.loss, experience)
        self.shared.keep(experience.task_id, params)

    def predict(self, x, task_id):
        return self.net.all(self.shared.params(task_id), x)


class Elsewhere(Mine):
    def predict(self, x, task_id):
        return super().predict(x, task_id) + torch.zeros(self.net.outputs)


class Waiting(Mine):
    def loss(self, params, frozen, x, y):
        return super().loss(params, frozen, x, y) + 0.0 * torch.tensor(1.0).to(x.device)
"""


def on_a_pretend_gpu(*what: str) -> int:
    """Run tests where there seems to be a GPU; return how many passed, and fail with what they say unless all did."""
    done = said_on_a_pretend_gpu(*what)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout[-2000:]
    found = re.search(r"(\d+) passed", done.stdout)
    return int(found.group(1)) if found else 0


def said_on_a_pretend_gpu(*what: str) -> subprocess.CompletedProcess[str]:
    if WANTING:
        pytest.skip(WANTING)
    pytest_there = [
        sys.executable,
        "-m",
        "pytest",
        "-n0",
        "-p",
        "no:cacheprovider",
        "-p",
        "cl_engine.testing.pretend_gpu",
    ]
    return subprocess.run(
        [*pytest_there, "-o", "addopts=--strict-markers", "-W", "error", "-k", "on_a_gpu", *what],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_strategy_keeps_its_contract_on_a_pretend_gpu():
    assert on_a_pretend_gpu("tests/test_strategies.py") == len(STRATEGIES_IN_SETTINGS)


@pytest.mark.slow
def test_what_is_asked_of_the_engine_is_done_on_a_pretend_gpu_as_on_the_cpu():
    cases = [f"tests/{name}.py" for name in ("gpu_cases", "gpu_run_cases", "gpu_option_cases", "test_streams")]
    assert on_a_pretend_gpu(*cases) > 60


@pytest.mark.slow
def test_a_plug_in_of_ones_own_is_told_what_it_leaves_on_the_cpu_and_what_waits(tmp_path: Path):
    kinds = "".join(
        f"\n\nclass Test{k}(StrategyContract):\n    strategy = 'own:{k}'\n" for k in ("Mine", "Elsewhere", "Waiting")
    )
    (tmp_path / "own.py").write_text(OWN + kinds)
    (tmp_path / "test_own.py").write_text("from own import *\n")
    said = said_on_a_pretend_gpu(str(tmp_path / "test_own.py"), f"--rootdir={tmp_path}").stdout
    assert "6 failed, 3 passed" in said, said[-3000:]
    assert said.count("Expected all tensors to be on the same device") >= 3
    assert said.count("a training step waits for the GPU: ask for no numbers in it") >= 3


def test_no_pretend_gpu_is_there_where_none_was_asked_for():
    assert not is_gpu(torch.zeros(1).device)
    assert not isinstance(torch.zeros(1), Pretend)
    assert torch.cuda.is_available() == (torch.cuda.device_count() > 0)
