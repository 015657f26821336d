"""Values that several commands take, and the command as it was typed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cl_engine.runs.scenario import Scenario


class _Folder(click.Path):
    """A folder, there or not yet, of a name that the system takes."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            Path(value).exists()
        except (OSError, ValueError) as error:  # a name that is too long, say
            self.fail(f"'{str(value)[:40]}…' cannot be a folder: {getattr(error, 'strerror', error)}", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Folder()
ACCEPT = "Go on although data, weights or code are not those that the run was begun with; the log says from where on."


def seeds(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Return the seeds that ``5`` (a number of them), ``0,3,7`` or ``7,`` (lists) names; None where nothing was typed."""
    if value is None or ctx.resilient_parsing:  # a shell that completes has no time for it
        return None
    from cl_engine.runs.seeds import MOST_SEEDS

    try:
        numbers = [int(part) for part in value.removesuffix(",").split(",")]
    except ValueError:
        raise click.BadParameter(
            f"'{value}' is neither a number of seeds (5) nor a list of them (0,3,7; of one: 7,)"
        ) from None
    if "," not in value:
        if not 1 <= numbers[0] <= MOST_SEEDS:
            raise click.BadParameter(f"there must be at least one seed, and at most {MOST_SEEDS}; found {value}")
        numbers = list(range(numbers[0]))
    return tuple(numbers)


def one_strategy(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> str | None:
    """Return the strategy that was named; a flag that is given twice would count the last time alone, and nobody would know.

    Raises:
        UsageError: if several are named.
    """
    if len(value) > 1 and not ctx.resilient_parsing:
        from cl_engine.errors import UsageError

        named = " and ".join(f"-s {name}" for name in value)
        raise UsageError(f"{named}: `{ctx.info_name}` takes one strategy; `sweep` takes several")
    return value[-1] if value else None


def settings(texts: Sequence[str], strategy: str, scenario: Scenario | None = None) -> dict[str, Any]:
    """Return the options that ``--set`` gives a run, by the keys that `Experiment.of` takes; the rule is that of sweeps.

    Raises:
        UsageError: for what is not written as ``KEY=VALUE``, several values or a range, a key that there is not, and one that is
            given twice.
    """
    from cl_engine.errors import UsageError
    from cl_engine.sweep.axes import assigned
    from cl_engine.sweep.combinations import own

    found: dict[str, Any] = {}
    said: dict[str, str] = {}
    for text in texts:
        key, values = assigned(text, several=False)
        if not isinstance(values, list) or len(values) > 1:
            what = f"these are {len(values)}" if isinstance(values, list) else "this is a range"
            raise UsageError(
                f"--set {text}: a run takes one value of each option, and {what}; `sweep` tries several, and a value with "
                "commas of its own stands in brackets or quotes"
            )
        for name, value in own({key: values[0]}, strategy, [strategy], scenario).items():
            if name in found:
                raise UsageError(f"--set {said[name]} and --set {text}: both set {name}; give it once")
            found[name], said[name] = value, text
    return found


def program() -> str:
    """Return what the program is called by: ``python run.py``, ``./run.py``, ``cl-engine`` or ``python -m cl_engine``."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return "python -m cl_engine"
    if called.endswith(".py"):
        return called if called.startswith("./") and os.access(called, os.X_OK) else f"python {shlex.quote(called)}"
    return Path(called).name


def as_called(text: str) -> str:
    """Return a text that names ``python run.py`` with what the program is called by here."""
    known = Path(sys.argv[0]).name in ("__main__.py", "run.py", "cl-engine")
    return text.replace("python run.py", program()) if known else text


def command(without: str | tuple[str, ...] = ()) -> str:
    """Return what was typed, so that it can be typed again, ``without`` some of it."""
    left_out = (without,) if isinstance(without, str) else without
    return " ".join([program(), shlex.join(argument for argument in sys.argv[1:] if argument not in left_out)]).rstrip()
