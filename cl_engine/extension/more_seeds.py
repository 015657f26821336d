"""A run of more seeds, put together from runs of some of them each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from cl_engine.checkpoints.store import saved
from cl_engine.data.stream import Stream
from cl_engine.errors import RunFailed, UsageError
from cl_engine.extension.joined_state import joined_ledgers, joined_state
from cl_engine.extension.log_parts import Part, fill
from cl_engine.extension.logs import up_to_date
from cl_engine.extension.longer import of_run
from cl_engine.extension.trial import tried
from cl_engine.loggers.recorder import Recorder
from cl_engine.results.joined_rows import NotAlike
from cl_engine.results.run import Run
from cl_engine.runs.run_folder import RunFolder
from cl_engine.strategy import Strategy


@dataclass(frozen=True)
class MoreSeeds:
    """What a run begins with that has the seeds of several finished ones: called by `cl_engine.experiment.Experiment.run`.

    >>> MoreSeeds.__name__
    'MoreSeeds'

    Attributes:
        runs: the finished runs, which differ in seeds alone.
        taken: the folders of those that were there before; the others were made for this.
    """

    runs: Sequence[Run]
    taken: Sequence[Path]

    def __call__(self, folder: RunFolder, stream: Stream, strategy: Strategy, record: Callable[..., Recorder]) -> None:
        """Put log and checkpoint into the folder, as a run of all seeds would have them at its end.

        Raises:
            RunFailed: if something was not learned or logged alike, so that no run of all seeds can be made of them.
            UsageError: if the data are not those that the runs have learned.
        """
        seeds = [[int(seed) for seed in run.results["seed"].values] for run in self.runs]
        with ExitStack() as held:
            states = []
            for run in self.runs:
                one = held.enter_context(RunFolder(run.path.parent, run.environment["experiment"]))
                one.material.take_data(folder.material.digests, accept=False)
                one.material.take_code(folder.material.code, accept=False)
                found = saved(one.checkpoint, stream.device) if one.checkpoint.exists() else None
                if found is None:
                    raise UsageError(f"{one.path} holds no checkpoint, so that what was learned cannot be taken over")
                states.append(found)
            try:
                single = all(len(own) == 1 for own in seeds)  # whose states do not tell what all seeds share
                like = (tried(strategy, stream) if single else None) or strategy.start()
                whole = {
                    **states[0],
                    "strategy": joined_state([s["strategy"] for s in states], seeds, strategy.seeds, like),
                    "ledger": joined_ledgers([s["ledger"] for s in states], seeds, strategy.seeds),
                    "experiment": folder.mark,
                }
                whole.pop("midway", None)
                if all("validation" in s for s in states):
                    known = [s["validation"] for s in states]
                    whole["validation"] = joined_ledgers(known, seeds, strategy.seeds)
                self._log(folder, stream, record, seeds, whole)
            except NotAlike as error:
                places = " and ".join(str(run.path.parent) for run in self.runs)
                raise RunFailed(
                    f"the seeds cannot be put together in one log: {error}. They stay runs of their own in {places}, and "
                    "`report`, `show` and `compare` count runs that differ in seeds alone as one method"
                ) from None
            folder.checkpoint.save(whole)

    def _log(
        self,
        folder: RunFolder,
        stream: Stream,
        record: Callable[..., Recorder],
        seeds: Sequence[Sequence[int]],
        state: dict[str, Any],
    ) -> None:
        last = int(state["step"])
        told = [
            of_run(run, own, last) for run, own in zip(self.runs, seeds, strict=True) if run.path.parent in self.taken
        ]
        made = [run for run in self.runs if run.path.parent not in self.taken]
        told += [each for run in made for each in json.loads(run.environment.get("taken_over", "[]"))]
        recorder = record(resume=None, taken_over=json.dumps(told))
        try:
            with ExitStack() as opened:
                files = [opened.enter_context(up_to_date(run, folder.path, last, stream)) for run in self.runs]
                parts = [Part(file, tuple(own)) for file, own in zip(files, seeds, strict=True)]
                with h5py.File(recorder.working, "r+", libver=("v110", "v110")) as log:
                    rows = len(files[0]["results/evaluation"])
                    fill(log, recorder.tables, parts, recorder.seeds, rows, stream)
            recorder.publish("stopped")
        finally:
            recorder.close()
