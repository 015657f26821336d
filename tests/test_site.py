"""The site of the pages: built without a warning, its links lead somewhere, and the tutorial gives what it shows."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

from tests.pages import ROOT

pytest.importorskip("mkdocs", reason='needs the site\'s tools: pip install -e ".[docs]"')


def module_of_docs(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return module_of_docs("site_hooks")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_shows_what_the_tutorial_gave(tmp_path: Path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        check=False,
        cwd=ROOT,
        text=True,
        capture_output=True,
    )
    assert not built.returncode, built.stderr[-3000:]
    tutorial = (tmp_path / "tutorial.html").read_text(encoding="utf-8")
    assert (tmp_path / "tutorial_1.png").exists() and "toprule" in tutorial
    assert "&gt;&gt;&gt;" in re.sub(
        "<[^>]+>", "", (tmp_path / "reference" / "plugins.html").read_text(encoding="utf-8")
    )
    pages = {page for page in tmp_path.rglob("*.html") if page.is_relative_to(tmp_path) and "files" not in page.parts}
    fetched = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)')
    assert not {url for page in pages for url in fetched.findall(page.read_text(encoding="utf-8"))}


def test_links_out_of_the_pages_lead_to_the_repository_or_to_a_copy(hooks: ModuleType):
    text = "[output](../benchmarks/output/masks.txt), [why](../DESIGN.md#fit), [R](analysis.md), `[no](link)`"
    published = hooks.followed(text, "masks.md", "https://forge.example/cl-engine/")
    assert "(https://forge.example/cl-engine/blob/main/benchmarks/output/masks.txt)" in published
    assert published.endswith("[why](design.md#fit), [R](analysis.md), `[no](link)`")
    assert "(files/benchmarks/output/masks.txt)" in hooks.followed(text, "masks.md", None)
    picture = "![ranks](../results/reference/pictures/front-time.png)"
    assert "(files/results/" in hooks.followed(picture, "gallery.md", "https://forge.example/cl-engine/")
    assert hooks.links_out(text, "masks.md") == {"benchmarks/output/masks.txt"}


def test_a_page_of_a_folder_is_linked_from_where_it_stands(hooks: ModuleType):
    assert hooks.followed("[a](../../README.md)", "how-to/net.md", None) == "[a](../index.md)"
    assert hooks.followed("[a](docs/masks.md#log)", "changelog.md", None) == "[a](masks.md#log)"
    assert hooks.followed("[a](tutorial.ipynb)", "index.md", None) == "[a](tutorial.md)"


def test_examples_in_docstrings_become_code_and_nothing_else_does():
    fenced = module_of_docs("site_docstrings").fenced
    assert (
        fenced("Adds.\n\n>>> 1 + 1\n2\n\nArgs:\n    a: one")
        == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nArgs:\n    a: one"
    )
    assert fenced("No example.") == "No example."


@pytest.mark.slow
def test_the_tutorial_runs_and_gives_what_it_shows(tmp_path: Path):
    made = module_of_docs("make_tutorial")
    shown = nbformat.read(made.NOTEBOOK, as_version=4)
    again = made.executed(tmp_path)
    for before, now in zip(shown.cells, again.cells, strict=True):
        assert outputs(before) == outputs(now), "what a cell gives has changed: python docs/make_tutorial.py"


def outputs(cell: Any) -> list[Any]:
    """Return kinds and texts of a cell's outputs, without numbers, which another version of torch rounds otherwise.

    A table with times says in words too what was fastest: of it the kind alone is told.
    """
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {"text/plain": output.get("text", "")})
        text = data["text/plain"] if "image/png" not in data and "toprule" not in data["text/plain"] else ""
        found.append((output.output_type, sorted(data), re.sub(r"[-+\d.]+|nan|\s", "", text, flags=re.IGNORECASE)))
    return found
