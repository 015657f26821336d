"""What a run learns from and with, beside its options: data, weights, and code that is not the engine's own; known again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_engine.data.digest import Digest, difference
from cl_engine.errors import UsageError
from cl_engine.results.code import Change, Code, changes_in, code_difference, code_in
from cl_engine.results.log_file import LOG_NAME
from cl_engine.results.run import Run
from cl_engine.runs.own_code import fingerprint

LOG = logging.getLogger("cl_engine")


class Material:
    """The data, weights and code of a run, held against those that its log says it was begun with.

    >>> material = Material(Path("run"), None)
    >>> material.take_data({"source 'digits'": {"checksum": "1"}}, accept=False)
    >>> material.take_code({}, accept=False)
    >>> material.texts["code"]
    '{}'

    Args:
        path: the run's folder.
        begun: the run in it that is to be gone on with; None: there is none.
    """

    def __init__(self, path: Path, begun: Run | None) -> None:
        self.path, self._begun = path, begun
        self.digests: dict[str, Digest] = {}
        self.code: Code = {}
        self._then_digests, self._then_code = self._known_digests(), None if begun is None else code_in(begun)
        self.changes: list[Change] = [] if begun is None else changes_in(begun)
        self._news: list[str] = []

    def take_data(self, digests: dict[str, Digest], accept: bool) -> None:
        """Take note of the digests of data and weights, by where they are from.

        Raises:
            UsageError: if the run has learned from others, and that is not to be accepted. One from before logs had digests
                goes on.
        """
        self.digests = digests
        self._take(difference(self._then_digests, digests), accept)

    def take_code(self, code: Code, accept: bool) -> None:
        """Take note of the code that is not the engine's own.

        Raises:
            UsageError: if the run has learned with other code, and that is not to be accepted. One from before logs had code
                goes on.
        """
        self.code = code
        self._take("" if self._then_code is None else code_difference(self._then_code, code), accept)

    def _take(self, changed: str, accept: bool) -> None:
        if not changed:
            return
        if not accept:
            raise UsageError(
                f"{changed}: these are not what the run in {self.path} has learned from; put that back to go on, go on with "
                "--accept-changes, which the log then says, or start over with --fresh, or with another --out"
            )
        LOG.warning("going on although %s", changed)
        self._news.append(changed)

    def go_on(self, step: int) -> dict[str, str]:
        """Return the texts of the log that change as the run goes on from experience ``step``; none: nothing has changed."""
        before = list(self.changes)
        # after a damaged checkpoint the run may go on from before a change
        self.changes = [Change(min(each.step, step), each.what, each.digests, each.code) for each in self.changes]
        if self._news:
            self.changes.append(Change(step, "; ".join(self._news), self._then_digests, self._then_code or {}))
        if self.changes == before:
            return {}
        said = {**self.texts, "changes": json.dumps([vars(each) for each in self.changes])}
        return said if self._then_code is not None else {key: text for key, text in said.items() if key != "code"}

    @property
    def texts(self) -> dict[str, str]:
        """What the log of a run says of them."""
        return {"digests": json.dumps(self.digests), "code": json.dumps(self.code)}

    def mark(self, experiment: str) -> str:
        """Return what a checkpoint says that it is of: the experiment and, behind points, its data and weights, and its code."""
        unknown = self._begun is not None and self._then_code is None  # the log is from before logs had code
        return _mark(experiment, self.digests, {} if unknown else self.code)

    def is_of(self, marked: str, experiment: str) -> bool:
        """Return whether a checkpoint that is marked so is of this run, from before a change that it went on after or since."""
        known = [self.mark(experiment), *(_mark(experiment, each.digests, each.code) for each in self.changes)]
        if self._begun is not None and self._news:
            known.append(_mark(experiment, self._then_digests, self._then_code or {}))
        parts = marked.split(".")  # the second and the third were not always there
        return any(parts == each.split(".")[: len(parts)] for each in known)

    def _known_digests(self) -> dict[str, dict[str, Any]]:
        if self._begun is None:
            return {}
        try:
            found = json.loads(self._begun.environment.get("digests", "{}"))
            return {name: dict(told) for name, told in found.items()}
        except (ValueError, TypeError, AttributeError):
            raise UsageError(
                f"{self.path / LOG_NAME} is not a whole log: environment/digests is not as written"
            ) from None


def _mark(experiment: str, digests: Mapping[str, Mapping[str, Any]], code: Code) -> str:
    parts = [experiment, json.dumps(digests, sort_keys=True)]
    parts += [json.dumps(fingerprint(code), sort_keys=True)] if code else []
    return ".".join(hashlib.sha256(part.encode()).hexdigest()[:16] for part in parts)
