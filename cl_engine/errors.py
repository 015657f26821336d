"""The two ways a run is refused or ends early, each carrying one sentence for the person at the terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """Something asked for cannot be done; the message says what was found, where, and what is allowed.

    The command line prints it and exits with code 2, before the first step is taken.
    """


class RunFailed(Exception):
    """A run that had begun cannot go on; what was measured so far stays in its log (exit code 1)."""


def unknown(kind: str, found: str, allowed: Iterable[str]) -> UsageError:
    """Return the error for a name that does not exist, with the names that do and the nearest of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(found, names, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return UsageError(f"no {kind} named '{found}'{hint}; there are: {', '.join(names) or 'none'}")
