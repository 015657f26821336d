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


def on_a_pretend_gpu(*what: str) -> int:
    """Run tests where there seems to be a GPU; return how many passed, and fail with what they say unless all did."""
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
    done = subprocess.run(
        [*pytest_there, "-o", "addopts=--strict-markers", "-W", "error", "-k", "on_a_gpu", *what],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout[-2000:]
    found = re.search(r"(\d+) passed", done.stdout)
    return int(found.group(1)) if found else 0


@pytest.mark.slow
def test_every_strategy_keeps_its_contract_on_a_pretend_gpu():
    assert on_a_pretend_gpu("tests/test_strategies.py") == len(STRATEGIES_IN_SETTINGS)


@pytest.mark.slow
def test_what_is_asked_of_the_engine_is_done_on_a_pretend_gpu_as_on_the_cpu():
    assert on_a_pretend_gpu("tests/gpu_cases.py") > 12


def test_no_pretend_gpu_is_there_where_none_was_asked_for():
    assert not is_gpu(torch.zeros(1).device)
    assert not isinstance(torch.zeros(1), Pretend)
    assert torch.cuda.is_available() == (torch.cuda.device_count() > 0)
