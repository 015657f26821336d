"""Options of a sweep: a TOML file, or the same as flags."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import METRICS
from cl_engine.options import STRICT, checked, option
from cl_engine.runs.seeds import MOST_SEEDS

Objective = Literal["acc", "bwt", "fwt", "forgetting", "memory", "seconds"]
Rows = Literal["validation", "test"]
# what is said wherever a choice is named: the best of many on test rows is too high, by what chance gives
CHOSEN_ON = {"validation": "chosen on validation rows", "test": "chosen on test rows", None: ""}


class HalvingOptions(BaseModel):
    """The table ``[halving]``: successive halving over tasks (Jamieson & Talwalkar 2016).

    >>> HalvingOptions(factor=4).factor
    4
    """

    model_config = STRICT
    tasks: int = option(
        2, "experiences learned before the first cut; each further cut comes `factor` times later", ge=1
    )
    factor: int = option(3, "one run in this many continues after a cut", ge=2)


class ResourceOptions(BaseModel):
    """The table ``[resources]``: what one run takes, and how many run at a time.

    >>> ResourceOptions(threads=2).threads
    2
    """

    model_config = STRICT
    threads: int = option(1, "CPU threads of a run", ge=1, le=1024)
    gpus: float | None = option(
        None, "GPUs of a run, or a share of one; left out: by measured memory, else a whole one", ge=0
    )
    memory: float | None = option(None, "memory of a run in GB; left out: measured on its first experience", gt=0)
    jobs: int | None = option(None, "runs at a time; left out: as many as cores, GPUs and memory allow", ge=1, le=1024)


class SweepOptions(BaseModel):
    """The options of a sweep; a sweep's TOML file has these keys.

    >>> options = SweepOptions(scenarios=["permuted_digits"], strategies=["replay"], set={"lr": [0.1, 0.01]})
    >>> options.objective, options.better
    ('acc', 1)
    """

    model_config = STRICT
    scenarios: list[str] = option(..., "files, or names of `list scenarios`", min_length=1)
    strategies: list[str] = option(..., "names of `list strategies`, or module:Class", min_length=1)
    seeds: int | list[int] = option(1, "how many seeds, or which; they learn side by side in one run")
    spread: bool = option(False, "each seed a run of its own")
    orders: int = option(
        0, "task orders 0 (the stream's own) to k − 1 as an axis: stream.task_order; 0: no such axis", ge=0, le=10**4
    )
    set: dict[str, Any] = option({}, "what is varied: a list of values, or { from, to, log }, by key")
    search: Literal["grid", "random", "optuna"] = option("grid", "all combinations, some at random, or adaptively")
    trials: int = option(
        20,
        "points that random and optuna try, for each scenario, strategy, order, and, if spread, seed",
        ge=1,
        le=10**5,
    )
    search_seed: int = option(0, "seed of what is drawn", ge=0)
    objective: Objective = option("acc", "what halving, optuna and `best so far` go by; a mean over seeds, at the end")
    objective_on: Rows | None = option(
        None, "rows that the objective is measured on: validation or test; left out: validation where there are any"
    )
    reference: bool = option(False, "also run `independent` once for each stream and net, for transfer")
    retries: int = option(2, "how often a run that failed is tried again", ge=0)
    halving: HalvingOptions | None = None
    resources: ResourceOptions = Field(ResourceOptions())

    @model_validator(mode="after")
    def _agrees(self) -> SweepOptions:
        count = len(self.seeds) if isinstance(self.seeds, list) else self.seeds
        if not 1 <= count <= MOST_SEEDS:
            raise ValueError(f"seeds: there may be 1 to {MOST_SEEDS}")
        if self.halving is not None and self.search == "optuna":
            raise ValueError("halving goes with search grid and random, not with optuna")
        return self

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """The seeds of each run."""
        seeds = tuple(self.seeds) if isinstance(self.seeds, list) else tuple(range(self.seeds))
        return [(seed,) for seed in seeds] if self.spread else [seeds]

    @property
    def of_rows(self) -> bool:
        """Whether the objective is a score, and so of rows; memory and seconds are of none."""
        return not METRICS[self.objective].unit

    @property
    def better(self) -> int:
        """1 where more of the objective is better, −1 where less is."""
        return 1 if METRICS[self.objective].higher else -1


def requested(targets: Sequence[str], typed: Mapping[str, Any]) -> SweepOptions:
    """Return what is asked for by a sweep's file, or by scenarios, and by flags, which go before what the file says.

    Args:
        targets: a sweep's file, or scenarios: files, or names of ``list scenarios``.
        typed: flags that were given, by the keys of `SweepOptions`; ``set`` is added to, key by key, as are
            ``resources`` and ``halving``.

    Raises:
        UsageError: naming all that is unknown, of a wrong type, out of bounds or missing.
    """
    file = Path(targets[0]) if len(targets) == 1 and targets[0].endswith(".toml") else None
    if file is not None and not file.is_file():
        raise UsageError(f"there is no file {file}: give a sweep's file, a scenario's, or a name of `list scenarios`")
    tables = _read(file) if file is not None else {}
    where = ""
    if file is None or not ({"scenarios", "strategies"} & tables.keys()):
        tables = {"scenarios": list(targets)}
    else:
        where = str(file)
        if isinstance(tables.get("scenarios"), list):
            tables["scenarios"] = [_beside(file, name) for name in tables["scenarios"]]
    for key, value in typed.items():
        merged = key in ("set", "resources", "halving") and isinstance(tables.get(key, {}), dict)
        tables[key] = {**tables.get(key, {}), **value} if merged else value
    if not tables.get("strategies"):
        raise UsageError('no strategies are named: -s NAME, or strategies = ["NAME", …] in a sweep\'s file')
    try:
        return checked(SweepOptions, tables)
    except UsageError as error:
        raise UsageError(f"{where}: {error}" if where else str(error)) from None


def _beside(file: Path, name: Any) -> Any:
    """Return the path of a scenario that stands beside the sweep's file, or the name as it is."""
    found = isinstance(name, str) and name.endswith(".toml") and (file.parent / name).is_file()
    return str(file.parent / name) if found else name


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise UsageError(f"{file} is not TOML: {error}") from None
