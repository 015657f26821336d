"""Runs made longer, or of more seeds: their logs are those of runs made so from the start, and what cannot be is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import Event, Saved, TaskStarted
from cl_engine.experiment import Experiment
from cl_engine.extension import more_seeds
from cl_engine.extension.extend import Extension
from cl_engine.results import open_run
from cl_engine.results.joined_rows import NotAlike
from cl_engine.strategies.finetune import Finetune
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.testing.strategies import Cut
from tests.conftest import TINY

Make = Callable[..., Experiment]
IN_TURN: dict[str, Any] = {"net.hidden": [64, 64, 64], "train.epochs": 1}  # too large for seeds to run as one vmap


def extended(path: Path, out: Path, seeds: tuple[int, ...] | None = None, **settings: Any) -> Path:
    """Extend a run, and return the folder of the new one."""
    extension = Extension.of(path, settings, seeds, out)
    for step in extension.steps():
        step.experiment.run(step.folder, device="cpu", begin=step.begin)
    extension.clear()
    return extension.out


def assert_as_from_the_start(found: Path, whole: Experiment, folder: Path) -> None:
    """Fail unless a log says what that of a run from the start says, beside where it was taken from."""
    ours, its = facts(found / "log.h5"), facts(whole.run(folder, device="cpu") / "log.h5")
    assert "environment/taken_over" in ours
    assert_same_facts({name: fact for name, fact in ours.items() if name != "environment/taken_over"}, its)


def cut_after(kind: type[Event], step: int) -> Callable[[Any], list[Callable[[Event], None]]]:
    """Return listeners that end a run where it stands, after an event of an experience."""

    def listening(event: Event) -> None:
        if isinstance(event, kind) and event.step == step:
            raise Cut

    return lambda stream: [listening]


@pytest.mark.parametrize("strategy", ["replay", "piggyback"])
def test_a_longer_run_has_the_log_of_one_from_the_start(strategy: str, tiny: Make, tmp_path: Path):
    short = tiny(strategy, **{"stream.n": 2}).run(tmp_path / "short", device="cpu")
    before = (short / "log.h5").read_bytes()
    longer = extended(short, tmp_path / "longer", **{"stream.n": 3})
    assert_as_from_the_start(longer, tiny(strategy), tmp_path / "whole")
    assert (short / "log.h5").read_bytes() == before
    assert {file.name for file in longer.iterdir()} <= {"log.h5", "checkpoint.safetensors", ".lock"}


@pytest.mark.parametrize(
    "options",
    [
        {
            "agenda.evaluate_every": 0,
            "agenda.evaluate_ahead": 0,
        },  # the last test was of all tasks, and would not have been
        {"agenda.window": 1, "agenda.evaluate_ahead": 0, "stream.setting": "domain"},
        {"agenda.save_every": 0, "agenda.save_every_epochs": 1, "agenda.curve_epochs": 1},
    ],
    ids=["all tasks at the end alone", "a window", "saves in the middle"],
)
def test_tests_after_the_last_experience_are_those_of_the_longer_run(
    options: dict[str, Any], tiny: Make, tmp_path: Path
):
    short = tiny("finetune", **{"stream.n": 2, **options}).run(tmp_path / "short", device="cpu")
    longer = extended(short, tmp_path / "longer", **{"stream.n": 3})
    assert_as_from_the_start(longer, tiny("finetune", **options), tmp_path / "whole")


def test_tasks_that_come_back_after_the_end_make_a_run_longer_too(tiny: Make, tmp_path: Path):
    short = tiny("independent", **{"stream.n": 2}).run(tmp_path / "short", device="cpu")
    longer = extended(short, tmp_path / "longer", **{"stream.revisit": [0]})
    assert_as_from_the_start(longer, tiny("independent", **{"stream.n": 2, "stream.revisit": [0]}), tmp_path / "whole")


def test_a_stopped_run_is_made_longer_from_its_last_save_and_goes_on_after_a_cut(tiny: Make, tmp_path: Path):
    short = tiny("replay", **{"stream.n": 3})
    with pytest.raises(Cut):
        short.run(tmp_path / "short", device="cpu", listeners=cut_after(Saved, 1))
    with pytest.raises(Cut):
        [step] = Extension.of(tmp_path / "short", {"stream.n": 4}, None, tmp_path / "longer").steps()
        step.experiment.run(step.folder, device="cpu", begin=step.begin, listeners=cut_after(TaskStarted, 3))
    longer = extended(tmp_path / "short", tmp_path / "longer", **{"stream.n": 4})
    assert_as_from_the_start(longer, tiny("replay", **{"stream.n": 4}), tmp_path / "whole")
    [told] = json.loads(open_run(longer).environment["taken_over"])
    assert told["run"] == str(tmp_path / "short")
    assert (told["seeds"], told["experiences"]) == ([0, 1], 2)


def test_a_stream_without_end_that_was_stopped_is_given_one(tiny: Make, tmp_path: Path):
    tables = TINY.read_text().replace("n = 3\n", "")
    (tmp_path / "tiny.toml").write_text(tables)
    endless = Experiment.of(tmp_path / "tiny.toml", "finetune", (0,))
    with pytest.raises(Cut):
        endless.run(tmp_path / "endless", device="cpu", listeners=cut_after(TaskStarted, 2))
    longer = extended(tmp_path / "endless", tmp_path / "longer", **{"stream.n": 3})
    whole = Experiment.of(tmp_path / "tiny.toml", "finetune", (0,), **{"stream.n": 3})
    assert_as_from_the_start(longer, whole, tmp_path / "whole")


@pytest.mark.parametrize("strategy", ["replay", "packnet"])
def test_a_run_of_more_seeds_has_the_log_of_one_from_the_start(strategy: str, tiny: Make, tmp_path: Path):
    own = {**IN_TURN, "stream.n": 1}
    few = tiny(strategy, (3, 1), **own).run(tmp_path / "few", device="cpu")
    more = extended(few, tmp_path / "more", (3, 0, 1))
    assert_as_from_the_start(more, tiny(strategy, (3, 0, 1), **own), tmp_path / "whole")


def test_a_run_is_made_longer_and_of_more_seeds_at_once_and_goes_on_from_there(tiny: Make, tmp_path: Path):
    few = tiny("replay", (0,), **IN_TURN, **{"stream.n": 1}).run(tmp_path / "few", device="cpu")
    more = extended(few, tmp_path / "more", (0, 1), **{"stream.n": 2})
    assert not [file for file in more.iterdir() if file.is_dir()]
    further = extended(more, tmp_path / "further", **{"stream.n": 3})  # what was put together can go on
    assert_as_from_the_start(further, tiny("replay", (0, 1), **IN_TURN), tmp_path / "whole")


def test_seeds_whose_parts_have_other_forms_stay_runs_of_their_own(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    few = tiny("finetune", (0,), **IN_TURN, **{"stream.n": 1}).run(tmp_path / "few", device="cpu")

    def odd(*args: Any) -> Any:
        raise NotAlike("what was learned has another shape for other seeds")

    monkeypatch.setattr(more_seeds, "joined_state", odd)
    with pytest.raises(RunFailed, match=r"another shape for other seeds\. They stay runs of their own"):
        extended(few, tmp_path / "more", (0, 1))
    assert open_run(tmp_path / "more" / "new_seeds").status == "finished"


@pytest.mark.parametrize("settings", [(), ("--set", "stream.n=3")], ids=["more seeds", "longer too"])
@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_new_seeds_are_not_learned_where_what_was_learned_cannot_be_taken_over(
    damage: str, settings: tuple[str, ...], short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(short, tmp_path / "few")
    checkpoint = tmp_path / "few" / "checkpoint.safetensors"
    checkpoint.unlink() if damage == "removed" else checkpoint.write_bytes(checkpoint.read_bytes()[:50])
    monkeypatch.setattr(Experiment, "run", lambda *args, **options: pytest.fail("something was learned"))
    out = tmp_path / "more"
    done = CliRunner().invoke(main, ["extend", str(tmp_path / "few"), "--seeds", "3", "-o", str(out), *settings])
    assert done.exit_code == 2, done.output
    assert "holds no checkpoint" in done.output or "damaged" in done.output
    assert "learning" not in done.output
    assert not out.exists()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of two tasks."""
    experiment = Experiment.of(TINY, "finetune", (0, 1), **{"stream.n": 2, "train.epochs": 1})
    return experiment.run(tmp_path_factory.mktemp("runs") / "short", device="cpu")


REFUSED: dict[str, tuple[str, ...]] = {
    "nothing is to be added": (),
    "can be made longer, not shorter": ("--set", "stream.n=1"),
    r"train.lr was 0.01 and is to be 0.5: all that was learned": ("--set", "train.lr=0.5"),
    "--seeds leaves out seed 1, which": ("--seeds", "1"),
    "in the setting 'class' a net has one for each class": ("--set", "stream.n=3", "--set", "stream.setting=class"),
    "the stream's seed is another one": ("--set", "stream.n=3", "--set", "stream.seed=7"),
    "other rows would arrive at experience 0": ("--set", "stream.n=3", "--set", "stream.samples_per_class=7"),
    "task 0 would be tested on other rows": ("--set", "stream.test_samples_per_class=7"),
    "another task would arrive at experience 0": ("--set", "stream.first_plain=false"),
    "would have tested|would not have tested task 1": ("--set", "agenda.evaluate_ahead=0"),
    "have tested task 2 too": ("--set", "agenda.evaluate_ahead=2", "--set", "stream.n=4"),
    "no option named 'stream.m'": ("--set", "stream.m=3"),
    "that is the folder of the run itself": ("--set", "stream.n=3", "-o", "RUN"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_taken_over_is_refused_in_a_sentence(sentence: str, short: Path):
    typed = [str(short) if word == "RUN" else word for word in REFUSED[sentence]]
    done = CliRunner().invoke(main, ["extend", str(short), "--check", *typed])
    assert done.exit_code == 2, done.output
    assert re.search(sentence, done.output), done.output


def test_a_strategy_that_looks_ahead_begins_anew(tiny: Make, tmp_path: Path):
    run = tiny("packnet", (0,), **{"stream.n": 1, "train.epochs": 1}).run(tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match="'packnet' learns of a task depends, with these options, on how many"):
        extended(run, tmp_path / "longer", **{"stream.n": 2})
    assert not (tmp_path / "longer").exists()


def test_a_strategy_that_looks_ahead_and_does_not_say_so_is_found_out(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    learn = Finetune.learn

    def longer_if_more_come(self: Finetune, experience: Any) -> Any:
        self.train = self.train.model_copy(update={"epochs": self.n_tasks})
        yield from learn(self, experience)

    run = tiny("finetune", (0,), **{"stream.n": 1}).run(tmp_path / "run", device="cpu")
    monkeypatch.setattr(Finetune, "learn", longer_if_more_come)
    with pytest.raises(UsageError, match="would have learned otherwise from its start"):
        extended(run, tmp_path / "longer", **{"stream.n": 2})


def test_a_split_into_more_tasks_has_other_tasks_from_the_start(tmp_path: Path):
    tables = TINY.read_text().replace('name = "permuted"', 'name = "split"')
    (tmp_path / "split.toml").write_text(tables)
    run = Experiment.of(tmp_path / "split.toml", "finetune", (0,), **{"stream.n": 5}).run(
        tmp_path / "run", device="cpu"
    )
    with pytest.raises(UsageError, match=r"stream.n = 10: .*(another number of classes|would arrive)"):
        extended(run, tmp_path / "longer", **{"stream.n": 10})


def test_check_says_what_would_be_taken_over_and_writes_nothing(short: Path):
    before = {path: path.stat().st_mtime_ns for path in short.parent.rglob("*") if path.name != ".lock"}
    typed = ["extend", str(short), "--check", "--set", "stream.n=4", "--seeds", "3"]
    done = CliRunner().invoke(main, typed)
    assert done.exit_code == 0, done.output
    words = [line.split(maxsplit=1)[0] for line in done.output.splitlines()]
    assert words == ["taken", "tested", "tested", "learned", "learned", "folder"]
    assert "seeds 0, 1: 2 experiences" in done.output
    assert "seeds 0, 1: experiences 2 to 3" in done.output
    assert "seed 2: experiences 0 to 3" in done.output
    assert {path: path.stat().st_mtime_ns for path in short.parent.rglob("*") if path.name != ".lock"} == before


def test_the_command_prints_the_extended_run_and_a_second_time_that_it_is_finished(short: Path, tmp_path: Path):
    typed = ["extend", str(short), "--seeds", "3", "-o", str(tmp_path / "more"), "--quiet"]
    for said in ("", f"{tmp_path / 'more'} is finished"):
        done = CliRunner().invoke(main, typed)
        assert done.exit_code == 0, done.output
        assert "finished, 2 experiences, seeds 0, 1, 2" in done.output
        assert said in done.output
    assert not (tmp_path / "more" / "new_seeds").exists()
    done = CliRunner().invoke(main, ["extend", str(short), "--seeds", "4", "-o", str(tmp_path / "more")])
    assert done.exit_code == 2
    assert "holds another run than the extended one" in done.output
