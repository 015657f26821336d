"""A run extended: which runs are made one after the other, and what each of them takes over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cl_engine.core.torch_defaults import torch_defaults
from cl_engine.errors import UsageError
from cl_engine.experiment import Begin, Experiment
from cl_engine.extension.longer import Longer
from cl_engine.extension.more_seeds import MoreSeeds
from cl_engine.extension.prefix import changed, check_options
from cl_engine.learners.saved_strategy import experiment_of
from cl_engine.results.log_file import LOG_NAME
from cl_engine.results.run import Run, open_run
from cl_engine.runs import importing
from cl_engine.runs.data_root import DataRoot, default_data_root
from cl_engine.runs.devices import resolved_device
from cl_engine.runs.material import Material
from cl_engine.runs.metrics import metrics_of
from cl_engine.runs.own_code import code_of
from cl_engine.runs.run_folder import RunFolder

EARLIER, NEW = "earlier_seeds", "new_seeds"  # folders of the runs that a run of more seeds is put together from


@dataclass(frozen=True)
class Step:
    """A run that an extension makes: what is run, where, and what it begins with; ``said`` is a line about it.

    >>> Step.__annotations__["folder"]
    'Path'
    """

    experiment: Experiment
    folder: Path
    begin: Begin | None
    said: str


@dataclass(frozen=True)
class Extension:
    """A run made longer or of more seeds, in a folder of its own; the run that it extends stays as it is.

    >>> from cl_engine.testing import small
    >>> folder = Experiment.of(small.scenario(), "finetune").run(Path("run"), device="cpu")
    >>> extension = Extension.of(Path("run"), {}, seeds=(0, 1))
    >>> extension.after.seeds, next(iter(extension.steps())).folder.name
    ((0, 1), 'new_seeds')

    Attributes:
        run: the run that is extended.
        before: its experiment.
        after: the one that the extended run is of: equal to that of a run made so from the start.
        out: the folder of the extended run.
        data_root: where data are.
    """

    run: Run
    before: Experiment
    after: Experiment
    out: Path
    data_root: Path

    @classmethod
    def of(
        cls,
        path: Path,
        settings: Mapping[str, Any],
        seeds: Sequence[int] | None = None,
        out: Path | None = None,
        data_root: Path | None = None,
    ) -> Extension:
        """Look at a run and at what is to be added to it.

        Args:
            path: its folder or log.
            settings: options by dotted name, as they are to be.
            seeds: all the seeds that there are to be; None: those that there are.
            out: the new folder; left out: beside the run's, by the name that a run made so from the start has.
            data_root: where data are; left out: as for a run.

        Raises:
            UsageError: if there is no such run, nothing is to be added, or something is to be other than it was.
        """
        run = open_run(path)
        before = experiment_of(run)
        wanted = before.seeds if seeds is None else tuple(seeds)
        lost = [seed for seed in before.seeds if seed not in wanted]
        if lost:
            raise UsageError(
                f"--seeds leaves out seed {lost[0]}, which {run.path.parent} has learned: name all that the "
                "extended run is to have"
            )
        wanted = before.seeds if len(wanted) == len(before.seeds) else wanted
        after = experiment_of(run, wanted, settings)
        differing = changed(before.resolved, after.resolved)
        check_options(differing, stopped=False)
        if not differing and wanted == before.seeds:
            goes_on = "" if run.status == "finished" else "; it is not finished, and its own command goes on with it"
            raise UsageError(
                f"nothing is to be added to {run.path.parent}{goes_on}: say what, as --set stream.n=20 or --seeds 5"
            )
        beside = run.path.parent.resolve().parent if out is None else None
        found = out if beside is None else beside / after.folder.name
        if found is None or found.resolve() == run.path.parent.resolve():
            raise UsageError(f"-o {out}: that is the folder of the run itself; give another")
        if (found / LOG_NAME).exists() and open_run(found).environment.get("experiment") != after.json:
            raise UsageError(f"{_shown(found)} holds another run than the extended one: give another -o, or remove it")
        return cls(run, before, after, _shown(found), data_root or default_data_root())

    def steps(self, device: str = "auto") -> Iterator[Step]:
        """Yield the runs to be made, each when those before are finished.

        Raises:
            UsageError: before the first of them, if what new seeds are to be put beside cannot be taken over.
        """
        new = tuple(seed for seed in self.after.seeds if seed not in self.before.seeds)
        same = replace(self.after, seeds=self.before.seeds)
        longer = Longer(self.run, self.before, same, DataRoot(self.data_root))
        there = (self.out / LOG_NAME).exists() and open_run(self.out).status == "finished"
        if not new or there:
            said = "" if there else f"taking over what {self.run.path.parent} has learned"
            yield Step(self.after, self.out, longer, said)
            return
        earlier = self.run.path.parent
        begun = RunFolder(self.out / EARLIER, "").may_go_on  # with all that was to be taken over
        if not begun:
            self.checked(device)  # else the new seeds would be learned before their neighbours are looked at
        if changed(self.before.resolved, same.resolved) or self.run.status != "finished":
            earlier = self.out / EARLIER
            said = f"{_listed(self.before.seeds)}: taking over what {self.run.path.parent} has learned"
            yield Step(same, earlier, longer, said)
        added = self.out / NEW
        yield Step(replace(self.after, seeds=new), added, None, f"{_listed(new)}: learning")
        runs = [open_run(folder) for folder in (earlier, added)]
        yield Step(self.after, self.out, MoreSeeds(runs, [self.run.path.parent]), "the seeds are put together")

    @torch_defaults()
    def checked(self, device: str = "auto") -> list[tuple[str, str]]:
        """Return what would be taken over, made up for and learned, in pairs of a word and a text; nothing is written.

        Raises:
            UsageError: if something cannot be taken over, as far as it can be told beforehand.
        """
        new = tuple(seed for seed in self.after.seeds if seed not in self.before.seeds)
        same = replace(self.after, seeds=self.before.seeds)
        sources, material = DataRoot(self.data_root), Material(self.out, None)
        with importing.noting() as modules:
            stream = same.stream(resolved_device(device), sources)
            backbone = same.backbone(stream, sources)
            strategy = same.build_strategy(stream, backbone)
            metrics_of(same.agenda.metrics, stream)
        material.take_data(same.digests(sources, stream, backbone), accept=False)
        material.take_code(code_of(modules.values()), accept=False)
        longer = Longer(self.run, self.before, same, sources)
        last, agreed = longer.checked(stream, strategy, material)
        known = _listed(self.before.seeds)
        said = [("taken over", f"{known}: {last + 1} experiences, from {self.run.path.parent}")]
        if agreed.untrained:
            said.append(("tested", f"the untrained learner on {len(agreed.untrained)} more tasks"))
        if agreed.again is not None:
            tasks = f"{len(agreed.again.task_ids)} tasks"
            said.append(("tested", f"once more after experience {last}, now on {tasks}"))
        left = "without end" if stream.n_steps is None else f"to {stream.n_steps - 1}"
        if stream.n_steps is None or stream.n_steps > last + 1:
            said.append(("learned", f"{known}: experiences {last + 1} {left}"))
        if new:
            said.append(("learned", f"{_listed(new)}: experiences 0 {left}"))
        return [*said, ("folder", str(self.out))]

    def clear(self) -> None:
        """Remove the runs that the extended one was put together from, as it has all of them."""
        for name in (EARLIER, NEW):
            shutil.rmtree(self.out / name, ignore_errors=True)


def _listed(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _shown(folder: Path) -> Path:
    """Return a folder relative to the current one where it is below it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_absolute() and folder.is_relative_to(here) else folder
