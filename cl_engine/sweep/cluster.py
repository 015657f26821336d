"""The Ray backend: a cluster, or Ray on this machine alone. The only file that imports Ray.

Ray carries a run's job there and its outcome back, both plain data, and says when a worker or a node is gone. It does
not try anything again by itself: what has failed is counted in the run's folder.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib

from cl_engine.errors import UsageError
from cl_engine.sweep.backend import Job, JobProgress, Outcome
from cl_engine.sweep.capacity import share_of_gpu
from cl_engine.sweep.config import ResourceOptions
from cl_engine.sweep.local import POOLS, RUNS_A_PROCESS

STORE = 200 * 2**20  # bytes of Ray's object store: nothing larger than logs goes through it
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's way to come, which it would warn of otherwise
    "RAY_AUTH_MODE": "token",
}
ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" keeps a single node's sockets on 127.0.0.1, on Linux too
TOKEN = Path("~/.ray/auth_token")
ROOM_FOR_SOCKETS = 20  # letters that a folder may have for Ray's sockets to fit
HEARD_TIMEOUT = 10.0
PATIENCE = 30.0  # seconds in which runs hear that they are to stop; those that wait for a node never do
REACHED = 5.0  # seconds in which a cluster must answer


class Bell:
    """An actor through which runs report progress and are told to stop.

    >>> bell = Bell()
    >>> bell.heard("run-1", 2, 10)
    False
    """

    def __init__(self) -> None:
        self.rung = False
        self.far: dict[str, tuple[int, int | None]] = {}

    def heard(self, name: str, learned: int, of: int | None) -> bool:
        """Take in how far a run is; return whether it is to stop."""
        self.far[name] = (learned, of)
        return self.rung

    def ring(self) -> None:
        """Tell all runs to stop."""
        self.rung = True

    def taken(self) -> dict[str, tuple[int, int | None]]:
        """Return what was heard since this was asked last."""
        far, self.far = self.far, {}
        return far


def work_on_node(job: dict[str, Any], bell: Any) -> Outcome:
    """Do a job in a worker of Ray's."""
    import ray

    from cl_engine.sweep.run_job import run_job

    def hear(heard: JobProgress) -> bool:
        try:
            return bool(ray.get(bell.heard.remote(heard.name, heard.learned, heard.of), timeout=HEARD_TIMEOUT))
        except ray.exceptions.RayError:
            return False  # a driver that is gone takes its workers with it; one that is busy is asked again

    return run_job(Job(**job), hear)


class Cluster:
    """Ray's workers, on all nodes of a cluster or on this machine.

    >>> Cluster.__name__  # Cluster(ResourceOptions()) starts Ray, or joins a cluster
    'Cluster'

    Args:
        resources: what a run takes.
        address: of a cluster (``HOST:PORT``, or ``auto``: the one this machine is part of); None: this machine alone.
        device: on which runs are asked to run.

    Raises:
        UsageError: if Ray is not installed, or there is no such cluster.
    """

    def __init__(self, resources: ResourceOptions, address: str | None = None, device: str = "auto") -> None:
        if importlib.util.find_spec("ray") is None:
            raise UsageError("--on ray needs Ray: pip install -e '.[ray]'")
        if address is not None and address != "auto":
            _reach(address)
        self.resources, self.device, self.environment = resources, device, dict(os.environ)
        # Ray lets everybody write to its own folder: it gets one within a folder that nobody else may enter
        self.own = Path(tempfile.mkdtemp(prefix="cl-ray-", dir=_short_folder())) if address is None else None
        os.environ.update({key: os.environ.get(key, value) for key, value in SETTINGS.items()})
        if self.own is not None:
            os.environ[ON_LOOPBACK] = "0"
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(_private_token(self.own))
        else:
            guard_token()
        import ray  # reads the environment: not before

        self.ray = ray
        try:
            self._connect(address)
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            self.close()
            failed = f"--address {address}: Ray does not answer there" if address else "--on ray: Ray does not start"
            raise UsageError(f"{failed}: {_first_line(error)}") from None
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.bell = ray.remote(num_cpus=0, scheduling_strategy=here)(Bell).remote()
        self.needed: dict[str, Any] = {}
        self.gpus = resources.gpus or 0.0
        self.fit(resources.memory * 1e9 if resources.memory else 0.0, {})
        self.jobs: dict[Any, Job] = {}
        self.stopping, self.patience = False, math.inf
        self.asked = time.monotonic()

    def fit(self, memory: float, needs: Mapping[str, Mapping[str, Any]]) -> None:
        """Reserve this much memory, in bytes, for each run, and the share of a GPU that was measured."""
        if self.resources.gpus is None and self.device != "cpu" and self.ray.cluster_resources().get("GPU", 0) >= 1:
            # Ray does not say how much memory a GPU has: of those that are alike, this machine's tells
            import torch

            total = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0.0
            self.gpus = share_of_gpu(self.resources, needs, total) if total else 1.0
        self.needed = {"num_cpus": self.resources.threads, "num_gpus": self.gpus}
        if memory:
            self.needed["memory"] = int(memory)
        self.task = self.ray.remote(max_retries=0, max_calls=RUNS_A_PROCESS, **self.needed)(work_on_node)

    @property
    def room(self) -> int:
        """How many more jobs the cluster takes now, by what its nodes have altogether."""
        if self.stopping:
            return 0
        there = self.ray.cluster_resources()
        fits = [there.get("CPU", 0) // self.resources.threads]
        fits += [there.get("GPU", 0) / self.gpus] if self.gpus else []
        fits += [there.get("memory", 0) // self.needed["memory"]] if "memory" in self.needed else []
        most = max(1, int(min(fits)))  # one may wait for a node that is yet to come
        return min(most, self.resources.jobs or most) - len(self.jobs)

    def start(self, job: Job) -> None:
        """Start a job somewhere."""
        given = job.json | ({"device": "cpu"} if not self.gpus and job.device == "auto" else {})
        self.jobs[self.task.remote(given, self.bell)] = job

    def wait(self, seconds: float) -> list[Outcome | JobProgress]:
        """Return what has happened; wait for it at most ``seconds``."""
        if not self.jobs:
            time.sleep(seconds)
            return []
        if time.monotonic() > self.patience:
            self.patience = math.inf
            for reference in self.jobs:
                self.ray.cancel(reference, force=False)
        ended, _ = self.ray.wait(list(self.jobs), num_returns=len(self.jobs), timeout=seconds / 10)
        if not ended:
            ended, _ = self.ray.wait(list(self.jobs), num_returns=1, timeout=seconds)
        found: list[Outcome | JobProgress] = [self._outcome(reference) for reference in ended]
        if time.monotonic() - self.asked > 1:
            self.asked = time.monotonic()
            try:
                far = self.ray.get(self.bell.taken.remote(), timeout=HEARD_TIMEOUT)
                found += [JobProgress(name, learned, of) for name, (learned, of) in far.items()]
            except self.ray.exceptions.RayError:
                pass
        return found

    def stop(self) -> None:
        """Ask all jobs to stop where they can go on from; those that do not hear it are taken back after a while."""
        self.stopping, self.patience = True, time.monotonic() + PATIENCE
        self.bell.ring.remote()

    def close(self) -> None:
        """Leave the cluster; what runs there for this sweep ends. End Ray if it was started here."""
        self.ray.shutdown()
        if self.own is not None:
            shutil.rmtree(self.own, ignore_errors=True)
        os.environ.clear()
        os.environ.update(self.environment)

    def _connect(self, address: str | None) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        runtime = {"env_vars": dict.fromkeys(POOLS, str(self.resources.threads))}
        if address is not None:
            self.ray.init(address=address, runtime_env=runtime, **quiet)
            return
        cores = min(joblib.cpu_count(), (self.resources.jobs or 10**6) * self.resources.threads)
        store = {"object_store_memory": STORE, "include_dashboard": False, "_temp_dir": f"{self.own}/ray"}
        self.ray.init(address="local", num_cpus=cores, runtime_env=runtime, **store, **quiet)

    def _outcome(self, reference: Any) -> Outcome:
        job = self.jobs.pop(reference)
        errors = self.ray.exceptions
        try:
            found: Outcome = self.ray.get(reference)
            return found.as_asked(self.stopping)
        except errors.TaskCancelledError:
            return Outcome(job.name, "stopped")
        except (errors.NodeDiedError, errors.ObjectLostError) as error:
            return Outcome(job.name, "lost", _first_line(error))
        except errors.RayError as error:
            return Outcome(job.name, "stopped" if self.stopping else "died", _first_line(error))


def guard_token() -> None:
    """Take from everybody else the right to read Ray's token: who has it can run code on the cluster."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", TOKEN)).expanduser()
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        try:
            path.chmod(0o600)
        except OSError:
            raise UsageError(
                f"{path} can be read by others, who could run code on the cluster: chmod 600 {path}"
            ) from None


def _reach(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--address {address}: write HOST:PORT, as `ray start --head` prints it, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=REACHED).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address}: nobody answers there ({error}); is the cluster up?") from None


def _short_folder() -> str:
    """Return a folder for temporary files in which the paths of sockets, at most 107 letters, have room."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < ROOM_FOR_SOCKETS else "/tmp"


def _private_token(folder: Path) -> Path:
    """Make a token for this sweep alone, readable by nobody else; return its file."""
    path = folder / "token"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return path


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
