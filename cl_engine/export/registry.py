"""The export formats there are, and runs written in one of them."""

from __future__ import annotations

import ast
import contextlib
import importlib
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from cl_engine.analysis.names import one_line
from cl_engine.errors import UsageError, unknown
from cl_engine.results.log_file import fault
from cl_engine.results.run import Run

LOG = logging.getLogger("cl_engine")
WITHOUT = {"__init__", "frames", "registry", "needed", "scalars"}  # files here that are no format


def formats() -> dict[str, str]:
    """Return the names of the formats with a line about each, without importing any of them."""
    files = sorted(
        path for path in Path(__file__).parent.glob("*.py") if path.stem not in WITHOUT and path.name[0] != "."
    )
    docs = {
        path.stem.replace("_", "-"): ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in files
    }
    return {name: (doc or "").splitlines()[0] for name, doc in docs.items()}


def exported(runs: Sequence[Run], kind: str, output: Path) -> Iterator[Path]:
    """Write runs in a format, each into a folder of its own below ``output``; yield these folders.

    A run that cannot be written is named in the log of the program, and the others are written.

    Raises:
        UsageError: if there is no such format, a folder is there already, or no run can be written.
    """
    if kind not in formats():
        raise unknown("format", kind, formats())
    module = importlib.import_module(f"cl_engine.export.{kind.replace('-', '_')}")
    done, faults, made = 0, [], not output.exists()
    for run, name in zip(runs, _names(runs), strict=True):
        folder, part = output / name, output / f".{name}.part"
        if folder.exists():
            raise UsageError(f"{folder} is there already: remove it, or give another -o")
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            module.export(run, part)
            part.rename(folder)
        except (OSError, UnicodeEncodeError) as error:  # not every format takes every name of a folder
            faults.append(f"{folder} cannot be written: {getattr(error, 'strerror', None) or error}")
            continue
        except Exception as error:  # of whatever kind: it is of this log, or of all
            faults.append(fault(run.path, error))
            continue
        finally:
            shutil.rmtree(part, ignore_errors=True)
        done += 1
        yield folder
    if faults and not done:
        if made:
            with contextlib.suppress(OSError):
                output.rmdir()
        raise UsageError(faults[0])
    for sentence in faults:
        LOG.warning("left out: %s", sentence)


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a name for the folder of each run, made of letters, digits, hyphens and underscores; no two alike."""
    found: list[str] = []
    for run in runs:
        plain = re.sub(r"[^0-9A-Za-z_-]+", "-", one_line(f"{run.scenario}-{run.strategy}")).strip("-")[:80] or "run"
        name = f"{plain}-{re.sub(r'[^0-9A-Za-z]', '', run.attributes['run_id'])[:8]}"
        found.append(name if name not in found else f"{name}-{len(found)}")
    return found
