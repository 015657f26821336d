"""Changed inputs of every kind through the command line: the table of docs/robustness.md.

    PYTHONPATH=. python benchmarks/fuzzing.py [INPUTS] [SEED] | tee benchmarks/output/fuzzing.txt

INPUTS of each kind (600 unless said), the same for the same SEED. Each must be accepted, or refused with exit code 2 and
one sentence that names the file or the key, with nothing left behind, within 20 s of computing. Each kind runs in a process
of its own, so that one that dies is seen.
Of every kind a few inputs also go through a process of their own, as a person would start it.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
ROOM = 8 * 2**30  # bytes beyond what a process takes to begin with
REAL = 2  # inputs of each kind that go through a process of their own
ENOUGH = 60.0  # seconds until a run that has not been refused is stopped


def one_kind(name: str, inputs: int, seed: int) -> None:
    """Try the inputs of a kind; print counts, then a block for each failure."""
    import torch

    from tests.fuzzing import KINDS
    from tests.fuzzing.harness import many

    torch.set_num_threads(1)
    taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    counts: Counter[str] = Counter()
    began = time.process_time()
    for number, outcome in enumerate(many(KINDS[name], name, range(inputs), seed)):
        counts[outcome.said] += 1
        if outcome.said == "failed":
            print(f"--- {name}, input {number}: {outcome.case.about}\n{outcome.text}\n---", file=sys.stderr, flush=True)
    print(*(counts[said] for said in ("refused", "accepted", "failed")), f"{time.process_time() - began:.0f}")


def real(name: str, seed: int) -> int:
    """Try a few inputs as a person would; return how many did not end as they should."""
    from tests.fuzzing import KINDS
    from tests.fuzzing.harness import judged

    failed = 0
    for number in range(REAL):
        with tempfile.TemporaryDirectory() as place:
            case = KINDS[name](Random(f"{name}/{seed}/{number}"), Path(place))
            if case.call is not None:
                continue
            command = [sys.executable, str(ROOT / "run.py"), *case.argv]
            with subprocess.Popen(
                command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as process:
                try:
                    said = process.communicate(timeout=ENOUGH)[1]
                except subprocess.TimeoutExpired:
                    process.terminate()
                    said = process.communicate(timeout=ENOUGH)[1]
            verdict, why = judged(process.returncode, said, case.named)
            if verdict == "failed":
                failed += 1
                print(f"--- {name}, input {number} as a process: {why}\n---", file=sys.stderr, flush=True)
    return failed


def main() -> None:
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    from tests.fuzzing import KINDS

    print(f"{inputs} inputs of each kind, seed {seed}; Python {platform.python_version()}, {os.cpu_count()} cores\n")
    head = f"{'kind':<36}{'inputs':>8}{'refused':>9}{'accepted':>10}{'failed':>8}{'s':>6}{'processes':>11}{'failed':>8}"
    print(head, flush=True)
    sums: Counter[str] = Counter()
    for name in KINDS:
        command = [sys.executable, __file__, "--kind", name, str(inputs), str(seed)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{name:<36} the process died with {done.returncode}", flush=True)
            sums["failed"] += 1
            continue
        refused, accepted, failed, seconds = map(int, done.stdout.split()[-4:])
        wrong = real(name, seed)
        sums.update(refused=refused, accepted=accepted, failed=failed, seconds=seconds, real=REAL, wrong=wrong)
        print(f"{name:<36}{inputs:>8}{refused:>9}{accepted:>10}{failed:>8}{seconds:>6}{REAL:>11}{wrong:>8}", flush=True)
    counted = sums["refused"] + sums["accepted"] + sums["failed"]
    print(
        f"{'all':<36}{counted:>8}{sums['refused']:>9}{sums['accepted']:>10}{sums['failed']:>8}{sums['seconds']:>6}"
        f"{sums['real']:>11}{sums['wrong']:>8}"
    )
    raise SystemExit(1 if sums["failed"] or sums["wrong"] else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--kind"]:
        one_kind(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
