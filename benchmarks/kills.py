"""Runs of every strategy, killed at chosen and at random moments, taken up again, and compared with runs that were not.

    python -m benchmarks.kills [--kills 2] [--strategies a,b] [--command-line 1]

Prints a table and saves it; strategies that are not run again keep their rows. Kills by strategy and by what was
going on, logs that could be opened after each, and ends that were equal, but for columns of time, to that of an
uninterrupted run. Nothing in the engine knows of this: a child process replaces a function by one that ends the
process (SIGKILL) when it is called for the n-th time, in the middle of a write where it writes.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.testing.logs import assert_same_facts, facts
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
JSON = ROOT / "benchmarks" / "output" / "kills.json"
SETTINGS = {"agenda.save_every_epochs": 1, "train.epochs": 3}
LIMIT = 600.0  # seconds that a tiny run may take, on a machine that does other things too
ANY, TYPED = "any moment", "command line"
# what is going on, and the function that does it; a strategy that never does is not killed there
MOMENTS = {
    "learning": "cl_engine.training.seed_group:SeedGroup.step",
    "testing": "cl_engine.engine.evaluator:Evaluator.sums",
    "consolidating": "cl_engine.recall.consolidation:_Group._step",
    "writing the log": "cl_engine.loggers.tables:Table.flush",
    "copying the log": "shutil:copyfile",
    "writing the checkpoint": "cl_engine.checkpoints.file:save_file",
    "appending to the log": "cl_engine.loggers.journal:Journal.append",
    "appending a block": "cl_engine.checkpoints.blocks:Appending.write",
    "renaming": "pathlib:Path.replace",
    "deleting": "pathlib:Path.unlink",
}
# a log that is published at every save or hardly ever, and a state that is small or large; half of the runs are of each kind
LARGE = {
    "cl_engine.loggers.recorder:PUBLISHED": (1e9, 1e-9),
    "cl_engine.loggers.recorder:AT_MOST": (1e9, 1e-9),
    "cl_engine.checkpoints.store:LARGE": (2**16, 64),
}
PASSES = "cl_engine.training.seed_group:SeedGroup.end_epoch"


@dataclass
class Tally:
    """What became of the kills of one strategy.

    Attributes:
        kills: by what was going on.
        opened: kills after which the published log could be opened and read whole.
        early: kills before there was a log.
        taken_up: runs that were killed, once or several times, and taken up again.
        equal: those that ended with the log of an uninterrupted run.
        again: passes of a seed that were made again, at most, for one kill.
        seconds: in all.
    """

    kills: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    early: int = 0
    taken_up: int = 0
    equal: int = 0
    again: float = 0.0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def _place(dotted: str) -> tuple[Any, str]:
    module, _, name = dotted.partition(":")
    owner: Any = importlib.import_module(module)
    *parts, last = name.split(".")
    for part in parts:
        owner = getattr(owner, part)
    return owner, last


def _hooked(dotted: str, before: Callable[[Callable[[], Any], tuple[Any, ...]], object]) -> None:
    """Let ``before(call, arguments)`` be called ahead of a function; ``call()`` is the call itself."""
    owner, name = _place(dotted)
    original = getattr(owner, name)

    @functools.wraps(original)
    def hooked(*arguments: Any, **named: Any) -> Any:
        before(lambda: original(*arguments, **named), arguments)
        return original(*arguments, **named)

    setattr(owner, name, hooked)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _as_if(large: int) -> None:
    """Let this process take logs and states for large ones, or for what they are."""
    for dotted, sizes in LARGE.items():
        owner, name = _place(dotted)
        setattr(owner, name, sizes[large])


def set_bomb(moment: str, number: int, draw: random.Random) -> None:
    """Kill this process when the function of a moment is called for the n-th time, torn in its middle if it writes."""
    calls = 0

    def before(call: Callable[[], Any], arguments: tuple[Any, ...]) -> None:
        nonlocal calls
        calls += 1
        if calls < number:
            return
        if moment == "copying the log":
            content = Path(arguments[0]).read_bytes()
            Path(arguments[1]).write_bytes(content[: draw.randrange(len(content))])
        elif moment == "writing the checkpoint":
            call()
            os.truncate(arguments[1], draw.randrange(Path(arguments[1]).stat().st_size))
        elif moment == "appending to the log":
            held = arguments[0].path
            size = held.stat().st_size if held.exists() else 0
            call()
            os.truncate(held, draw.randint(size, held.stat().st_size))
        elif moment in ("renaming", "deleting", "appending a block") and draw.random() < 0.5:
            call()  # just after it instead of just before
        _die()

    _hooked(MOMENTS[moment], before)


def forked(work: Callable[[], None], said: Path) -> int:
    """Do something in a child process; return its id. What is imported here is there at once."""
    child = os.fork()
    if child:
        return child
    try:
        with said.open("a") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            work()
        os._exit(0)
    except BaseException:
        said.write_text(traceback.format_exc())
        os._exit(1)


def end_of(child: int, after: float | None = None) -> int:
    """Wait for a child, or kill it after so many seconds; return what `os.waitpid` says of its end."""
    deadline = time.monotonic() + (LIMIT if after is None else after)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if after is None:
                raise TimeoutError("a tiny run did not end")
            return status
        time.sleep(0.002)


class Runs:
    """Runs of one strategy: a whole one, and those that are killed."""

    def __init__(self, strategy: str, folder: Path, draw: random.Random) -> None:
        setting = plugins.load("strategies", strategy).settings[-1]
        settings = {"stream.setting": setting, **SETTINGS}
        self.experiment = Experiment.of(TINY, strategy, (0, 1), **settings)
        self.strategy, self.folder, self.draw = strategy, folder, draw
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        arguments = ["run", str(TINY), "-s", strategy, "--seeds", "2", "--quiet", *sets]
        self.command = [sys.executable, str(ROOT / "run.py"), *arguments]
        self.tally = Tally()
        began = time.monotonic()
        self.calls = [self._counted(folder / "whole", large) for large in (0, 1)]
        self.seconds = (time.monotonic() - began) / 2
        self.whole = facts(folder / "whole" / "log.h5")

    def moments(self, large: int) -> list[str]:
        """Return what goes on in a run."""
        return [*(moment for moment in MOMENTS if self.calls[large][moment]), ANY]

    def _counted(self, out: Path, large: int) -> Counter[str]:
        """Run undisturbed; return how often the function of each moment was called."""
        notes = self.folder / "calls"
        shutil.rmtree(out, ignore_errors=True)

        def work() -> None:
            calls: Counter[str] = Counter()
            _as_if(large)
            for moment, dotted in {**MOMENTS, "passes": PASSES}.items():
                _hooked(dotted, lambda call, arguments, moment=moment: calls.update([moment]))
            self.experiment.run(out)
            notes.write_text("\n".join(f"{count} {moment}" for moment, count in calls.items()))

        if end_of(forked(work, self.folder / "said")):
            raise RuntimeError(f"{self.strategy}: {(self.folder / 'said').read_text()}")
        lines = (line.partition(" ") for line in notes.read_text().splitlines())
        return Counter({moment: int(count) for count, _, moment in lines})

    def kill(self, moment: str, large: int) -> None:
        """Kill a run at a moment, sometimes again at others, take it up, and compare its end."""
        out = self.folder / f"{moment} {large}"
        passes, kills = 0, 0
        for attempt in range(4):
            again = ANY if attempt else moment
            killed, made = self._once(out, large, again if attempt == 0 or self.draw.random() < 0.3 else None)
            passes += made
            if not killed:
                break
            kills += 1
            self.tally.kills[again] += 1
            self._look(out)
        else:
            passes += self._once(out, large, None)[1]
        if kills:
            self._compare(out, kills, passes)
        shutil.rmtree(out, ignore_errors=True)

    def _once(self, out: Path, large: int, moment: str | None) -> tuple[bool, int]:
        """Run until it is killed or done; return whether it was killed, and the passes of a seed it made."""
        notes, bomb = self.folder / "passes", random.Random(self.draw.random())
        notes.unlink(missing_ok=True)

        def work() -> None:
            _as_if(large)
            with notes.open("ab", buffering=0) as made:
                _hooked(PASSES, lambda call, arguments: made.write(b"." * len(arguments[0].seeds)))
                if moment not in (None, ANY):
                    set_bomb(moment, bomb.randint(1, self.calls[large][moment]), bomb)
                self.experiment.run(out)

        after = self.draw.uniform(0.0, self.seconds) if moment == ANY else None
        status = end_of(forked(work, self.folder / "said"), after)
        if status and not os.WIFSIGNALED(status):
            self.tally.wrong.append(f"{self.strategy}, {moment}: {(self.folder / 'said').read_text()[-2000:]}")
        return os.WIFSIGNALED(status), notes.stat().st_size if notes.exists() else 0

    def type_and_kill(self, number: int) -> None:
        """Kill a run that was started by the command line, and start it again in the same way."""
        out = self.folder / f"typed {number}"
        started = [*self.command, "--out", str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            started, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        deadline = time.monotonic() + LIMIT
        while not (out / "log.h5").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(self.draw.uniform(0.0, 0.7 * self.seconds))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            self.tally.kills[TYPED] += 1
            self._look(out)
            subprocess.run(started, cwd=ROOT, capture_output=True, check=True, timeout=LIMIT, env=environment)
            self._compare(out, 1, 0)
        shutil.rmtree(out, ignore_errors=True)

    def _look(self, out: Path) -> None:
        """Open the log that a kill has left, and read all of it."""
        if not (out / "log.h5").exists():
            self.tally.early += 1
            return
        try:
            facts(out / "log.h5")
            assert open_run(out).status in ("running", "finished")
            self.tally.opened += 1
        except Exception as error:
            self.tally.wrong.append(f"{out}: the log cannot be opened: {error}")

    def _compare(self, out: Path, kills: int, passes: int) -> None:
        self.tally.taken_up += 1
        self.tally.again = max(self.tally.again, (passes - self._passes_of_whole) / kills)
        try:
            assert_same_facts(facts(out / "log.h5"), self.whole)
            self.tally.equal += 1
        except Exception as error:
            self.tally.wrong.append(f"{out}: another end: {error}")

    @property
    def _passes_of_whole(self) -> int:
        return len(self.whole["epochs/loss"])


def tallied(strategies: Iterable[str], kills: int, typed: int, seed: int = 0) -> dict[str, Tally]:
    """Kill runs of strategies, so many at each moment and by the command line; return what became of them."""
    torch.set_num_threads(1)  # a process with threads must not be forked
    found = {}
    for strategy in strategies:
        began = time.monotonic()
        draw = random.Random(f"{seed} {strategy}")
        with tempfile.TemporaryDirectory() as folder:
            Experiment.of(TINY, strategy).run(Path(folder) / "warm")  # imports happen here, and not in every child
            runs = Runs(strategy, Path(folder), draw)
            for number in range(kills):
                for moment in runs.moments(number % 2):
                    runs.kill(moment, number % 2)
            for number in range(typed):
                runs.type_and_kill(number)
            found[strategy] = runs.tally
        runs.tally.seconds = time.monotonic() - began
        print(f"{strategy}: {sum(runs.tally.kills.values())} kills", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, Tally]) -> list[str]:
    """Return the lines of the table."""
    moments = [moment for moment in [*MOMENTS, ANY, TYPED] if any(tally.kills[moment] for tally in found.values())]
    heads = [*moments, "kills", "no log yet", "log opened", "runs", "equal ends", "passes again"]
    lines = ["Kills by what was going on, and what became of the runs", ""]
    lines += [f"{chr(ord('a') + k)}  {head}" for k, head in enumerate(heads)] + [""]
    lines.append(f"{'':<14}" + "".join(f"{chr(ord('a') + k):>6}" for k in range(len(heads))))
    rows = []
    for strategy, tally in found.items():
        ends = [tally.early, tally.opened, tally.taken_up, tally.equal, round(tally.again, 1)]
        rows.append([*(tally.kills[moment] for moment in moments), sum(tally.kills.values()), *ends])
        lines.append(f"{strategy:<14}" + "".join(f"{value:>6}" for value in rows[-1]))
    sums = [*(sum(column) for column in list(zip(*rows, strict=True))[:-1]), max(row[-1] for row in rows)]
    lines.append(f"{'all':<14}" + "".join(f"{value:>6}" for value in sums))
    seconds = sum(tally.seconds for tally in found.values())
    lines += ["", f"passes again: passes of a seed made a second time, at most, for one kill; {seconds:.0f} s in all"]
    return [*lines, *(wrong for tally in found.values() for wrong in tally.wrong)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2, help="runs of a strategy that are killed at each moment")
    parser.add_argument("--command-line", type=int, default=1, help="runs of a strategy started by the command line")
    parser.add_argument("--strategies", default="", help="some strategies; left out: all that there are")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    names = asked.strategies.split(",") if asked.strategies else sorted(plugins.names("strategies"))
    kept = json.loads(JSON.read_text()) if JSON.exists() else {}
    known = {name: Tally(**{**tally, "kills": Counter(tally["kills"])}) for name, tally in kept.items()}
    found = {**known, **tallied(names, asked.kills, asked.command_line, asked.seed)}
    found = {name: found[name] for name in sorted(found)}
    lines = table(found)
    print("\n".join(lines))
    JSON.write_text(json.dumps({name: vars(tally) for name, tally in found.items()}, indent=1) + "\n")
    JSON.with_suffix(".txt").write_text("\n".join(lines) + "\n")
    if any(tally.wrong for tally in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
