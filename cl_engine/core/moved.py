"""Old names of modules that moved into rooms, so that imports written before still work."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "agenda": "engine.agenda",
    "allocator": "runs.process_memory",
    "analysis.asked_for": "core.files",
    "analysis.cases": "analysis.scores.groups",
    "analysis.comparing": "analysis.comparison.command",
    "analysis.comparison_pictures": "analysis.comparison.plots",
    "analysis.comparison_section": "analysis.report.comparison_section",
    "analysis.comparison_tables": "analysis.comparison.tables",
    "analysis.composition": "analysis.plots.modules",
    "analysis.drawing": "analysis.plots.axes",
    "analysis.found": "analysis.discovery",
    "analysis.further_scores": "analysis.scores.log_scores",
    "analysis.gallery": "analysis.plots.gallery",
    "analysis.inside": "analysis.plots.strategy_events",
    "analysis.matrices": "analysis.plots.matrices",
    "analysis.measures": "analysis.scores.measures",
    "analysis.moment": "analysis.live.snapshot",
    "analysis.one_run": "analysis.plots.one_run",
    "analysis.pictures": "analysis.plots.across_runs",
    "analysis.remarks": "analysis.report.remarks",
    "analysis.score_table": "analysis.report.tables",
    "analysis.statistics": "analysis.scores.statistics",
    "analysis.style": "analysis.plots.style",
    "analysis.svg": "analysis.plots.svg",
    "analysis.terminal": "analysis.report.terminal",
    "analysis.watch": "analysis.live.watch",
    "architecture": "nn.architecture",
    "audit": "results.audit",
    "augmentation": "data.augmentation",
    "backbone": "training.pretraining",
    "bank": "core.bank",
    "best": "training.early_stopping",
    "blocks": "checkpoints.blocks",
    "checkpoint": "checkpoints.file",
    "checkpoint_store": "checkpoints.store",
    "cifar_files": "data.cifar",
    "console": "loggers.console",
    "crew": "training.workers",
    "data_root": "runs.data_root",
    "determinism": "runs.determinism",
    "disk": "core.files",
    "examiner": "engine.evaluator",
    "exhaustion": "runs.resource_errors",
    "fit": "training.fit",
    "fit_journal": "training.fit_progress",
    "flops": "nn.flops",
    "formats": "core.text",
    "frozen_features": "nn.feature_cache",
    "graphs": "training.cuda_graphs",
    "heads": "nn.task_heads",
    "idx_files": "data.idx",
    "image_files": "data.image_files",
    "images": "nn.memory_format",
    "interop.aside": "interop.threaded_generator",
    "interop.guest": "interop.avalanche_adapter",
    "interop.learner": "interop.avalanche_strategy",
    "interop.quiet": "interop.lazy_import",
    "interop.spy": "interop.callbacks",
    "job": "training.fit_job",
    "learner": "training.seed_group",
    "ledger": "metrics.running",
    "lifelong": "metrics.lifelong",
    "linear": "nn.fast_linear",
    "log_file": "results.log_file",
    "log_journal": "loggers.journal",
    "log_matrix": "loggers.matrix",
    "log_tables": "loggers.tables",
    "many_runs": "results.dataset",
    "masks.patches": "adapters.patches",
    "masks.told": "masks.events",
    "memory": "core.state",
    "mnist1d_files": "data.mnist1d",
    "module_head": "nn.head",
    "module_mode": "nn.mode",
    "modules.adapters": "adapters.bottleneck",
    "modules.candidate_fit": "training.candidate_fit",
    "modules.division": "nn.division",
    "modules.film": "adapters.film",
    "modules.modulation": "adapters.modulation",
    "modules.told": "modules.events",
    "net": "nn.net",
    "on_disk": "results.lazy_arrays",
    "optimizers": "training.optimizers",
    "plugins": "runs.plugins",
    "pretrained": "nn.weights",
    "proxies": "modules.transferability",
    "recall.told": "recall.events",
    "recorder": "loggers.recorder",
    "rehearsal": "training.rehearsal",
    "rng": "core.rng",
    "run_folder": "runs.run_folder",
    "saves": "engine.checkpointer",
    "scenario": "runs.scenario",
    "session": "cli.terminal",
    "source_stream": "data.source_stream",
    "stability": "metrics.stability",
    "stopped_seeds": "engine.stopped_seeds",
    "stopping": "runs.signals",
    "stream": "data.stream",
    "sweep.commands": "cli.sweep",
    "sweep.place": "sweep.backend",
    "sweep.request": "sweep.config",
    "sweep.session": "sweep.sweep",
    "sweep.slot": "sweep.worker",
    "sweep.tally": "sweep.status",
    "sweep.work": "sweep.run_job",
    "torchvision_files": "data.torchvision",
    "tree": "core.tree",
    "typed": "cli.arguments",
}
# names within them that have changed since
RENAMED = {
    "best": {"Best": "EarlyStopping"},
    "crew": {"Crew": "WorkerPool"},
    "examiner": {"Answered": "TestResult", "Examiner": "Evaluator"},
    "fit_journal": {"FitJournal": "FitProgress"},
    "interop.spy": {"Going": "TrainingProgress", "PassEnded": "EpochDone", "Reached": "ProbePoint"},
    "job": {"Job": "FitJob", "Midway": "TrainingProbe"},
    "learner": {"Learner": "SeedGroup"},
    "ledger": {"Known": "ScoreCache"},
    "log_file": {"LOG": "LOG_NAME"},
    "modules.adapters": {"Adapters": "Bottleneck"},
    "proxies": {"promise": "transferability_score"},
    "saves": {"Saves": "Checkpointer"},
    "sweep.place": {"Heard": "JobProgress", "Place": "Backend"},
    "sweep.tally": {"Tally": "Status"},
    "sweep.work": {"work": "run_job"},
    "tree": {"built": "unflatten", "leaves": "leaves_with_path", "mapped": "tree_map", "named": "flatten"},
}


class MovedModules(MetaPathFinder, Loader):
    """Finds a module of `MOVED` under its old name: it is the same module, and a `DeprecationWarning` says where it is now.

    >>> MovedModules().find_spec("cl_engine.bank").name
    'cl_engine.bank'
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the old name of a module that moved; None for every other name."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "cl_engine" and name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module that the old name stands for in the place of the one that is being made."""
        name = module.__name__
        now = f"cl_engine.{MOVED[name.partition('.')[2]]}"
        warnings.warn(f"{name} is now {now}", DeprecationWarning, stacklevel=2)
        sys.modules[name] = moved = importlib.import_module(now)
        for old, new in RENAMED.get(name.partition(".")[2], {}).items():
            setattr(moved, old, getattr(moved, new))


def find_moved_modules() -> None:
    """Let the import system find modules under the names of `MOVED`, after all else has been asked; once is enough."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
