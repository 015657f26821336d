"""What the site (mkdocs.yml) does beyond MkDocs: links that leave docs/, pages from elsewhere, the notebook.

Pages link to each other as a forge follows links: relative to the file they stand in. Here each link is resolved against the
repository. What has a page on the site leads to that page; any other file is where the repository is published, or, where
nobody says where that is (``repo_url``), a copy of it.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# page of the site: the file of the repository that it is made of
ELSEWHERE = {
    "design.md": "DESIGN.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "results.md": "results/README.md",
    "comparison.md": "results/reference/comparison.md",
    "tutorial.md": "docs/tutorial.ipynb",
}
PAGE_OF = {file: page for page, file in ELSEWHERE.items()} | {"README.md": "index.md"}
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(?=[)#])")
IN_A_TABLE = re.compile(
    r"\\\|"
)  # a bar in a cell, as forges have to be told; MkDocs shows what is within a code as it is
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere, and copies of files that pages link to."""
    for page, file in ELSEWHERE.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith(".ipynb"):
            text, pictures = notebook_page(json.loads(text), Path(file).stem)
            for name, picture in pictures.items():
                files.append(File.generated(config, name, content=picture))
        files.append(File.generated(config, page, content=text))
    for page in [file for file in files if file.is_documentation_page()]:
        for target in links_out(page.content_string, page.src_uri):
            copied = is_copied(target, config.repo_url) and files.get_file_from_path(copy_of(target)) is None
            if copied and (ROOT / target).is_file():
                files.append(File.generated(config, copy_of(target), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links as a forge follows them into links of the site."""
    return followed(markdown, page.file.src_uri, config.repo_url)


def followed(markdown: str, page: str, repository: str | None) -> str:
    """Return a page's text with its links turned into those of the site."""
    here = str(PurePosixPath(page).parent)

    def turned(found: re.Match[str]) -> str:
        target = place(found[1], page)
        if target in PAGE_OF:
            return relpath(PAGE_OF[target], here)
        if target.startswith("docs/") and (ROOT / target).is_file():
            return relpath(target.removeprefix("docs/"), here)
        if repository and not is_copied(target, repository):
            return f"{repository.rstrip('/')}/{'blob' if (ROOT / target).is_file() else 'tree'}/main/{target}"
        if (ROOT / target).is_file():
            return relpath(copy_of(target), here)
        return relpath("index.md", here) if (ROOT / target).is_dir() else found[1]

    return outside_of_code(IN_A_TABLE.sub("|", markdown), lambda text: LINK.sub(turned, text))


def links_out(markdown: str, page: str) -> set[str]:
    """Return the files of the repository that a page links to and that have no page on the site."""
    found: set[str] = set()

    def noted(text: str) -> str:
        found.update(place(link[1], page) for link in LINK.finditer(text))
        return text

    outside_of_code(markdown, noted)
    return {target for target in found if target not in PAGE_OF and not target.startswith(("docs/", ".."))}


def place(link: str, page: str) -> str:
    """Return the place in the repository of what a page links to."""
    source = PurePosixPath(ELSEWHERE.get(page, f"docs/{page}"))
    return normpath(str(source.parent / link))


def is_copied(file: str, repository: str | None) -> bool:
    """Return whether the site has a copy of a file: of one that a forge does not show as what it is, or all without a forge."""
    return not repository or file.endswith((".png", ".svg", ".html"))


def copy_of(file: str) -> str:
    """Return where on the site a file of the repository is copied to; a page in Markdown is shown as text."""
    return f"files/{file}.txt" if file.endswith((".md", ".py")) else f"files/{file}"


def outside_of_code(markdown: str, change: Any) -> str:
    """Return a text in which what is no code has been changed."""
    parts, last = [], 0
    for code in CODE.finditer(markdown):
        parts += [change(markdown[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*parts, change(markdown[last:])])


def notebook_page(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as a page in Markdown, its outputs below its cells, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![what the cell above draws]({name})")
            elif "text/html" in data:
                html = re.sub(r"<style.*?</style>|\n\s*\n", "", "".join(data["text/html"]), flags=re.DOTALL)
                parts.append(f'<div class="output">{html}</div>')
            else:
                text = re.sub(r"\x1b\[[0-9;]*m", "", "".join(data["text/plain"])).rstrip()
                parts.append(f"```{{ .text .output }}\n{text}\n```")
        top = f"[This page as a notebook]({stem}.ipynb){{ download }}"
    return "\n\n".join([parts[0], top, *parts[1:]]) + "\n", pictures
