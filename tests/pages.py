"""Blocks of code in the pages, and their commands, as a reader would run them from a folder."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").glob("*.md")], key=str)
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
BEYOND = {"|", "||", "&", "&&", ";", ">", ">>", "<"}  # where one command ends


@dataclass(frozen=True)
class Block:
    """A block of code in a page.

    Attributes:
        page: the page.
        language: what stands behind the three marks.
        text: the code, without the indentation of the block.
    """

    page: Path
    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that the block is, as its first line says: ``# mine.py``; else nothing."""
        found = re.match(r"# ([\w./-]+\.(?:py|toml))\n", self.text)
        return found[1] if found else ""


def named(page: Path) -> str:
    """Return a page's place in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page in these languages, or all, in their order."""
    found = [
        Block(page, language, textwrap.dedent(text))
        for _, language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]
    return [block for block in found if not languages or block.language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the commands of a block of shell as words, without comments, assignments in front and what follows a pipe."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        words.whitespace_split, words.commenters = True, "#"
        command: list[str] = []
        into_a_file = False
        for word in [*words, ";"]:
            if word not in BEYOND:
                if not into_a_file:
                    command.append(word)
                continue
            into_a_file = word in (">", ">>", "<")
            if into_a_file:
                continue
            while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
                command = command[1:]
            if command:
                yield command
            command = []
