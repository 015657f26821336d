"""Sweeps on Ray: one machine, two nodes of which one is killed, a disk that is not shared. Each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.results.run import open_run
from cl_engine.sweep import cluster

pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "tiny.toml"
TROUBLED = "tests.sweep_of_users:Troubled"
pytestmark = pytest.mark.slow

# what is done with a sweep, in a process that can set Ray up for itself
START = """
import sys, json, os, time, threading, signal
from pathlib import Path
from cl_engine.sweep import cluster
from cl_engine.sweep.folder import SweepFolder
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.sweep import Sweep

options = SweepOptions(**json.loads(sys.argv[1]))
out = Path(sys.argv[2])
"""
TWO_NODES = """
os.environ.update({**cluster.SETTINGS, "RAY_AUTH_MODE": "disabled"})
from ray.cluster_utils import Cluster

nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = nodes.add_node(num_cpus=1)
address = nodes.address
"""


def done(code: str, options: dict[str, Any], out: Path, **environment: str) -> Any:
    """Run a program that ends by printing JSON; return that."""
    typed = [sys.executable, "-W", "error", "-c", START + code, json.dumps(options), str(out)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    surroundings = {**os.environ, "PYTHONPATH": path, **environment}
    ended = subprocess.run(typed, check=False, capture_output=True, text=True, env=surroundings, timeout=300, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def options(trace: Path, **changes: Any) -> dict[str, Any]:
    axes = {"train.lr": [0.001, 0.002], "trace": [str(trace)], **changes.pop("set", {})}
    return {"scenarios": [str(TINY)], "strategies": [TROUBLED], "set": axes, **changes}


def begun(trace: Path) -> list[tuple[float, int]]:
    lines = [line.rsplit(" ", 2) for line in trace.read_text().splitlines()]
    return [(float(lr), int(step)) for _, lr, step in lines]


def test_on_one_machine_ray_listens_on_the_loopback_alone_and_a_killed_worker_is_tried_again(tmp_path: Path):
    code = """
import psutil

found = Sweep(options, out, on="ray", device="cpu", quiet=True)
seen = set()

def look():
    while True:
        for each in psutil.process_iter(["name"]):
            try:
                if each.username() and any(word in each.info["name"] for word in ("raylet", "gcs_server")):
                    if psutil.Process().pid in [p.pid for p in each.parents()]:
                        seen.update(c.laddr.ip for c in each.net_connections() if c.status == "LISTEN")
            except psutil.Error:
                pass
        time.sleep(0.2)

threading.Thread(target=look, daemon=True).start()
tally = found.run()
left = [p.name() for p in psutil.Process().children(recursive=True)]
print(json.dumps({"done": tally.done, "failed": tally.failed, "seen": sorted(seen), "left": left,
                  "usage": os.environ.get("RAY_USAGE_STATS_ENABLED", "")}))
"""
    wanted = options(tmp_path / "trace", set={"trouble": ["kill"], "only": [0.001]})
    found = done(code, wanted, tmp_path / "out")
    assert len(found["done"]) == 2
    assert found["seen"]
    assert {address.removeprefix("::ffff:") for address in found["seen"]} <= {"127.0.0.1", "::1"}
    assert not found["left"]
    assert [step for lr, step in begun(tmp_path / "trace") if lr == 0.001] == [0, 1, 1, 2]
    assert [step for lr, step in begun(tmp_path / "trace") if lr == 0.002] == [0, 1, 2]


def test_a_node_killed_in_the_middle_loses_no_run_and_none_is_done_twice(tmp_path: Path):
    code = f"""{TWO_NODES}
def kill():
    while True:
        time.sleep(0.2)
        try:
            lines = Path(options.set["trace"][0]).read_text().splitlines()
        except OSError:
            continue
        if len({{line.split()[0] for line in lines}}) == 2 and len(lines) >= 6:
            nodes.remove_node(second, allow_graceful=False)
            return

threading.Thread(target=kill, daemon=True).start()
tally = Sweep(options, out, on="ray", address=address, device="cpu", quiet=True).run()
kinds = {{name: [n["outcome"] for n in SweepFolder(out).attempts(name)] for name in tally.entries}}
print(json.dumps({{"done": tally.done, "failed": tally.failed, "kinds": kinds}}))
"""
    rates = [round(0.001 * k, 3) for k in range(1, 5)]
    wanted = options(tmp_path / "trace", set={"train.lr": rates, "trouble": ["slow"], "stream.n": [6]})
    found = done(code, wanted, tmp_path / "out")
    assert len(found["done"]) == 4
    assert not found["failed"]
    assert sum(kinds.count("finished") for kinds in found["kinds"].values()) == 4
    lost = [kinds for kinds in found["kinds"].values() if kinds != ["started", "finished"]]
    assert lost == [["started", "lost", "started", "finished"]]
    steps = begun(tmp_path / "trace")
    assert {(lr, step) for lr in rates for step in range(6)} == set(steps)
    assert len(steps) <= 4 * 6 + 3  # begun again is what was at hand on the node, and what a save was put off for


def test_without_a_shared_disk_the_logs_come_back_and_a_run_goes_on_where_another_node_left_it(tmp_path: Path):
    code = f"""{TWO_NODES}
import shutil
import cl_engine.sweep.driver as driver
real = driver.Job
driver.Job = lambda name, sweep, *rest, **more: real(name, "/nowhere" + sweep, *rest, **more)  # nodes see no such path
told = []
for changes in ({{}}, {{"halving": None}}):
    tally = Sweep(options.model_copy(update=changes), out, on="ray", address=address, device="cpu", quiet=True).run()
    told.append({{"done": tally.done, "failed": tally.failed, "dropped": tally.dropped}})
    told[-1]["checkpoints"] = len(list(out.glob("*/checkpoint.safetensors")))
    # what a node keeps is thrown away: the runs that were dropped go on from the files that came back
    shutil.rmtree("{tmp_path}/cl-engine-{os.getuid()}")
print(json.dumps(told))
"""
    trace = tmp_path / "trace"
    wanted = options(trace, set={"train.lr": [1e-5, 1e-2, 2e-5], "train.epochs": [15]}, halving={"tasks": 1})
    found, later = done(code, wanted, tmp_path / "out", TMPDIR=str(tmp_path), RAY_TMPDIR="/tmp")
    assert (len(found["done"]), len(found["dropped"]), found["failed"]) == (1, 2, {})
    logs = list((tmp_path / "out").glob("*/log.h5"))
    assert len(logs) == 3
    assert found["checkpoints"] >= 2
    assert len(later["done"]) == 3
    assert [step for lr, step in begun(trace) if lr == 1e-5] in ([0, 1, 2], [0, 0, 1, 2])


def test_a_driver_on_ray_that_is_asked_to_stop_saves_its_runs_and_leaves_no_process(tmp_path: Path):
    code = """
import psutil
from cl_engine.runs.signals import Stopped

def interrupt():
    trace = Path(options.set["trace"][0])
    while not trace.exists() or len(trace.read_text().splitlines()) < 3:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    Sweep(options, out, on="ray", device="cpu", quiet=True).run()
except Stopped as stop:
    left = [p.name() for p in psutil.Process().children(recursive=True)]
    print(json.dumps({"signal": stop.signal, "left": left}))
"""
    wanted = options(tmp_path / "trace", set={"train.lr": [0.001], "trouble": ["slow"], "stream.n": [30]})
    assert done(code, wanted, tmp_path / "out") == {"signal": 2, "left": []}
    (log,) = (tmp_path / "out").glob("*/log.h5")
    assert open_run(log).status == "stopped"


def test_a_cluster_that_does_not_answer_is_refused_in_a_sentence(tmp_path: Path):
    for address, sentence in (("127.0.0.1:1", "nobody answers there"), ("nowhere", "write HOST:PORT")):
        typed = ["sweep", str(TINY), "-s", "finetune", "--on", "ray", "--address", address, "--out", str(tmp_path)]
        result = CliRunner().invoke(main, typed)
        assert result.exit_code == 2
        assert sentence in result.stderr


def test_a_token_that_others_could_read_is_made_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    cluster.guard_token()
    assert token.stat().st_mode & 0o777 == 0o600
