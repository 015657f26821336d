"""What a sweep is to run: axes, combinations, requests, halving; nothing is trained here."""

from __future__ import annotations

import json
import math
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.sweep import run_job
from cl_engine.sweep.axes import Range, assigned, axes_of, covering, grid, random
from cl_engine.sweep.backend import Job, Outcome
from cl_engine.sweep.capacity import share_of_gpu, slots
from cl_engine.sweep.combinations import check_keys, expanded, own, restored, told
from cl_engine.sweep.config import HalvingOptions, ResourceOptions, SweepOptions, requested
from cl_engine.sweep.folder import Entry, SweepFolder
from cl_engine.sweep.halving import goals
from cl_engine.sweep.local import Local
from cl_engine.sweep.log_summary import LogSummary
from cl_engine.sweep.search import points
from cl_engine.sweep.status import Status
from cl_engine.sweep.sweep import Sweep
from tests.conftest import TINY

VALUES = st.lists(st.integers(0, 9), min_size=1, max_size=4)
AXES = st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3)


def sweep(**changes: Any) -> SweepOptions:
    return SweepOptions(**{"scenarios": [str(TINY)], "strategies": ["finetune", "replay"], **changes})


def runs(options: SweepOptions) -> list[Any]:
    return expanded(options, points(options, axes_of(options.set)))


@given(AXES)
def test_a_grid_has_every_combination_once_for_each_time_its_values_are_listed(axes: dict[str, list[int]]):
    found = list(grid(axes))
    assert len(found) == math.prod(len(values) for values in axes.values())
    assert {json.dumps(point) for point in found} == {json.dumps(point) for point in grid(axes)}
    assert all(point[key] in axes[key] for point in found for key in axes)


@given(AXES, st.integers(1, 12), st.integers(0, 5))
def test_more_random_points_are_the_same_ones_and_some_more_and_none_comes_twice(
    axes: dict[str, list[int]], trials: int, seed: int
):
    few, more = list(random(axes, trials, seed)), list(random(axes, trials + 5, seed))
    assert more[: len(few)] == few
    names = [json.dumps(point, sort_keys=True) for point in more]
    assert len(set(names)) == len(names)


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e4), st.booleans(), st.integers(0, 50))
def test_what_is_drawn_from_a_range_lies_in_it(low: float, ratio: float, log: bool, seed: int):
    axis = Range(low, low * ratio, log)
    assert all(axis.low <= point["x"] <= axis.high for point in random({"x": axis}, 5, seed))
    whole = Range(1, 1 + round(ratio), log, whole=True)
    assert all(isinstance(point["x"], int) and 1 <= point["x"] <= whole.high for point in random({"x": whole}, 5, seed))


@given(AXES, st.integers(1, 5), st.integers(6, 9))
def test_points_that_cover_the_axes_have_every_value_and_both_ends(axes: dict[str, list[int]], low: int, high: int):
    found = list(covering({**axes, "range": Range(low, high, whole=True)}))
    assert {point["range"] for point in found} == {low, high}
    assert all({point[key] for point in found} == set(values) for key, values in axes.items())


@pytest.mark.parametrize("axis", [{"train.lr": {"from": -1.0, "to": 1.0}}, {"net.hidden": [[8], "nonsense"]}])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_wrong_at_an_end_or_in_a_list_is_refused_before_an_adaptive_search_runs(
    axis: dict[str, Any], seed: int, tmp_path: Path
):
    options = sweep(set={"train.epochs": [1, 2], **axis}, search="optuna", search_seed=seed)
    with pytest.raises(UsageError, match=next(iter(axis))):
        Sweep(options, tmp_path)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train.lr=1e-3,3e-3", [1e-3, 3e-3]),
        ("net.hidden=[64,64],[128]", [[64, 64], [128]]),
        ("train.optimizer=adam,sgd", ["adam", "sgd"]),
        ('name="a,b",c', ["a,b", "c"]),
        ("pull=0.5", [0.5]),
        ("samples=10..200", {"from": 10, "to": 200, "log": False}),
        ("train.lr=log:1e-4..1e-1", {"from": 1e-4, "to": 1e-1, "log": True}),
    ],
)
def test_a_flag_names_values_or_a_range(typed: str, meant: Any):
    key = typed.partition("=")[0]
    assert assigned(typed) == (key, meant)


def test_a_table_names_axes_by_dotted_keys_or_nested_tables():
    tables = {"train": {"lr": [1, 2], "epochs": 3}, "net.hidden": [[4]], "pull": {"from": 1, "to": 5}}
    assert axes_of(tables) == {
        "train.lr": [1, 2],
        "train.epochs": [3],
        "net.hidden": [[4]],
        "pull": Range(1, 5, False, True),
    }


def test_a_combination_is_an_experiment_of_its_own_and_what_does_not_concern_a_strategy_is_left_out_of_its_runs():
    found = runs(sweep(set={"lr": [0.1, 0.2], "samples": [5, 6]}))
    assert [each.experiment.strategy for each in found] == ["finetune"] * 2 + ["replay"] * 4
    assert len({each.hash for each in found}) == 6
    assert all("samples" not in each.changes for each in found if each.experiment.strategy == "finetune")
    assert {each.experiment.resolved["train"]["lr"] for each in found} == {0.1, 0.2}


def test_a_key_with_a_strategy_before_it_is_that_strategys_and_goes_before_the_general_one():
    point = {"train.lr": 0.1, "replay.train.lr": 0.2, "replay.samples": 7}
    assert own(point, "finetune", ["finetune", "replay"]) == {"train.lr": 0.1}
    assert own(point, "replay", ["finetune", "replay"]) == {"train.lr": 0.2, "samples": 7}


def test_orders_and_spread_seeds_are_axes():
    found = runs(sweep(strategies=["finetune"], orders=3, seeds=2, spread=True))
    assert {(each.experiment.seeds, each.experiment.resolved["stream"]["task_order"]) for each in found} == {
        ((seed,), order) for seed in (0, 1) for order in (0, 1, 2)
    }
    assert [each.experiment.seeds for each in runs(sweep(strategies=["finetune"], seeds=3))] == [(0, 1, 2)]


def test_one_reference_is_added_for_each_stream_and_net_and_none_where_it_is_there():
    found = runs(sweep(reference=True, set={"lr": [0.1, 0.2], "stream.n": [2, 3]}))
    added = [each for each in found if each.reference]
    assert [each.experiment.strategy for each in added] == ["independent"] * 2
    assert {each.experiment.resolved["stream"]["n"] for each in added} == {2, 3}
    assert {each.experiment.resolved["train"]["lr"] for each in added} == {0.01}  # the scenario's own
    assert not [each for each in runs(sweep(reference=True, strategies=["independent"])) if each.reference]


def test_an_experiment_comes_back_whole_from_the_plain_data_a_job_carries():
    for each in runs(sweep(set={"lr": [0.1]})):
        there = json.loads(json.dumps(told(each.experiment)))
        assert restored(there) == each.experiment
        assert restored(there).hash == each.hash


def test_a_run_is_called_by_what_is_varied_in_letters_that_any_disk_takes():
    name = runs(sweep(strategies=["replay"], set={"net.hidden": [[4, 4]], "selection": ["balanced"]}))[0].name
    assert name.startswith("tiny-replay-hidden=_4_4_-selection=balanced-seed=0-")
    assert not set(name) & set('/\\ :*?"<>|[],')


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"set": {"sampels": [1]}}, "did you mean 'samples'"),
        (
            {"set": {"trian.lr": [1.0]}},
            "'trian' is neither a table nor a strategy of this sweep (did you mean 'train.…'?)",
        ),
        ({"set": {"train.lr": [-1.0, -2.0]}}, "found -1.0; train.lr: input should be greater than 0, found -2.0"),
        ({"set": {"train.lr": {"from": 1, "to": 2}}}, "a range has no values"),
        ({"set": {"train.lr": {"from": 2, "to": 1}}}, "from a number to a greater one"),
        ({"set": {"train.lr": {"from": 1, "upto": 2}}}, "a range is { from = NUMBER"),
        ({"set": {"train.lr": []}}, "at least one value"),
        ({"strategies": ["finetun"]}, "no strategy named 'finetun'"),
        ({"scenarios": ["tiny_"]}, "no scenario (nor file) named"),
    ],
)
def test_what_is_wrong_with_any_run_is_said_before_the_first_one_starts(changes: dict[str, Any], sentence: str):
    options = sweep(**changes)
    with pytest.raises(UsageError) as refused:
        axes = axes_of(options.set)
        check_keys(axes, options.strategies)
        expanded(options, points(options, axes))
    assert sentence in str(refused.value)


def test_a_file_is_checked_as_a_whole_and_flags_go_before_it(tmp_path: Path):
    file = tmp_path / "paper.toml"
    file.write_text(
        'scenarios = ["tiny.toml", "permuted_digits"]\nstrategies = ["replay"]\nseeds = 2\n'
        '[set]\ntrain.lr = [0.1, 0.2]\n"replay.samples" = 5\n[resources]\nthreads = 1\n'
    )
    (tmp_path / "tiny.toml").write_text(TINY.read_text())
    found = requested([str(file)], {"seeds": [3], "set": {"train.lr": [0.5]}, "resources": {"jobs": 2}})
    assert found.scenarios == [str(tmp_path / "tiny.toml"), "permuted_digits"]
    assert (found.seeds, found.resources.jobs, found.resources.threads) == ([3], 2, 1)
    assert axes_of(found.set) == {"train.lr": [0.5], "replay.samples": [5]}
    file.write_text('scenarios = "x"\nstrategies = ["replay"]\nsearch = "all"\nsed = 3\n[halving]\ntasks = 0\n')
    with pytest.raises(UsageError) as refused:
        requested([str(file)], {})
    for part in (
        "paper.toml: ",
        "scenarios: ",
        "search: ",
        "no option named 'sed' (did you mean 'seeds'?)",
        "halving.tasks: ",
    ):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((TINY,), "no strategies are named"),
        ((TINY, "-s", "finetune", "--halving", "two"), "neither TASKS (2) nor TASKS:FACTOR"),
        ((TINY, "-s", "finetune", "--set", "train.lr="), "write KEY=VALUE,VALUE"),
        ((TINY, "-s", "finetune", "--search", "optuna"), "needs something to vary"),
        ((TINY, "-s", "finetune", "--search", "optuna", "--set", "lr=1..2", "--halving", "2"), "not with optuna"),
        (
            (TINY, "-s", "finetune", "--halving", "2", "--set", "agenda.evaluate_every=3"),
            "all tasks must have been tested",
        ),
        (
            (TINY, "-s", "finetune", "--objective", "fwt", "--set", "agenda.evaluate_ahead=0"),
            "objective: fwt is measured only where tasks are tested before they are learned, and agenda.evaluate_ahead is 0",
        ),
        ((TINY, "-s", "finetune", "--objective", "bwt", "--halving", "1"), "bwt is about earlier tasks"),
        ((TINY, "-s", "finetune", "--threads", "1000"), "a run would take 1000 cores"),
        ((TINY, "-s", "finetune", "--device", "cpu", "--gpus", "1"), "there is none here"),
        ((TINY, "-s", "finetune", "--address", "nowhere:1"), "only --on ray"),
        ((TINY, "-s", "finetune", "--seeds", "1,1"), "seeds must be different"),
        (("nothing.toml", "-s", "finetune"), "there is no file nothing.toml"),
    ],
)
def test_a_mistake_at_the_command_line_gets_a_sentence_and_exit_code_two(
    arguments: tuple[Any, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["sweep", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.rglob("*.h5"))


SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(SCORES, st.integers(1, 4), st.integers(2, 4), st.integers(1, 40), st.sampled_from([1, -1]))
def test_halving_ends_with_the_best_runs_at_the_end_and_every_other_one_dropped(
    scores: list[float], tasks: int, factor: int, length: int, better: int
):
    objective = "acc" if better > 0 else "forgetting"
    options = sweep(objective=objective, halving=HalvingOptions(tasks=tasks, factor=factor))
    names = [f"run{k}" for k in range(len(scores))]
    looks = {name: LogSummary() for name in names}
    learned = 0
    while True:
        found = goals(names, looks, set(), options)
        assert found.keys() == set(names)
        todo = [
            n for n in names if found[n].dropped_at is None and not found[n].waits and looks[n].status != "finished"
        ]
        if not todo:
            break
        # one after the other, as a place with one slot would, so that decisions are asked for in the middle too
        name, until = todo[0], found[todo[0]].until
        end = length if until is None else min(until, length)
        assert end > looks[name].learned or end == length
        learned += end - looks[name].learned
        status = "finished" if end == length else "stopped"
        score = scores[names.index(name)]
        looks[name] = LogSummary(status, end, 0.0, tuple((k, score) for k in range(1, end + 1)))
    ended = [name for name in names if looks[name].status == "finished"]
    assert ended
    best = max(scores) if better > 0 else min(scores)
    assert best in [scores[names.index(name)] for name in ended]
    assert learned <= len(names) * length


def test_halving_waits_for_all_of_a_group_but_not_for_those_given_up():
    options = sweep(halving={"tasks": 2, "factor": 2})
    looks = {
        "a": LogSummary("stopped", 2, 0.0, ((2, 0.5),)),
        "b": LogSummary("stopped", 2, 0.0, ((2, 0.7),)),
        "c": LogSummary(),
    }
    assert goals(list(looks), looks, set(), options)["a"].waits
    found = goals(list(looks), looks, {"c"}, options)
    assert found["a"].dropped_at == 2
    assert (found["b"].until, found["b"].waits, found["b"].dropped_at) == (None, False, None)
    assert "c" not in found


def test_halving_does_not_choose_by_a_score_that_nobody_measured():
    options, unmeasured = sweep(halving={"tasks": 2, "factor": 2}), LogSummary("stopped", 2, 0.0, ((2, math.nan),))
    with pytest.raises(UsageError, match=r"after 2 experience.* none of 2 runs has measured the objective"):
        goals(["a", "b"], {"a": unmeasured, "b": unmeasured}, set(), options)
    measured = LogSummary("stopped", 2, 0.0, ((2, 0.1),))
    assert goals(["a", "b"], {"a": unmeasured, "b": measured}, set(), options)["a"].dropped_at == 2


def test_a_sweep_whose_score_nobody_measured_says_so_and_names_no_best():
    tally = Status(SweepOptions(scenarios=["a"], strategies=["finetune"], objective="fwt"))
    entry = Entry("a", "h", "a", "finetune", [0], {}, False, {})
    tally.enter(entry, "a", LogSummary("running", 1, 1.0, ()))
    assert tally.shown_best() == ""
    tally.enter(entry, "a", LogSummary("finished", 2, 1.0, ((2, math.nan),)))
    assert tally.shown_best() == "no run has measured fwt, so none is the best"


def test_attempts_are_counted_in_the_runs_folder_and_a_torn_line_is_left_out(tmp_path: Path):
    folder = SweepFolder(tmp_path)
    for outcome in ("started", "died", "started", "lost", "started", "stopped", "started", "failed"):
        folder.note("run", outcome, error=f"{outcome}\x1b[2J")
    with (tmp_path / "run" / "attempts.jsonl").open("a") as file:
        file.write('{"outcome": "fail')
    assert folder.given_up("run", 2) is None
    assert folder.given_up("run", 1) == "failed[2J"
    folder.note("run", "pardoned")
    assert folder.given_up("run", 0) is None
    folder.note("run", "refused", error="never")
    assert folder.given_up("run", 100) == "never"


def test_a_run_that_finished_in_the_end_has_not_failed(tmp_path: Path):
    folder = SweepFolder(tmp_path)
    for outcome in ("started", "failed", "started", "finished"):
        folder.note("run", outcome)
    assert folder.given_up("run", 0) is None


def test_whether_a_folder_is_driven_is_found_out_without_making_anything_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert not SweepFolder(tmp_path).driven
    assert not list(tmp_path.iterdir())
    with SweepFolder(tmp_path):
        assert SweepFolder(tmp_path).driven

    def refused(*arguments: Any, **named: Any) -> Any:
        raise PermissionError

    monkeypatch.setattr(FileLock, "acquire", refused)
    assert not SweepFolder(tmp_path).driven


def test_a_nodes_own_folder_is_closed_to_others_and_a_link_in_its_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    own = run_job._private()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    own.rmdir()
    (tmp_path / "elsewhere").mkdir()
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"):
        run_job._private()


def test_a_plan_is_kept_whole_with_an_identity_that_stays(tmp_path: Path):
    entry = Entry("x-1", "1", "tiny", "finetune", [0], {"lr": 1})
    first = SweepFolder(tmp_path).keep({}, [entry], "typed")
    again = SweepFolder(tmp_path)
    assert again.keep({}, [entry, entry], "typed") == first
    assert again.entries == [entry, entry]
    (tmp_path / "sweep.json").write_text('{"format": "other"}')
    with pytest.raises(UsageError, match="was not written by this version"):
        again.plan  # noqa: B018


def test_runs_at_a_time_are_limited_by_what_is_scarce():
    assert slots(ResourceOptions(jobs=1), "cpu", {}).why == "resources.jobs = 1"
    found = slots(ResourceOptions(memory=10_000.0), "cpu", {})
    assert found.count == 1
    assert share_of_gpu(ResourceOptions(gpus=0.25), {}, 1e9) == 0.25
    assert share_of_gpu(ResourceOptions(), {"a": {"gpu": 1e9}, "b": {"gpu": 4e9}}, 24e9) == 1 / 3
    assert share_of_gpu(ResourceOptions(), {"a": {"gpu": 1e6}}, 80e9) == 1 / 8


def test_a_share_of_a_gpu_puts_that_many_runs_on_each_and_each_process_sees_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: SimpleNamespace(total_memory=24e9))
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert slots(ResourceOptions(gpus=0.5, memory=0.001), "auto", {}).devices == ("0", "1", "0", "1")
    assert slots(ResourceOptions(gpus=2, memory=0.001), "auto", {}).devices == ("0,1",)
    assert slots(ResourceOptions(memory=0.001), "cuda:1", {"a": {"gpu": 4e9}}).devices == ("1",) * 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    found = slots(ResourceOptions(memory=0.001), "auto", {})
    assert (found.count, found.devices) == (2, ("5", "7"))
    place = Local(3, 1, found.devices)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in place.slots] == ["5", "7", "5"]
    hidden = slots(ResourceOptions(gpus=0, memory=0.001), "auto", {})
    assert (hidden.count, hidden.devices) == (64, ("",))
    with pytest.raises(UsageError, match="a run would take 3 GPUs, and there are 2"):
        slots(ResourceOptions(gpus=3, memory=0.001), "auto", {})


@pytest.mark.parametrize(("asked", "told"), [("cuda:1", "cuda"), ("cuda", "cuda"), ("cpu", "cpu"), ("auto", "auto")])
def test_a_process_that_sees_one_gpu_is_not_told_the_number_that_it_has_among_all(
    asked: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Told(Exception):
        pass

    def driver(*given: Any, device: str, **named: Any) -> None:
        raise Told(device)

    monkeypatch.setattr("cl_engine.sweep.sweep.Driver", driver)
    with pytest.raises(Told, match=f"^{told}$"):
        Sweep(sweep(), tmp_path / "sweep", device=asked, quiet=True).run()


def test_threads_of_a_process_are_set_for_every_library_that_has_some():
    place = Local(1, 3)
    assert {place.slots[0].environment[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}


def test_a_process_that_is_killed_in_the_middle_of_a_line_has_died(monkeypatch: pytest.MonkeyPatch):
    torn = 'import os, sys; sys.stdout.write(\'{"outcome": {"na\'); sys.stdout.flush(); os.kill(os.getpid(), 9)'
    ours = subprocess.Popen
    monkeypatch.setattr(
        "cl_engine.sweep.local.subprocess.Popen", lambda command, **how: ours([sys.executable, "-c", torn], **how)
    )
    workers = Local(slots=1, threads=1)
    workers.start(Job("run-1", "scenario", "strategy", {}))
    found = workers.wait(30)
    room = workers.room
    workers.close()
    assert [(one.name, one.said) for one in found if isinstance(one, Outcome)] == [("run-1", "died")]
    assert room == 1


def test_an_experiment_reaches_a_worker_whole_also_what_is_newer_than_experiments_on_disk():
    experiment = Experiment.of(TINY, "hat", (0, 1), gradient="exact", clip=None)
    assert "gradient" not in experiment.json and "clip" not in experiment.json
    assert restored(json.loads(json.dumps(told(experiment)))) == experiment
    assert Experiment.of(TINY, "hat", (0, 1)).json != experiment.json
