"""The command line, as a person uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cl_engine.cli import main
from cl_engine.events import TaskStarted
from cl_engine.loggers.console import Console
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.scenario import scenario_names
from cl_engine.testing.strategies import Cut
from tests.conftest import STRATEGIES, TINY

ROOT = Path(__file__).parents[1]


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def _set(*settings: str) -> tuple[str, ...]:
    return tuple(part for setting in settings for part in ("--set", setting))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    assert call("run", TINY, "-s", "finetune", "--seeds", "2", "--quiet", "--out", out).exit_code == 0
    return out


def test_help_answers_in_under_a_second_of_work():
    began = time.process_time()
    done = subprocess.run([sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("run", "demo", "show", "report", "check", "list", "fetch"))
    assert time.process_time() - began < 1  # of this process; the promise on imports is held in test_floors


@pytest.mark.parametrize("command", ["run", "demo", "show", "report", "check", "list", "fetch"])
def test_every_command_has_help_one_can_work_from(command: str):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


def test_run_ends_with_the_matrix_and_names_the_log(tmp_path: Path):
    result = call("run", TINY, "-s", "finetune", "--seeds", "0,3", "--set", "stream.n=2", "--out", tmp_path)
    assert result.exit_code == 0
    assert "log.h5" in result.output
    assert "finetune: 2/2 ACC" in result.stderr
    assert open_run(tmp_path).experiment["seeds"] == [0, 3]
    assert open_run(tmp_path).environment["command"]


def test_a_finished_run_is_not_run_again_and_fresh_says_what_it_removes(finished: Path):
    before = open_run(finished).attributes["run_id"]
    again = call("run", TINY, "-s", "finetune", "--seeds", "2", "--quiet", "--out", finished)
    assert "is finished; --fresh runs it again" in again.stderr
    assert open_run(finished).attributes["run_id"] == before
    fresh = call("run", TINY, "-s", "finetune", "--seeds", "2", "--quiet", "--out", finished, "--fresh")
    assert f"removed {finished / 'log.h5'}" in fresh.stderr
    assert open_run(finished).attributes["run_id"] != before


def test_show_prints_the_matrix_and_the_scores(finished: Path):
    result = call("show", finished)
    assert result.exit_code == 0
    assert all(word in result.output for word in ("finetune", "ACC", "BWT", "plain"))


def test_report_writes_one_page_and_pictures_on_demand(finished: Path, tmp_path: Path):
    result = call("report", finished, "-o", tmp_path / "a.html", "--pictures", tmp_path / "pictures", "--format", "png")
    assert result.exit_code == 0
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    assert list((tmp_path / "pictures").glob("*.png"))


def test_check_prints_sizes_and_estimates_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = call("check", TINY, "-s", "joint")
    assert result.exit_code == 0
    words = ("3 tasks", "weights", "3 experiences", "saves", "about", "the cost of a task grows", "log at most")
    assert all(word in result.output for word in words)
    assert not list(tmp_path.iterdir())


def test_list_names_everything_and_the_options_of_one_kind():
    everything = call("list").output
    for kind in ("strategies", "streams", "sources", "nets"):
        assert all(name in everything for name in plugins.names(kind))  # type: ignore[arg-type]
    assert all(name in everything for name in scenario_names())
    strategies = call("list", "strategies").output
    assert "samples = 500" in strategies
    assert all(len(line.split()) > 3 for line in call("list", "strategies").output.splitlines()[1:])
    assert len(STRATEGIES) >= 6


def test_list_tells_of_one_alone_with_its_options():
    alone = call("list", "strategies", "replay").output
    assert "samples = 500" in alone
    assert [line.split()[0] for line in alone.splitlines() if line[:3].strip()] == ["strategies", "replay"]
    assert call("list", "metrics", "acc").output.splitlines()[-1].startswith("  acc ")
    assert "Ten pixel permutations" in call("list", "scenarios", "permuted_digits").output
    for kind, name, near in (("strategies", "reply", "replay"), ("scenarios", "permuted_digit", "permuted_digits")):
        refused = call("list", kind, name)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f"(did you mean '{near}'?)" in refused.stderr


def test_that_work_goes_on_is_said_only_where_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = ("run", TINY, "-s", "finetune", *_set("stream.n=2"), "--quiet", "--out", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Console, "__call__", _cut)
        with pytest.raises(Cut):
            call(*run)
    other = call(*run, *_set("train.epochs=1"))
    assert other.exit_code == 2 and "holds the run of another experiment" in other.stderr
    assert "going on" not in other.stderr
    assert f"going on with {tmp_path / 'run'}, which was " in call(*run).stderr
    assert "is finished" not in call(*run, *_set("train.epochs=1")).stderr
    longer = call("extend", tmp_path / "run", *_set("stream.n=3", "stream.setting=class"), "-o", tmp_path / "longer")
    assert longer.exit_code == 2 and "taking over" not in longer.stderr
    longer = call("extend", tmp_path / "run", *_set("stream.n=3"), "-o", tmp_path / "longer")
    assert f"taking over what {tmp_path / 'run'} has learned" in longer.stderr


def _cut(console: Console, event: Any) -> None:
    if isinstance(event, TaskStarted) and event.step == 1:
        raise Cut


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "permuted_mnits", "-s", "finetune"), "did you mean 'permuted_mnist'"),
        (("run", TINY, "-s", "finetun"), "no strategy named 'finetun'"),
        (("run", TINY), "Missing option '-s'"),
        (("run", TINY, "-s", "finetune", "--seeds", "many"), "neither a number of seeds"),
        (("run", TINY, "-s", "finetune", "--seeds", "0"), "at least one seed"),
        (("run", TINY, "-s", "finetune", "--set", "train.lr"), "write KEY=VALUE, as in --set train.lr=0.1"),
        (("run", TINY, "-s", "finetune", "--set", "lr="), "write KEY=VALUE, as in --set train.lr=0.1"),
        (("run", TINY, "-s", "finetune", "-s", "replay"), "`run` takes one strategy; `sweep` takes several"),
        (("check", TINY, "-s", "finetune", "-s", "replay"), "`check` takes one strategy"),
        (("run", TINY, "-s", "finetune", *_set("lr=0.1", "lr=0.2")), "both set train.lr; give it once"),
        (("run", TINY, "-s", "finetune", *_set("train.lr=0.1", "lr=0.2")), "both set train.lr; give it once"),
        (("run", TINY, "-s", "replay", *_set("replay.samples=1", "samples=2")), "both set samples; give it once"),
        (("run", TINY, "-s", "finetune", *_set("samples_per_class=2")), "did you mean 'stream.samples_per_class'?"),
        (("run", TINY, "-s", "finetune", *_set("curve_batch=2")), "no option of finetune, or of [train],"),
        (("sweep", TINY, "-s", "finetune", *_set("lr=0.1", "lr=0.2")), "name all of its values at once"),
        (("sweep", TINY, "-s", "finetune", *_set("train.lr=0.1", "lr=0.2")), "are one and the same option"),
        (("sweep", TINY, "-s", "finetune", *_set("samples_per_class=1,2")), "did you mean 'stream.samples_per_class'?"),
        (("sweep", TINY, "-s", "finetune", "--set", "lr"), "write KEY=VALUE,VALUE"),
        (("run", TINY, "-s", "finetune", *_set("agenda.online_batches=5")), "agenda.online is off"),
        (
            ("run", TINY, "-s", "finetune", *_set("agenda.curve_batches=0", "agenda.curve_tasks=2")),
            "agenda.curve_tasks: found 2, and nothing is tested in the middle of learning",
        ),
        (("run", TINY, "-s", "finetune", "--set", "train.epochs=two"), "train.epochs: input should be a valid integer"),
        (("run", TINY, "-s", "finetune", "--device", "gpu"), "no device 'gpu'"),
        (("run", TINY, "-s", "finetune", "--device", "cuda:99"), "there is no 'cuda:99' here"),
        (("run", TINY, "-s", "piggyback", "--set", "stream.setting=class"), "must be told the task"),
        (("run", "permuted_mnist", "-s", "finetune", "--data-root", "/nowhere"), "python run.py fetch mnist"),
        (
            ("run", TINY, "-s", "finetune", "--set", "net.name=lenet"),
            "the net does not accept inputs of shape (1, 8, 8)",
        ),
        (("show", "/nowhere"), "there is no log at"),
        (("report", "/nowhere", "-o", "/tmp/never.html"), "there is no log at"),
        (("list", "everything"), "is not one of"),
        (("fetch", "mnits"), "did you mean 'mnist'"),
        (("nonsense",), "No such command"),
    ],
)
def test_a_mistake_gets_a_sentence_and_exit_code_two(
    arguments: tuple[Any, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".h5", ".safetensors")]


def test_garbage_is_collected_seldom_only_until_a_run_begins(tmp_path: Path):
    code = (
        "import gc, sys; from cl_engine.cli import main; usual = gc.get_threshold()\n"
        "seen = []; from cl_engine.runs import process_memory; calm = process_memory.collect_garbage_as_usual\n"
        "process_memory.collect_garbage_as_usual = lambda: (seen.append(gc.get_threshold()), calm())\n"
        f"try: main(['run', {str(ROOT / 'tests' / 'tiny.toml')!r}, '-s', 'finetune', '--quiet', '--out', {str(tmp_path)!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert seen[0][0] > usual[0] and gc.get_threshold() == usual, (seen, usual)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["cl_engine", "cl_engine.cli"])
def test_the_package_runs_as_a_program(module: str):
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0
    assert "Usage: python -m cl_engine" in done.stdout


def test_an_output_that_cannot_show_a_sign_or_takes_no_more_ends_in_no_traceback(tmp_path: Path):
    call("run", TINY, "-s", "finetune", "--quiet", "--out", tmp_path)
    show = [sys.executable, "run.py", "show", str(tmp_path)]
    latin = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(show, capture_output=True, check=False, cwd=ROOT, env=latin)
    assert (done.returncode, done.stderr) == (0, b"")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(show, stdout=full, stderr=subprocess.PIPE, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == b"Failed: the output cannot be written: No space left on device\n"


def test_one_chosen_seed_can_be_named(tmp_path: Path):
    assert call("run", TINY, "-s", "finetune", "--seeds", "7,", "--quiet", "--out", tmp_path).exit_code == 0
    assert open_run(tmp_path).experiment["seeds"] == [7]


def test_a_name_that_is_too_long_for_a_folder_is_refused_in_a_sentence():
    result = call("run", TINY, "-s", "finetune", "--out", "x" * 300)
    assert result.exit_code == 2
    assert "cannot be a folder: File name too long" in result.stderr


def test_a_scenario_may_begin_with_a_byte_order_mark(tmp_path: Path):
    marked = tmp_path / "marked.toml"
    marked.write_bytes(b"\xef\xbb\xbf" + TINY.read_bytes())
    assert call("run", marked, "-s", "finetune", "--quiet", "--out", tmp_path / "run").exit_code == 0
