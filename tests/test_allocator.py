"""Freed memory is kept while a run lasts, where the system has a switch for it and nobody has set it otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cl_engine.runs import process_memory

STEPS = """
import resource, sys
import torch
from cl_engine.runs.process_memory import kept
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.set_num_threads(1)
with kept():
    for step in range(30):
        if step == 10:
            before = pages()
        held = [torch.ones(300_000) for _ in range(20)]
        del held
print((pages() - before) / 20)
"""


class Libc:
    def __init__(self) -> None:
        self.told: list[tuple[int, ...]] = []

    def mallopt(self, *told: int) -> None:
        self.told.append(told)

    def malloc_trim(self, pad: int) -> None:
        self.told.append((pad,))


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Libc:
    found = Libc()
    monkeypatch.setattr(process_memory, "_glibc", lambda: found)
    for name in process_memory.CHOSEN:
        monkeypatch.delenv(name, raising=False)
    return found


def test_memory_is_kept_inside_and_given_back_afterwards(libc: Libc):
    with process_memory.kept():
        assert libc.told == [(-1, 1 << 30), (-3, 1 << 25)]
    assert libc.told[2:] == [(0,)]


def test_what_lies_idle_is_given_back_every_three_seconds(libc: Libc, monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(process_memory.time, "monotonic", lambda: now)
    with process_memory.kept() as give_back:
        for now in (1.0, 2.9, 3.1, 4.0, 6.0, 7.0):  # noqa: B007  # read by the clock
            give_back()
        assert libc.told[2:] == [(0,), (0,)]


@pytest.mark.parametrize("name", process_memory.CHOSEN)
def test_what_the_user_has_set_stays(name: str, libc: Libc, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "131072")
    with process_memory.kept():
        assert libc.told == []


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_memory.platform, "libc_ver", lambda: ("", ""))
    with process_memory.kept():
        pass


@pytest.mark.skipif(process_memory._glibc() is None, reason="this system's allocator is not glibc's")
def test_a_step_asks_the_system_for_no_pages_again():
    """Twenty tensors of 1.2 MB a step are 5,860 pages, if the step before has given them back."""
    root = Path(__file__).parent.parent
    said = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True, cwd=root).stdout
    assert float(said) < 100
