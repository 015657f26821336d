"""What a run was made with is known: the code of plug-ins stands in the log, and a run goes on with the same alone."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner, Result

from cl_engine.analysis.report.remarks import remarks
from cl_engine.analysis.scores.run_scores import summaries
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.events import Event, TaskStarted
from cl_engine.experiment import Experiment
from cl_engine.results.code import changes_in, code_changed_since, code_difference, code_in
from cl_engine.results.run import Run, open_run
from cl_engine.runs import importing
from cl_engine.runs.own_code import code_of
from cl_engine.runs.run_folder import RunFolder
from cl_engine.runs.signals import Stopped
from cl_engine.sweep.backend import Job
from cl_engine.sweep.combinations import told
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.folder import SweepFolder
from cl_engine.sweep.run_job import run_job
from tests.conftest import TINY

HELPER = "RATE = 0.5\n"
MINE = '''"""Mine."""

from helper import RATE

from cl_engine.data.source import Arrays, Source
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Strategy


class Mine(Strategy):
    """Fine-tuning, by somebody else."""

    shared = SharedNet()

    def start(self):
        return self.shared.start()

    def learn(self, experience):
        params = yield from self.fit(self.shared.params(experience.task_id), self.loss, experience)
        self.shared.keep(experience.task_id, params)

    def predict(self, x, task_id):
        return self.net.all(self.shared.params(task_id), x)

    def loss(self, params, frozen, x, y):
        return super().loss(params, frozen, x, y) * RATE
'''
SMALL = {"stream.n": 2, "agenda.curve_batches": 0, "agenda.evaluate_ahead": 0}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a strategy and what that imports, in which commands are typed."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text(HELPER)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in ("mine", "helper", "other"):
        sys.modules.pop(name, None)


def experiment(**overrides: Any) -> Experiment:
    return Experiment.of(TINY, "mine.py:Mine", **{**SMALL, **overrides})


def stopped(out: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, TaskStarted) and event.step == 1:  # the first is saved
            raise Stopped(signal.SIGINT)

    with pytest.raises(Stopped):
        experiment().run(out, device="cpu", listeners=lambda stream: [stop])


def forget() -> None:
    """Forget what was imported, as a new process has."""
    for name in ("mine", "helper"):
        sys.modules.pop(name, None)
    importing._files.clear()


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_log_has_the_text_and_checksum_of_a_plug_in_and_of_what_it_imports(project: Path):
    code = code_in(open_run(experiment().run("run", device="cpu")))
    assert code is not None
    assert {name: told["text"] for name, told in code.items()} == {"mine": MINE, "helper": HELPER}
    assert code["mine"]["sha256"] == hashlib.sha256(MINE.encode()).hexdigest()
    shown = call("show", "run", "--code").output
    assert MINE in shown
    assert f"# helper, {project / 'helper.py'}, SHA-256 {code['helper']['sha256']}\n{HELPER}" in shown


def test_a_run_of_the_engines_own_plug_ins_has_no_code_and_its_checkpoint_the_mark_it_always_had(project: Path):
    folder = Experiment.of(TINY, "finetune", **{**SMALL, "stream.n": 1}).run("run", device="cpu")
    assert code_in(open_run(folder)) == {}
    assert "all plug-ins of this run were the engine's own" in call("show", folder, "--code").output
    assert RunFolder(Path("run"), "{}").mark.count(".") == 1


CHANGES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "a line": (
        "mine.py",
        lambda text: text.replace("* RATE", "* 2 * RATE"),
        r"line 2\d was `return super.* RATE`, is `.*\* 2",
    ),
    "what it imports": (
        "helper.py",
        lambda text: "RATE = 0.25\n",
        r"line 1 was `RATE = 0.5`, is `RATE = 0.25` \(1 line then",
    ),
    "a line less": (
        "mine.py",
        lambda text: text.removeprefix('"""Mine."""\n'),
        r"line 1 was `\"\"\"Mine.\"\"\"`, is not there",
    ),
    "the ends of lines": ("helper.py", lambda text: text.replace("\n", "\r\n"), "its bytes are others"),
    "one import more": (
        "mine.py",
        lambda text: "import other\n" + text,
        "line 1 was not there, is `import|is imported now",
    ),
}


@pytest.fixture
def begun(project: Path) -> Path:
    stopped(project / "run")
    forget()
    return project


@pytest.mark.parametrize("change", CHANGES)
def test_a_stopped_run_does_not_go_on_with_other_code_which_is_named_with_its_file_and_line(change: str, begun: Path):
    (begun / "other.py").write_text("")
    file, changed, said = CHANGES[change]
    before = (begun / file).read_text()
    (begun / file).write_bytes(changed(before).encode())
    with pytest.raises(UsageError, match=said) as refused:
        experiment().run("run", device="cpu")
    assert str(begun / file) in str(refused.value) or "other" in str(refused.value)
    assert "--accept-changes" in str(refused.value)
    forget()
    (begun / file).write_text(before)
    assert open_run(experiment().run("run", device="cpu")).status == "finished"


def test_a_run_that_goes_on_after_a_change_says_so_in_its_log_with_the_step_and_the_code_before(begun: Path):
    (begun / "helper.py").write_text("RATE = 0.25\n")
    arguments = ("run", TINY, "-s", "mine.py:Mine", "--out", "run", "--quiet")
    options = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    refused = call(*arguments, *options)
    assert refused.exit_code == 2
    assert f"Error: {begun / 'helper.py'} has changed: line 1 was `RATE = 0.5`" in refused.stderr
    done = call(*arguments, *options, "--accept-changes")
    assert done.exit_code == 0, done.output
    run = open_run("run")
    (change,) = changes_in(run)
    assert change.step == 1
    assert "helper.py has changed" in change.what
    assert change.code["helper"]["text"] == HELPER
    code = code_in(run)
    assert code is not None
    assert code["helper"]["text"] == "RATE = 0.25\n"
    shown = call("show", "run").output
    assert "code    from experience 1 on, as accepted:" in shown
    assert "until experience 1" in call("show", "run", "--code").output


def test_a_sweep_refuses_other_code_and_goes_on_where_that_is_accepted(project: Path):
    options = SweepOptions(scenarios=[str(TINY)], strategies=["mine.py:Mine"]).model_dump()
    stopped(project / "sweep" / "run")
    identity = SweepFolder(project / "sweep").keep(options, [], "")
    forget()
    (project / "helper.py").write_text("RATE = 0.25\n")
    for accepted, said in ((False, "refused"), (True, "finished")):
        job = Job("run", str(project / "sweep"), identity, told(experiment()), device="cpu", accept_changes=accepted)
        outcome = run_job(job)
        assert (outcome.said, "helper.py has changed" in outcome.error) == (said, not accepted)


def test_a_run_killed_right_after_a_change_was_accepted_goes_on_by_itself(begun: Path, monkeypatch: pytest.MonkeyPatch):
    def kill(event: Event) -> None:
        raise KeyboardInterrupt

    (begun / "helper.py").write_text("RATE = 0.25\n")
    with pytest.raises(KeyboardInterrupt):  # the log has the new code, the checkpoint is marked with the old
        experiment().run("run", device="cpu", listeners=lambda stream: [kill], accept_changes=True)
    run = open_run(experiment().run("run", device="cpu"))
    assert (run.status, len(changes_in(run))) == ("finished", 1)


def test_a_checkpoint_of_a_run_with_other_code_beside_a_log_is_refused(begun: Path):
    (begun / "helper.py").write_text("RATE = 0.25\n")
    other = experiment().run("other", device="cpu")
    (begun / "run" / "checkpoint.safetensors").write_bytes((other / "checkpoint.safetensors").read_bytes())
    forget()
    (begun / "helper.py").write_text(HELPER)
    with pytest.raises(UsageError, match="is of another run, with other code, than the log beside it"):
        experiment().run("run", device="cpu")


def test_a_run_from_before_logs_had_code_goes_on_unlooked_at(project: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as before:
        before.setattr("cl_engine.experiment.code_of", lambda modules: {})
        stopped(project / "run")
    forget()
    with h5py.File("run/log.h5", "a") as log:
        del log["environment/code"]
    (project / "helper.py").write_text("RATE = 0.25\n")
    done = call("show", "run", "--code")
    assert (done.exit_code, "begun before logs had the code of plug-ins" in done.stderr) == (2, True)
    run = open_run(experiment().run("run", device="cpu"))
    assert (run.status, code_in(run)) == ("finished", None)


def test_a_finished_run_whose_code_has_changed_says_that_its_numbers_are_those_of_the_old(
    project: Path, caplog: pytest.LogCaptureFixture
):
    arguments = ("run", TINY, "-s", "mine.py:Mine", "--out", "run", "--quiet", "--set", "stream.n=1")
    assert call(*arguments).exit_code == 0
    assert code_changed_since(open_run("run")) == []
    (project / "helper.py").write_text("RATE = 0.25\n")
    file = str(project / "helper.py")
    assert f"{file} has changed since: the numbers in run are those of its old text" in call(*arguments).stderr
    assert f"{file} has changed since" in call("show", "run").output.replace("\n", "")
    assert f"{file} has changed since" in call("compare", "run").stderr
    assert f"run: {file} has changed since" in " ".join(remarks(["run"], summaries([open_run("run")])[0]))
    saved = call("save", "run", "--task", "0", "-o", "weights.safetensors")
    assert saved.exit_code == 0, saved.output
    assert f"{file} has changed since the run: what it learned is read by the new text" in caplog.text
    (project / "helper.py").unlink()  # where it is not there, nothing can be said
    assert code_changed_since(open_run("run")) == []


def test_a_project_that_was_moved_goes_on(begun: Path, monkeypatch: pytest.MonkeyPatch):
    moved = begun / "moved"
    moved.mkdir()
    for name in ("mine.py", "helper.py", "run"):
        (begun / name).rename(moved / name)
    monkeypatch.chdir(moved)
    assert open_run(experiment().run("run", device="cpu")).status == "finished"


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"mine": {"file": "mine.py"}}', '{"mine": 3}'])
def test_code_that_is_not_as_written_is_refused_in_a_sentence(text: str, begun: Path):
    with h5py.File("run/log.h5", "a") as log:
        del log["environment/code"]
        log["environment/code"] = text
    with pytest.raises(UsageError, match="is not a whole log: environment/code is not as written"):
        experiment().run("run", device="cpu")
    assert call("show", "run").exit_code == 0


def test_a_log_of_somebody_else_lets_nothing_be_read_but_files_of_python(project: Path):
    class Odd(Run):
        def __init__(self, file: str) -> None:
            self.path = Path("log.h5")
            self.told = {"odd": {"file": file, "sha256": "0", "text": ""}}

        @property
        def environment(self) -> dict[str, str]:
            return {"code": json.dumps(self.told)}

    for file in ("/dev/zero", "/etc/passwd", str(project), "\0.py", "nowhere.py"):
        assert code_changed_since(Odd(file)) == []
    assert code_changed_since(Odd(str(project / "mine.py"))) == [str(project / "mine.py")]


def test_a_finished_run_is_told_of_by_its_name_where_several_are_shown(project: Path):
    experiment(**{"stream.n": 1}).run("run", device="cpu")
    Experiment.of(TINY, "finetune", **{**SMALL, "stream.n": 1}).run("other", device="cpu")
    (project / "helper.py").write_text("RATE = 0.25\n")
    (line,) = call("compare", "run", "other").stderr.splitlines()
    assert line.startswith(f"mine.py:Mine: {project / 'helper.py'} has changed since")


def test_of_an_installed_package_the_module_alone_is_kept_with_the_version(project: Path):
    with importing.noting() as modules:
        importing.attribute("the net", "click:Group")
    code = code_of(modules.values())
    assert set(code) == {"click", "click.core"}
    assert code["click.core"]["package"] == f"click {version('click')}"
    other = {name: {**told, "package": "click 99"} for name, told in code.items()}
    assert f"click is from click 99 now, and was from click {version('click')} then" in code_difference(code, other)


def test_the_backbone_of_a_net_whose_code_has_changed_is_trained_anew(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CL_CACHE", str(project / "cache"))
    net = "from torch import nn\n\ndef build(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    (project / "other.py").write_text(net)
    made = experiment(**{"net.name": "other.py:build", "backbone.source": "digits", "backbone.samples_per_class": 2})
    first, again = (made.backbone(made.stream()) for _ in range(2))
    (project / "other.py").write_text(net.replace("nn.Linear", "nn.ReLU(), nn.Linear"))
    assert made.backbone(made.stream()).about["digest"] == first.about["digest"] == again.about["digest"]
    assert len(list((project / "cache" / "backbones").glob("*.safetensors"))) == 2
