"""One input through the command line: it is accepted, or refused in a sentence with exit code 2, and nothing else.

A run that begins is stopped after its first test, by the signal that Slurm would send: it was accepted.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any
from unittest import mock

from click.testing import CliRunner

from cl_engine import events
from cl_engine.cli import main

LIMIT, WAIT = 20.0, 120.0  # seconds of computing, and of waiting, after which an input hangs
ENOUGH = 0.1  # seconds after which a run that learns has begun
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SHORTEST, LONGEST = 25, 2_100  # letters of a sentence


class Hangs(BaseException):
    """An input has taken longer than the limit."""


@dataclass
class Case:
    """An input: what is typed, and what must hold when it is refused.

    Attributes:
        argv: what is typed.
        out: a folder that must not be there, or not have changed, when the input is refused.
        named: texts of which the sentence must hold one; empty: any sentence will do.
        about: what was changed, for whoever looks into a failure.
        call: what is called in place of the command line, where there is no command for it.
    """

    argv: Sequence[str] = ()
    out: Path | None = None
    named: Sequence[str] = ()
    about: str = ""
    call: Callable[[], Any] | None = None


@dataclass
class Outcome:
    """What became of an input: ``refused``, ``accepted`` or ``failed``, with the sentence or what went wrong."""

    said: str
    text: str
    seconds: float = 0.0
    case: Case = field(default_factory=Case)


Maker = Callable[[Random, Path], Case]


def many(make: Maker, name: str, numbers: Iterable[int], seed: int = 0) -> Iterator[Outcome]:
    """Try the inputs of these numbers, each in a folder of its own that is the current one meanwhile."""
    home = Path.cwd()
    for number in numbers:
        folder = Path(tempfile.mkdtemp(prefix="input-"))
        os.chdir(folder)
        try:
            yield tried(make(Random(f"{name}/{seed}/{number}"), folder))
        finally:
            os.chdir(home)
            shutil.rmtree(folder, ignore_errors=True)


def tried(case: Case) -> Outcome:
    """Put an input in, and say what became of it."""
    began = time.perf_counter()
    before = contents(case.out)
    try:
        with _limited(), _stopping(), _no_sweeps():
            result = CliRunner(catch_exceptions=False).invoke(_called(case.call) if case.call else main, [*case.argv])
        said, text = judged(result.exit_code, result.stderr, case.named)
    except Hangs:
        said, text = "failed", f"took more than {LIMIT:.0f} s of computing, or {WAIT:.0f} s"
    except BaseException:  # whatever a library may raise: all of it is a failure here
        said, text = "failed", traceback.format_exc()
    if said == "refused" and contents(case.out) != before:
        said, text = "failed", f"refused, and yet {case.out} has changed: {sorted(contents(case.out))}\n{text}"
    return Outcome(said, text, time.perf_counter() - began, case)


def judged(code: int, stderr: str, named: Sequence[str]) -> tuple[str, str]:
    """Return whether an exit code and what was said with it are an acceptance, a refusal or a failure."""
    if code in (0, 143) or (code == 1 and stderr.startswith("Failed: ")):  # the run had begun
        return "accepted", ""
    sentences = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    text = sentences[-1].strip() if sentences else ""
    if code != 2:
        return "failed", f"exit code {code}: {stderr}"
    if len(sentences) != 1 or "Traceback" in stderr or not SHORTEST <= len(text) <= LONGEST:
        return "failed", f"no sentence: {stderr[:LONGEST]}"
    if CONTROL.search(stderr):
        return "failed", f"control characters: {stderr!r}"
    if named and not any(name in text for name in named):
        return "failed", f"names none of {list(named)}: {text}"
    return "refused", text


def contents(folder: Path | None) -> dict[str, bytes]:
    """Return what is in a folder, a digest for each file; locks do not count."""
    if folder is None or not folder.exists():
        return {}
    if folder.is_file():
        return {"": folder.read_bytes()}
    files = (path for path in sorted(folder.rglob("*")) if path.name != ".lock")
    found = {str(path.relative_to(folder)): _digest(path) for path in files}
    return {".": b"", **found}


def _digest(path: Path) -> bytes:
    return blake2b(path.read_bytes(), digest_size=8).digest() if path.is_file() else b""


def _called(call: Callable[[], Any]) -> Any:
    """Return a command that calls what has no command of its own, with the same errors."""
    import click

    from cl_engine.cli.commands import Commands

    group = Commands(name="called", invoke_without_command=True)
    group.callback = lambda: call() and None
    assert isinstance(group, click.Group)
    return group


@contextmanager
def _limited() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise Hangs

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, LIMIT), signal.SIGALRM: (signal.ITIMER_REAL, WAIT)}
    before = {number: signal.signal(number, late) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextmanager
def _stopping() -> Iterator[None]:
    """Stop every run once it has learned something."""
    import cl_engine.cli.terminal

    class Impatient:
        def __init__(self, *args: Any, **named: Any) -> None:
            self.began = time.perf_counter()
            self.asked = False

        def __call__(self, event: events.Event) -> None:
            late = isinstance(event, events.Progress) and time.perf_counter() - self.began > ENOUGH
            if not self.asked and (late or (isinstance(event, events.Scored) and event.step >= 0)):
                self.asked = True
                os.kill(os.getpid(), signal.SIGTERM)

        def close(self) -> None:
            return

    with mock.patch.object(cl_engine.cli.terminal, "Console", Impatient):
        yield


@contextmanager
def _no_sweeps() -> Iterator[None]:
    """Let sweeps end where the first run would begin."""
    from cl_engine.sweep.sweep import Sweep

    def begun(self: Any, *args: Any) -> None:
        raise SystemExit(0)

    with mock.patch.object(Sweep, "run", begun), mock.patch.object(Sweep, "check", begun):
        yield
