"""Pages that are made from the code are up to date, and what pages show can be run."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from cl_engine.options import checked
from cl_engine.runs.upkeep import upkeep_of
from cl_engine.training.optimizer_steps import check_training
from cl_engine.training.optimizers import Train

ROOT = Path(__file__).parents[1]


def test_the_page_of_events_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("make_events", ROOT / "docs" / "make_events.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run: python docs/make_events.py"


def test_the_examples_of_analysis_run_one_after_the_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/analysis.md", "exec"), names)
    assert all(figure is not None for figure in names["figures"])  # type: ignore[attr-defined]


def test_the_examples_of_data_run_and_say_what_they_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/data.md", "exec"), names)
    assert f"prints `{capsys.readouterr().out.strip()}`" in page


def test_the_example_of_learners_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "learners.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(compile(blocks[0], "docs/learners.md", "exec"), names)
    assert (tmp_path / "task1.safetensors").exists()


def test_the_page_of_training_shows_every_option_as_it_may_be_written():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    shown: set[str] = set()
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        table = tomllib.loads(block)["train"]
        check_training(checked(Train, table, "train"))
        upkeep_of(table.get("upkeep", ""))
        shown |= table.keys()
    assert shown == set(Train.model_fields)


def test_what_analysis_says_of_the_reference_runs_is_so(monkeypatch: pytest.MonkeyPatch):
    from cl_engine.results.dataset import grid
    from cl_engine.results.run import open_runs

    cube = grid(open_runs(ROOT / "results" / "reference", strict=True))
    assert dict(cube.sizes) == {"scenario": 8, "strategy": 4, "seed": 8}
    assert set(cube["status"].values.ravel()) == {"finished"}
    assert not cube["acc"].isnull().any()


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("*.md")]
    for page in [*pages, ROOT / "docs" / "tutorial.ipynb"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda file: file.name)
def test_forms_and_workflows_can_be_read(file: Path):
    assert isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict)


def test_the_workflow_runs_the_two_commands_of_the_readme_and_no_others():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    ran = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert sorted(ran) == ["make demo", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"\n{command} " in readme for command in ran)


def test_the_citation_has_what_the_format_asks_for_and_the_version_of_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


def test_the_newest_release_of_the_changelog_is_the_version_of_the_package():
    releases = re.findall(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert releases[0] == project["version"]
    assert releases == sorted(releases, reverse=True)


def test_what_contributing_names_is_there():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in makefile for target in re.findall(r"^make (\w+)", page, re.MULTILINE))
    for path in re.findall(r"`((?:cl_engine|tests|scenarios|benchmarks|docs)/[\w./]+)`", page):
        assert (ROOT / path).exists() or path.endswith(("mine.py", "mine.toml")), path
    rooms = re.findall(r"`(?:cl_engine/)?(\w+)`", page.partition("| room | for |")[2].partition("## Adding")[0])
    assert all((ROOT / "cl_engine" / room).is_dir() or (ROOT / room).is_dir() for room in rooms)
