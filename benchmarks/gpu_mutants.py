"""Places where the engine says on which device a tensor belongs, dropped one by one: which test on a pretend GPU fails.

    PYTHONPATH=. python benchmarks/gpu_mutants.py [PLACES] [SEED] [--hits FILE] | tee benchmarks/output/gpu_mutants.txt

Every ``.to(… device …)`` and ``device=`` of the package is such a place; PLACES of them (40) are drawn by SEED (0). First all
tests on a pretend GPU run once, and it is noted which of them come by which place (kept in FILE, and read from there where it
is). Then each place is dropped in a copy of the package, and the tests that come by it run, the shortest first, until one fails.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TESTS = [
    f"tests/{name}.py" for name in ("test_strategies", "test_streams", "gpu_cases", "gpu_run_cases", "gpu_option_cases")
]
ELSEWHERE = {"testing", "cli", "sweep"}  # rooms without a tensor of a run
AT_MOST = 60  # seconds of tests for a place; at least one is run
BEFORE = [
    "torch",
    "torch._dynamo",
    "numpy",
    "sklearn.datasets",
    "scipy.stats",
    "h5py",
    "pydantic",
    "hypothesis",
]  # is forked
HOW = ["-q", "-n0", "-p", "no:cacheprovider", "-p", "cl_engine.testing.pretend_gpu", "-W", "error", "-k", "on_a_gpu"]
HOW += ["-o", "addopts=--strict-markers", "-rf", "--tb=no", "-W", "ignore::pytest.PytestAssertRewriteWarning"]


@dataclass(frozen=True)
class Place:
    """A call that says a device, and its text without it; lines are counted from 1, as an editor does."""

    file: str
    first: int
    last: int
    text: str
    without: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.first}"


def places() -> list[Place]:
    """Return all places, file by file."""
    found = []
    for path in sorted((ROOT / "cl_engine").rglob("*.py")):
        if not ELSEWHERE & set(path.relative_to(ROOT).parts):
            source = path.read_text(encoding="utf-8")
            found += [
                Place(str(path.relative_to(ROOT)), node.lineno, node.end_lineno or node.lineno, text, without)
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.Call)
                and (text := ast.get_source_segment(source, node))
                and (without := dropped(node))
            ]
    return sorted(set(found), key=lambda place: (place.file, place.first, place.text))


def dropped(call: ast.Call) -> str:
    """Return a call without the device it says; empty where it says none."""
    named = [keyword for keyword in call.keywords if keyword.arg != "device"]
    if len(named) < len(call.keywords):
        return ast.unparse(ast.Call(call.func, call.args, named))
    moved = isinstance(call.func, ast.Attribute) and call.func.attr == "to"
    if not moved or not call.args or "device" not in ast.unparse(call.args[0]):
        return ""
    assert isinstance(call.func, ast.Attribute)
    rest = call.args[1:]
    return ast.unparse(ast.Call(call.func, rest, named) if rest or named else call.func.value)


class Passing:
    """A plug-in of pytest's that notes which tests come by which places, and how long each takes."""

    def __init__(self, wanted: list[Place]) -> None:
        self.hits: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)
        self._test = ""
        self._inside: dict[Any, bool] = {}  # whether there is a place in a function's code
        self._lines: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for place in wanted:
            for line in range(place.first, place.last + 1):
                self._lines[str(ROOT / place.file)][line].append(place.name)

    def pytest_runtest_setup(self, item: Any) -> None:
        self._test = item.nodeid
        threading.settrace(self._called)  # guests learn in a thread
        sys.settrace(self._called)

    def pytest_runtest_teardown(self, item: Any) -> None:
        sys.settrace(None)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration

    def _called(self, frame: Any, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code not in self._inside:
            lines, own = self._lines.get(code.co_filename, {}), [line or 0 for _, _, line in code.co_lines()]
            self._inside[code] = not lines.keys().isdisjoint(own)
        return self._line if self._inside[code] else None

    def _line(self, frame: Any, event: str, arg: Any) -> Any:
        for name in self._lines[frame.f_code.co_filename].get(frame.f_lineno, ()):
            self.hits[name].add(self._test)
        return self._line


def forked(work: Any, seconds: float, where: Path) -> str:
    """Do some work in a process of its own; return what it printed, and whether it had to be ended."""
    child = os.fork()
    if not child:
        signal.alarm(int(seconds))
        with where.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            try:
                work()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
    status = os.waitpid(child, 0)[1]
    return where.read_text(errors="replace") + ("\nended: it took too long" if status else "")


def hits_of(wanted: list[Place], scratch: Path) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Return the tests that come by each place, and seconds of each test."""
    kept = scratch / "hits.json"

    def work() -> None:
        sys.path.insert(0, str(ROOT))
        passing = Passing(wanted)
        pytest.main([*HOW, *TESTS], plugins=[passing])
        kept.write_text(json.dumps([{k: sorted(v) for k, v in passing.hits.items()}, passing.seconds]))

    said = forked(work, 1800, scratch / "said.txt")
    if " passed" not in said or " failed" in said:
        sys.exit(f"the tests do not pass as they are:\n{said[-3000:]}")
    hits, seconds = json.loads(kept.read_text())
    return hits, seconds


def tried(place: Place, tests: list[str], copy: Path) -> str:
    """Return the first of the tests that fails where a place is dropped, with what it says; empty: none does."""
    path = copy / place.file
    source = path.read_text(encoding="utf-8")
    begin = sum(map(len, source.splitlines(keepends=True)[: place.first - 1]))
    at = source.index(place.text, begin)
    path.write_text(source[:at] + place.without + source[at + len(place.text) :], encoding="utf-8")

    def work() -> None:
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        pytest.main([*HOW, "-x", *tests])

    try:
        said = forked(work, 300, copy / "said.txt")
    finally:
        path.write_text(source, encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) (\S.*)$", said, re.MULTILINE)
    if failed:
        return failed.group(1)
    return "" if re.search(r"\d+ passed", said) else f"nothing ran: {said.strip().splitlines()[-1][:120]}"


def copied(scratch: Path) -> Path:
    """Return a copy of the package, with the tests beside it; what is changed in it is compiled anew."""
    copy = scratch / "copy"
    copy.mkdir()
    shutil.copytree(ROOT / "cl_engine", copy / "cl_engine", ignore=shutil.ignore_patterns("__pycache__"))
    for other in ("tests", "benchmarks", "scenarios", "pyproject.toml"):
        (copy / other).symlink_to(ROOT / other)
    compileall.compile_dir(copy / "cl_engine", quiet=1)
    return copy


def outcomes(
    drawn: list[Place], every: dict[str, list[str]], seconds: dict[str, float]
) -> Iterator[tuple[Place, str, str]]:
    """Yield what became of each place: noticed, survived or not tested, and by which test."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        for place in drawn:
            for compiled in (copy / place.file).parent.glob(f"__pycache__/{Path(place.file).stem}.*"):
                compiled.unlink()
            tests = sorted(every.get(place.name, []), key=lambda test: seconds[test])
            taken = [test for k, test in enumerate(tests) if not k or sum(seconds[t] for t in tests[: k + 1]) < AT_MOST]
            said = tried(place, taken, copy) if taken else ""
            fate = "noticed" if said else "survived" if taken else "not tested"
            yield place, fate, said or f"{len(taken)} of {len(tests)} tests that come by pass"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("places", type=int, nargs="?", default=40)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--hits", type=Path)
    asked = parser.parse_args()
    sys.dont_write_bytecode = True
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in BEFORE:
        importlib.import_module(name)
    every = places()
    drawn = sorted(random.Random(asked.seed).sample(every, min(asked.places, len(every))), key=lambda place: place.name)
    began = time.perf_counter()
    if asked.hits and asked.hits.exists():
        hits, seconds = json.loads(asked.hits.read_text())
    else:
        with tempfile.TemporaryDirectory() as folder:
            hits, seconds = hits_of(every, Path(folder))
        if asked.hits:
            asked.hits.write_text(json.dumps([hits, seconds]))
    unseen = [place.name for place in every if place.name not in hits]
    print(f"{len(every)} places, {len(every) - len(unseen)} of which some of {len(seconds)} tests come by", flush=True)
    print(f"{len(drawn)} drawn by seed {asked.seed}\n", flush=True)
    counts: dict[str, int] = defaultdict(int)
    for place, fate, said in outcomes(drawn, hits, seconds):
        counts[fate] += 1
        print(f"{place.name:<48} {fate:<11} {' '.join(place.text.split())[:90]}\n    {said[:200]}", flush=True)
    print("\n" + ", ".join(f"{count} {fate}" for fate, count in sorted(counts.items())))
    print(f"{time.perf_counter() - began:.0f} s")
    print("no test comes by: " + ", ".join(unseen))


if __name__ == "__main__":
    main()
