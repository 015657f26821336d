"""Sentences on the code that runs were made with: what has changed while they went on, and since."""

from __future__ import annotations

from collections.abc import Iterator

from cl_engine.analysis.names import one_line
from cl_engine.errors import UsageError
from cl_engine.results.code import changes_in, code_changed_since
from cl_engine.results.run import Run


def code_remarks(run: Run) -> Iterator[str]:
    """Yield sentences on a run: data, weights or code that changed while it went on, and files of code that are others now."""
    try:
        for change in changes_in(run):
            yield f"from experience {change.step} on, as accepted: {one_line(change.what)}"
    except UsageError as error:
        yield one_line(str(error))
    for file in code_changed_since(run):
        yield f"{one_line(file)} has changed since: these are the numbers of its old text (`show --code` prints it)"
