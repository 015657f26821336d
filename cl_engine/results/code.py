"""Code that a log says it was made with: reading it, and telling it from other code."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl_engine.core.text import encodable
from cl_engine.errors import UsageError
from cl_engine.results.run import Run

Code = dict[str, dict[str, str]]  # by module: "file", "sha256", "text", and "package" of what is installed
LARGEST = 4 * 2**20  # bytes of a file that is looked at again
SHOWN = 60  # most letters of a line that is shown in a sentence


@dataclass(frozen=True)
class Change:
    """A change of data, weights or code that a run went on after, as it was asked to (``--accept-changes``).

    >>> Change(3, "source 'birds': checksum 1 then, 2 now").step
    3

    Attributes:
        step: the experience from which on the run learned with what had changed.
        what: a sentence that names it and how it differs.
        digests: digests of the data and weights before, by where they are from.
        code: the code before.
    """

    step: int
    what: str
    digests: dict[str, dict[str, Any]] = field(default_factory=dict)
    code: Code = field(default_factory=dict)


def code_in(run: Run) -> Code | None:
    """Return the code that is not the engine's own with which a run was made last; None: its log is older than that.

    Raises:
        UsageError: if the log does not say it as it is written.
    """
    text = run.environment.get("code")
    return None if text is None else _code(_read(run, "code", text), run, "code")


def changes_in(run: Run) -> list[Change]:
    """Return the changes that a run went on after, in their order.

    Raises:
        UsageError: if the log does not say them as they are written.
    """
    found = _read(run, "changes", run.environment.get("changes", "[]"))
    try:
        return [
            Change(
                int(each["step"]),
                str(each["what"]),
                {str(name): dict(told) for name, told in each["digests"].items()},
                _code(each["code"], run, "changes"),
            )
            for each in found
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _odd(run, "changes") from None


def code_difference(then: Code, now: Code) -> str:
    """Return in words how code differs, naming the first file and line; empty: it does not."""
    for name in sorted(then.keys() | now.keys()):
        before, after = then.get(name), now.get(name)
        if before is None or after is None:
            here = after or before or {}
            said = "is imported now, and was not then" if before is None else "was imported then, and is not now"
            return f"{here['file']} ({name}) {said}"
        packages = before.get("package", ""), after.get("package", "")
        if packages[0] != packages[1]:
            return (
                f"{name} is from {packages[1] or after['file']} now, and was from {packages[0] or before['file']} then"
            )
        if before["sha256"] != after["sha256"]:
            return f"{after['file']} has changed: {lines_that_differ(before['text'], after['text'])}"
    return ""


def lines_that_differ(before: str, after: str) -> str:
    """Return how many lines of a text are others, and the first of them.

    >>> lines_that_differ("a = 1\\n", "a = 2\\n")
    'line 1 was `a = 1`, is `a = 2` (1 line then, 1 now)'
    """
    then, now = before.splitlines(), after.splitlines()
    changed = [op for op in difflib.SequenceMatcher(None, then, now, autojunk=False).get_opcodes() if op[0] != "equal"]
    if not changed:
        return "its bytes are others"  # as ends of lines
    _, i, i_end, j, j_end = changed[0]
    was, is_ = (
        f"`{_short(lines[k])}`" if k < end else "not there" for lines, k, end in ((then, i, i_end), (now, j, j_end))
    )
    counts = sum(op[2] - op[1] for op in changed), sum(op[4] - op[3] for op in changed)
    some = f"{counts[0]} line{'s' if counts[0] != 1 else ''}"
    return f"line {min(i, j) + 1 if i_end > i else j + 1} was {was}, is {is_} ({some} then, {counts[1]} now)"


def code_changed_since(run: Run) -> list[str]:
    """Return the files of a run's code that stand where they stood and have another text now.

    Nothing is imported. Of a log that does not say its code, or from another machine, that is none.
    """
    try:
        known = code_in(run) or {}
    except UsageError:
        return []
    return [each["file"] for each in known.values() if "package" not in each and _is_other(each)]


def _is_other(told: Mapping[str, str]) -> bool:
    path = Path(told["file"])
    try:  # the name is from a log, which may be anybody's: only a plain file of Python is looked at, and nothing of it told
        if path.suffix != ".py" or not path.is_file() or path.stat().st_size > LARGEST:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() != told["sha256"]
    except (OSError, ValueError):
        return False


def as_text(content: bytes) -> str:
    """Return a file's content as text that a log can hold."""
    return encodable(content.decode(errors="surrogateescape"))


def _read(run: Run, name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _odd(run, name) from None


def _code(found: Any, run: Run, name: str) -> Code:
    parts = ("file", "sha256", "text")
    try:
        code = {str(module): {str(key): str(value) for key, value in told.items()} for module, told in found.items()}
        if all(part in told for told in code.values() for part in parts):
            return code
    except AttributeError:
        pass
    raise _odd(run, name)


def _odd(run: Run, name: str) -> UsageError:
    return UsageError(f"{run.path} is not a whole log: environment/{name} is not as written")


def _short(line: str) -> str:
    line = line.strip()
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
