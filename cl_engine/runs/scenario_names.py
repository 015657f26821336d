"""Names of the scenarios that come with the program, found without torch: completion in a shell asks for them."""

from __future__ import annotations

from pathlib import Path

CHECKOUT, INSTALLED = Path(__file__).parents[2] / "scenarios", Path(__file__).parents[1] / "scenarios"
FOLDER = (
    INSTALLED if INSTALLED.is_dir() else CHECKOUT
)  # beside an installed package a folder so called may be anybody's


def scenario_names() -> list[str]:
    """Return the names of the scenarios that come with the program."""
    return sorted(path.stem for path in FOLDER.glob("*.toml") if not path.name.startswith("."))
