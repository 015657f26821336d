"""The command `taxonomy`: from a log with transfers to tables, a page, and the scenario of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cl_engine.analysis.report import taxonomy_page
from cl_engine.analysis.report.taxonomy_findings import Findings
from cl_engine.analysis.report.taxonomy_text import KINDS, terminal
from cl_engine.analysis.similarity import held_against, read_matrix
from cl_engine.analysis.taxonomy.affinities import affinities_in
from cl_engine.analysis.taxonomy.policies import planned
from cl_engine.analysis.taxonomy.scenario import scenario_of
from cl_engine.core.files import put
from cl_engine.errors import UsageError, unknown
from cl_engine.results.run import Run, open_run

ENDINGS = (".html", *KINDS)


def told_of_taxonomy(
    path: Path,
    budget: int,
    objective: str = "affinity",
    outcomes: str = "errors",
    order: int | None = None,
    free: Sequence[str] | None = None,
    against: Sequence[str] = (),
    outputs: Sequence[Path] = (),
) -> tuple[str, list[Path]]:
    """Return what is to be said of a run's transfers, and the files that were written: outputs, and the policy's scenario.

    Raises:
        UsageError: if the log holds no transfers, something is asked for that it does not hold, no policy has the budget, or a
            file's ending is none of those there are.
    """
    odd = next((output for output in outputs if output.suffix not in ENDINGS), None)
    if odd is not None:
        raise UsageError(f"-o {odd}: the file must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    run = open_run(path)
    affinities = affinities_in(run, "losses" if outcomes == "losses" else "errors")
    plans = planned(affinities, objective, order, free)
    policy = plans.at(budget)
    candidates = {Path(name).stem: _candidate(name, run, affinities.names) for name in against}
    held = held_against(np.log(affinities.matrix()), candidates, affinities.seeds) if candidates else []
    found = Findings(run.scenario, affinities, plans, policy, candidates, held)
    scenario, written = scenario_of(policy, affinities, run), []
    for output in outputs:
        text = taxonomy_page.written(found, scenario) if output.suffix == ".html" else KINDS[output.suffix](found)
        put(output, text.encode())
        written.append(output)
    if written:
        written.append(written[0].with_suffix(".toml"))
        put(written[-1], scenario.encode())
    return terminal(found), written


def _candidate(name: str, run: Run, tasks: Sequence[str]) -> np.ndarray:
    """Return the matrix of this name: of a file, or of what the run compared."""
    if name.endswith(".csv"):
        return read_matrix(Path(name), tasks)
    from cl_engine.results.transfers import compared_of

    compared = compared_of(run)
    if name not in compared:
        raise unknown("matrix", name, [*compared, "FILE.csv"])
    found: np.ndarray = compared[name]
    return found
