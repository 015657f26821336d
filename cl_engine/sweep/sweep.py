"""Sweeps with a person at the terminal: from what was typed to the table and the report at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cl_engine.analysis.discovery import find_runs
from cl_engine.errors import RunFailed, UsageError
from cl_engine.sweep.axes import axes_of, covering
from cl_engine.sweep.backend import Backend
from cl_engine.sweep.capacity import Slots, needed_memory, slots
from cl_engine.sweep.combinations import cells, check_keys, expanded
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.driver import Driver
from cl_engine.sweep.folder import SweepFolder
from cl_engine.sweep.local import Local
from cl_engine.sweep.search import points
from cl_engine.sweep.status import Status
from cl_engine.sweep.view import View, print_needs, print_status

WORTH_MEASURING = 4  # runs of a kind, from which on what one of them takes is measured first
REPORTED = 60  # most runs in a report, the best; references are there in any case


class Sweep:
    """A sweep: its options, its folder, and the backend it runs on.

    >>> from cl_engine.sweep.config import SweepOptions
    >>> options = SweepOptions(scenarios=["permuted_digits"], strategies=["replay"])
    >>> sweep = Sweep(options, Path("sweep"), device="cpu", quiet=True)  # sweep.run() runs it

    Args:
        options: what to run.
        out: the sweep's folder; each run has a folder of its own in it.
        on: ``local`` or ``ray``.
        address: of a Ray cluster; None: Ray on this machine alone.
        device: where runs run.
        data_root: where their sources look for files.
        quiet: show nothing until the end.
        command: what was typed, for the logs.
        accept_changes: go on with runs whose data, weights or code are others now.

    Raises:
        UsageError: before anything runs, naming all that is wrong with any of the runs.
    """

    def __init__(
        self,
        options: SweepOptions,
        out: Path,
        *,
        on: str = "local",
        address: str | None = None,
        device: str = "auto",
        data_root: Path | None = None,
        quiet: bool = False,
        command: str = "",
        accept_changes: bool = False,
    ) -> None:
        self.options, self.folder, self.on, self.address = options, SweepFolder(out), on, address
        self.device, self.data_root, self.quiet, self.command = device, data_root, quiet, command
        self.accept_changes = accept_changes
        self.axes = axes_of(options.set)
        check_keys(self.axes, options.strategies)
        self.adaptive = options.search == "optuna"
        # of an adaptive search, a few points stand for all: they show what is wrong with any value, and the first of
        # them, where ranges are at their upper ends, is what is measured
        some = covering(self.axes) if self.adaptive else points(options, self.axes)
        self.runs = expanded(options, some)
        self._check_objective()
        self._check_cuts()

    def run(self, retry_failed: bool = False) -> Status:
        """Run the sweep, or go on with it; return how it stands at the end.

        Raises:
            Stopped: if it was asked to stop; the same call goes on.
        """
        with self.folder:
            if retry_failed or self.accept_changes:  # what was refused for a change is as final as what has failed
                self._pardon()
            return self._driven(lambda driver: driver.drive())

    def check(self) -> Slots:
        """Measure what one run of each kind would take, and print it; nothing is run. Returns what runs at a time.

        Raises:
            UsageError: naming the kinds that cannot be run, and why.
        """
        with self.folder:
            tally = self._driven(lambda driver: driver.tally, measuring=True)
        limit = slots(self.options.resources, self.device, tally.needs)
        kinds = Counter(f"{cell.scenario.name}-{cell.strategy}" for cell in cells(self.options))
        counts = {kind: count * self.options.trials for kind, count in kinds.items()}
        if not self.adaptive:
            counts = Counter(each.kind for each in self.runs)
        print_needs(counts, tally.needs, self.options.resources.threads, limit.count, limit.why)
        if tally.refused:
            raise UsageError("; ".join(f"{kind} cannot be run: {why}" for kind, why in tally.refused.items()))
        return limit

    def _check_objective(self) -> None:
        """Refuse to choose by a score that is not measured, or not on the same rows in every trial of a study."""
        objective, rows = self.options.objective, self.options.objective_on
        if rows is not None and not self.options.of_rows:
            raise UsageError(
                f"objective_on: {rows} was asked for, and {objective} is measured on no rows: leave it out"
            )
        if rows == "validation" and objective == "fwt":
            raise UsageError(
                "objective_on: fwt is measured on test rows alone, as it asks for tasks not yet met; choose another objective, "
                "or objective_on = 'test'"
            )
        odd = next((key for key in ("stream.validation", "agenda.validation") if key in self.axes), None)
        if self.adaptive and odd and self.options.of_rows and rows != "test":
            raise UsageError(
                f"set.{odd}: with it trials would be scored on other rows than those before, and optuna compares them all: "
                "fix it, or choose on test rows (objective_on = 'test')"
            )
        for run in self.runs:
            stream, agenda = run.experiment.resolved["stream"], run.experiment.agenda
            if rows == "validation" and (stream.get("validation") == 0 or not agenda.validation):
                which = "stream.validation is 0" if agenda.validation else "agenda.validation is false"
                raise UsageError(
                    f"objective_on: choices are to go by validation rows, and {which} in {run.kind}: set rows aside "
                    "(stream.validation = 0.1), or choose on test rows"
                )
            if objective == "fwt" and not run.experiment.agenda.evaluate_ahead:
                raise UsageError(
                    f"objective: fwt is measured only where tasks are tested before they are learned, and "
                    f"agenda.evaluate_ahead is 0 in {run.kind}: set it to 1, or choose another objective"
                )

    def _check_cuts(self) -> None:
        halving = self.options.halving
        for run in self.runs if halving else ():
            every = run.experiment.agenda.evaluate_every
            if halving and not 0 < every <= halving.tasks:
                raise UsageError(
                    f"halving.tasks: after {halving.tasks} experience(s) all tasks must have been tested, and "
                    f"agenda.evaluate_every is {every} in {run.kind}; cut later, or test more often"
                )
        if halving and halving.tasks == 1 and self.options.objective in ("bwt", "fwt", "forgetting"):
            raise UsageError(
                f"halving.tasks: {self.options.objective} is about earlier tasks, and after 1 experience there is none: cut "
                "after 2 or more"
            )

    def _driven(self, go: Any, measuring: bool = False) -> Status:
        view = View(quiet=self.quiet)
        limit = slots(self.options.resources, self.device, {})
        backend = self._place(limit)
        try:
            driver = Driver(
                self.options,
                self.folder,
                backend,
                view,
                device=self.device.partition(":")[0],  # a process sees its own GPUs alone, whatever their numbers are
                data_root=self.data_root,
                command=self.command,
                accept_changes=self.accept_changes,
            )
            if self.adaptive:
                driver.adapt(self.axes)
            else:
                driver.add(self.runs)
            kinds = {each.kind for each in self.runs}
            if measuring or len(driver.tally.entries) >= WORTH_MEASURING * len(kinds):
                needs = driver.measure(self.runs)
                driver.backend = backend = self._fitted(backend, limit, needs)
            found: Status = go(driver)
            return found
        finally:
            view.close()
            backend.close()

    def _place(self, limit: Slots) -> Backend:
        if self.on == "local":
            return Local(limit.count, self.options.resources.threads, limit.devices)
        from cl_engine.sweep.cluster import Cluster

        return Cluster(self.options.resources, self.address, self.device)

    def _fitted(self, backend: Backend, limit: Slots, needs: dict[str, dict[str, Any]]) -> Backend:
        """Return the place as it is once it is known what a run takes."""
        if not isinstance(backend, Local):
            backend.fit(needed_memory(self.options.resources, needs), needs)  # type: ignore[attr-defined]
            return backend
        better = slots(self.options.resources, self.device, needs)
        if better.devices != limit.devices:
            backend.close()
            return Local(better.count, self.options.resources.threads, better.devices)
        backend.limit(better.count)
        return backend

    def _pardon(self) -> None:
        for name in self.folder.known().values():
            if self.folder.given_up(name, self.options.retries) is not None:
                self.folder.note(name, "pardoned")


def finish(tally: Status, out: Path, report: bool) -> None:
    """Print how a sweep ended, write its report.

    Raises:
        RunFailed: if runs have failed.
    """
    print_status(tally)
    names = tally.done
    if report and names:
        shown = [name for rank, name in enumerate(names) if rank < REPORTED or tally.entries[name].reference]
        if len(names) > len(shown):
            click.echo(f"the report shows the {REPORTED} best of {len(names)} runs, and references", err=True)
        click.echo(f"report: {written(shown, out, tally.warning)}")
    click.echo(f"logs:   {out}/*/log.h5")
    if tally.failed:
        raise RunFailed(
            f"{len(tally.failed)} of {len(tally.entries)} runs failed; what they said is in output.txt and "
            "attempts.jsonl in their folders; --retry-failed tries them again"
        )


def written(names: Sequence[str], out: Path, warning: str = "") -> Path:
    """Write the comparison report of runs into the sweep's folder, the warning first; return its path."""
    from cl_engine.analysis.report.page import write_report

    runs, refused = find_runs([out / name for name in names])
    return write_report(runs, out / "report.html", refused, [warning] if warning else [])
