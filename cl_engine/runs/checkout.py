"""Versions of what a run was made with: of packages, and of this program's checkout."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def package_version(package: str) -> str:
    """Return the version of an installed package, or ``not installed``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """Return the commit of this program's checkout, with a '+' if files were changed since; empty if there is none."""
    return _commit_of(Path(__file__).resolve().parents[2])


@cache  # four processes of git; and what runs was imported before
def _commit_of(checkout: Path) -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != checkout or not git("ls-files", "cl_engine"):
            return ""  # the repository around an installed package is its user's
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
