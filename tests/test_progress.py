"""Progress of a run that is started from Python: on a terminal, in a notebook, and nowhere where it was not asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cl_engine.experiment import Experiment
from cl_engine.loggers import notebook
from tests.conftest import TINY


@pytest.fixture
def experiment() -> Experiment:
    return Experiment.of(TINY, "finetune")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend to run in a kernel of Jupyter; return what the cell has shown, in order."""
    shown: list[str] = []

    def display(what: str, display_id: bool) -> Any:
        shown.append(what)
        return SimpleNamespace(update=shown.append)

    shell = SimpleNamespace(config={"IPKernelApp": {}})
    shown_by = SimpleNamespace(HTML=lambda text: text, display=display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=shown_by))  # type: ignore[misc]
    monkeypatch.setitem(sys.modules, "IPython.display", shown_by)  # type: ignore[misc]
    return shown


def test_elsewhere_than_on_a_terminal_nothing_is_shown_unless_asked_for(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    experiment.run(tmp_path / "one", device="cpu")
    assert capsys.readouterr().err == ""
    experiment.run(tmp_path / "two", device="cpu", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ACC")[0] for line in lines] == [f"tiny finetune: {k}/3" for k in (1, 2, 3)]


def test_in_a_notebook_a_bar_moves_in_its_place_and_is_left_whole(
    experiment: Experiment, tmp_path: Path, kernel: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notebook, "EVERY", 0.0)
    experiment.run(tmp_path / "run", device="cpu")
    assert kernel[1] == '<progress max="3" value="0"></progress> tiny finetune'
    assert kernel[-1].startswith('<progress max="3" value="3"></progress> tiny finetune 3/3') and "ACC 0." in kernel[-1]
    places = [float(text.split('value="')[1].split('"')[0]) for text in kernel[1:]]
    assert places == sorted(places)


def test_a_notebook_is_quiet_when_asked(experiment: Experiment, tmp_path: Path, kernel: list[str]):
    experiment.run(tmp_path / "run", device="cpu", progress=False)
    assert kernel == []


def test_names_in_a_bar_are_no_markup():
    bar = notebook.NotebookBar("<b>", None, lambda text: None)
    bar.update(0, completed=1, what="learning <i>")
    assert bar.text() == "<progress></progress> &lt;b&gt; learning &lt;i&gt;"
