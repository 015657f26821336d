"""Completion in bash, zsh and fish: what is offered, that it is what there is, and that it needs no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.cli.shells import VARIABLE
from cl_engine.engine.agenda import AgendaOptions
from cl_engine.export.registry import formats
from cl_engine.runs import option_names, plugins
from cl_engine.runs.scenario_names import scenario_names
from cl_engine.training.optimizers import Train
from cl_engine.training.pretraining import BackboneOptions

ROOT = Path(__file__).parents[1]
SHELLS = ("bash", "zsh", "fish")


def offered(line: str, shell: str = "bash") -> list[str]:
    """Return what a shell would offer behind a line, by click's class for it."""
    *words, incomplete = line.split(" ")
    asked: Any = get_completion_class(shell)
    return [item.value for item in asked(main, {}, "cl-engine", VARIABLE).get_completions(words, incomplete)]


def answered(shell: str, line: str, monkeypatch: pytest.MonkeyPatch, word: str | None = None) -> str:
    """Return what the script of a shell is answered, given a line as that shell gives it."""
    words = ["cl-engine", *line.split(" ")]
    place = {"bash": words[-1] if word is None else word, "zsh": str(len(words) - 1), "fish": words[-1]}[shell]
    monkeypatch.setenv("COMP_WORDS", f"cl-engine {line}")
    monkeypatch.setenv("COMP_CWORD", place)
    asked: Any = get_completion_class(shell)
    text: str = asked(main, {}, "cl-engine", VARIABLE).complete()
    return text


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, a sweep of one, a scenario and a plug-in."""
    for name in (
        "results/permuted_digits-replay-12ab/log.h5",
        "results/sweep-x/1/log.h5",
        "results/sweep-x/sweep.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "mine.toml").write_text('[stream]\nname = "split"\n[net]\nname = "vit"\n')
    (tmp_path / "mine.py").touch()
    (tmp_path / "replays").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_offered_commands_scenarios_strategies_and_options(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert {"run", "sweep", "completion"} <= set(offered("", shell))
    assert offered("run permuted_mn", shell) == [name for name in scenario_names() if name.startswith("permuted_mn")]
    assert offered("run x -s ", shell) == [*plugins.names("strategies"), "avalanche:"]
    assert offered("run permuted_digits -s replay --set selec", shell) == ["selection="]
    assert offered("sweep permuted_digits -s replay -s ewc --set samp", shell) == ["samples=", "sampling="]
    assert "--device" in offered("run --d", shell)


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("show ", ["results/permuted_digits-replay-12ab", "results/sweep-x/1"]),
        ("show results/", ["results/permuted_digits-replay-12ab", "results/sweep-x/"]),
        ("status ", ["results/sweep-x"]),
        ("run mi", ["mine.toml"]),
        ("run x -s rep", ["replay"]),
        ("run x -s mine", ["mine.py:"]),
        ("run x -s ./m", ["./mine.py:"]),
        ("run x -s avalanche:EW", ["avalanche:EWC"]),
        ("run mine.toml -s replay --set net.wid", ["net.width="]),
        ("run mine.toml -s replay --set net.init=xa", ["net.init=xavier"]),
        ("run mine.toml -s replay --set net.name=ml", ["net.name=mlp"]),
        ("run mine.toml -s replay --set st", ["stream."]),
        ("run mine.toml -s replay --set train.nesterov=", ["train.nesterov=true", "train.nesterov=false"]),
        ("run mine.toml -s replay --set stream.source=fashion", ["stream.source=fashion_mnist"]),
        ("run mine.toml -s x --set stream.source=folder/a?up", ["stream.source=folder/a?upright="]),
        ("run mine.toml -s x --set stream.source=scenes?rows=9&see", ["stream.source=scenes?rows=9&seed="]),
        ("run mine.toml -s replay --set train.upkeep=shr", ["train.upkeep=shrink_perturb"]),
        ("run mine.toml -s x --set upkeep=l2_init?str", ["upkeep=l2_init?strength="]),
        ("run mine.toml -s x --set agenda.metrics=loss,ec", ["agenda.metrics=loss,ece"]),
        ("sweep mine.toml -s replay --set selection=ring,her", ["selection=ring,herding"]),
        ("extend results/permuted_digits-replay-12ab --set selec", ["selection="]),
        ("extend results/permuted_digits-replay-12ab --set stream.uniq", []),
        ("list stra", ["strategies"]),
        ("fetch fashion", ["fashion_mnist"]),
        ("run nowhere.toml -s nobody --set net.", ["net.name="]),
    ],
)
def test_what_is_offered_depends_on_what_was_typed(line: str, expected: list[str]):
    assert offered(line) == expected


def test_list_is_offered_what_there_is_of_a_kind():
    assert offered("list strategies repl") == ["replay"]
    assert offered("list scenarios permuted_dig") == ["permuted_digits"]
    assert "rotation" in offered("list labels ")


def test_options_read_from_the_text_of_classes_are_those_that_the_classes_have():
    for kind in plugins.BASES:
        for name in plugins.own(kind):
            fields = plugins.load(kind, name).Options.model_fields
            told = option_names.options_of(kind, name)
            assert told.keys() == fields.keys(), (kind, name)
            assert all(about.meaning in ("", fields[key].description) for key, about in told.items())
    for table, model in (("train", Train), ("agenda", AgendaOptions), ("backbone", BackboneOptions)):
        assert option_names.options_of_table(table).keys() == model.model_fields.keys()


def test_what_runs_can_be_exported_to_is_what_is_offered():
    assert sorted(offered("export r --to ")) == sorted(formats())


def test_bash_is_told_the_rest_of_a_word_that_it_parts(results: Path, monkeypatch: pytest.MonkeyPatch):
    line = "run permuted_digits -s replay --set selection="
    assert answered("bash", f"{line}ri", monkeypatch, "ri") == "plain,ring"
    assert answered("bash", line, monkeypatch, "=").splitlines()[0] == "plain,reservoir"
    assert answered("bash", "run x -s avalanche:EW", monkeypatch, "EW") == "plain,EWC"
    assert answered("bash", "run x -s mine", monkeypatch) == "open,mine.py:"
    (results / "results" / "a run").mkdir()
    (results / "results" / "a run" / "log.h5").touch()
    assert answered("bash", "show results/a", monkeypatch) == "plain,results/a\\ run"


def test_zsh_and_fish_are_told_what_an_option_means(monkeypatch: pytest.MonkeyPatch):
    line = "run permuted_digits -s replay --set sampl"
    assert answered("zsh", line, monkeypatch).splitlines()[:3] == ["open", "samples=", "rows the memory holds"]
    assert answered("fish", line, monkeypatch).splitlines()[0] == "open,samples=\trows the memory holds"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_completes_both_programs_and_asks_by_the_variable(shell: str):
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"{VARIABLE}" in done.output
    assert f"{shell}_complete" in done.output
    assert {"cl-engine", "run.py"} <= set(done.output.split())
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.output, text=True, check=True)


def test_a_completion_imports_neither_torch_nor_what_reads_logs():
    code = (
        f"import os, sys; os.environ.update({VARIABLE}='bash_complete', COMP_WORDS='cl-engine run demo -s replay --set sel', "
        "COMP_CWORD='sel')\nfrom cl_engine.cli import main\n"
        "try: main(prog_name='cl-engine')\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'pydantic', 'h5py', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["open,selection=", "[]"]


def test_the_program_of_a_checkout_can_be_called_without_naming_python():
    assert os.access(ROOT / "run.py", os.X_OK)
    assert (ROOT / "run.py").read_text().startswith("#!/usr/bin/env python3\n")


def test_every_command_that_takes_a_run_a_scenario_or_a_strategy_offers_them():
    with click.Context(main) as ctx:
        commands = [main.get_command(ctx, name) for name in main.list_commands(ctx)]
    asks = {"scenario", "strategy", "strategies", "run", "runs", "sweep", "targets", "settings", "device"}
    for command in commands:
        assert command is not None
        for param in command.params:
            assert param.name not in asks or param._custom_shell_complete is not None, (command.name, param.name)
