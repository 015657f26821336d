"""Weights & Biases: an offline run for each seed, for `wandb sync`; nothing is sent anywhere."""

from __future__ import annotations

from pathlib import Path

from cl_engine.analysis.names import one_line
from cl_engine.export import scalars
from cl_engine.export.needed import needed
from cl_engine.results.of_measure import taken_apart
from cl_engine.results.run import Run


def export(run: Run, folder: Path) -> None:
    """Write ``wandb/offline-run-…`` into a folder, a run a seed, grouped by strategy: `wandb sync` uploads them.

    Raises:
        UsageError: if wandb is not installed.
    """
    wandb = needed("wandb")
    settings = wandb.Settings(console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True)
    for seed in run.results["seed"].values:
        started = wandb.init(
            mode="offline",
            dir=str(folder),
            project=one_line(run.scenario)[:120] or "cl-engine",
            group=one_line(run.strategy),
            name=f"{one_line(run.strategy)} seed {seed}",
            id=f"{run.attributes['run_id'][:32]}-{seed}",
            config={**run.experiment["options"], "seed": int(seed), "status": run.status},
            settings=settings,
            reinit="create_new",
        )
        try:
            for step, numbers in scalars.over_experiences(run, int(seed)):
                started.log({**numbers, "experiences": step}, step=step)
            parts = taken_apart(run)
            for part in parts:
                if (final := part.final) is not None:
                    of = f"{one_line(part.measures[0].name)}/" if len(parts) > 1 else ""
                    scores = {f"{of}{name}": float(final[name].sel(seed=seed)) for name in ("acc", "bwt", "forgetting")}
                    started.summary.update(scores)
        finally:
            started.finish()
