"""Zoos: the nets of runs as rows of numbers, and a source of starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.learners import Learner, load
from cl_engine.learners.zoo import pack
from cl_engine.results import open_run, open_zoo
from cl_engine.results.zoo import Zoo

Tiny = Callable[..., Experiment]
SMALL = {"stream.n": 2, "agenda.curve_batches": 0, "agenda.evaluate_ahead": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def packed(folder: Path) -> Zoo:
    """Two runs with a net a task, and one with a net for all."""
    runs = [
        Experiment.of("tests/tiny.toml", "independent", (0, 1), **SMALL),
        Experiment.of("tests/tiny.toml", "piggyback", (0,), **SMALL),
        Experiment.of("tests/tiny.toml", "finetune", (0, 1), **SMALL, **{"stream.setting": "domain"}),
    ]
    folders = [run.run(folder / f"run{k}", device="cpu") for k, run in enumerate(runs)]
    return pack(folders, folder / "zoo.h5")


def test_every_task_and_seed_has_a_row_with_its_scores(packed: Zoo, folder: Path):
    table = packed.table
    assert table["row"].tolist() == list(range(8))
    assert table[["run", "task", "seed"]].values.tolist() == [
        *([0, task, seed] for task in (0, 1) for seed in (0, 1)),
        *([1, task, 0] for task in (0, 1)),
        *([2, -1, seed] for seed in (0, 1)),
    ]
    scores = open_run(folder / "run0").results["score"].values
    np.testing.assert_allclose(table["score"][:4], scores[-1].reshape(-1))
    whole = open_run(folder / "run2").results["score"].values
    np.testing.assert_allclose(table["score"][6:], whole[-1].mean(axis=0))
    learned = [(whole[0, 0, seed] + whole[1, 1, seed]) / 2 for seed in (0, 1)]
    np.testing.assert_allclose(table["score_learned"][6:], learned)
    assert [run["strategy"] for run in packed.runs] == ["independent", "piggyback", "finetune"]


def test_rows_are_the_weights_that_a_task_is_answered_with(packed: Zoo, folder: Path):
    for row, (run, task, seed) in {2: ("run0", 1, 0), 5: ("run1", 1, 0), 7: ("run2", None, 1)}.items():
        wanted = load(folder / run).state_dict(task, seed)
        found = packed.state_dict(row)
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], wanted[name].numpy()) for name in wanted)
    (alike,) = packed.nets
    assert alike.weights().shape == (8, sum(tensor.size for tensor in packed.state_dict(0).values()))
    assert json.loads(packed.runs[0]["experiment"])["options"]["net"] == alike.net


def test_a_scenario_starts_from_a_net_of_a_zoo(packed: Zoo, tmp_path: Path):
    experiment = Experiment.of(
        "tests/tiny.toml", "head_only", (0,), **SMALL, **{"backbone.file": f"{packed.path}?row=3"}
    )
    stream = experiment.stream()
    backbone = experiment.backbone(stream)
    start = experiment.build_strategy(stream, backbone).net.init([0])
    body = {
        name: tensor for name, tensor in packed.state_dict(3).items() if name in start and not name.startswith("head")
    }
    assert body
    assert all(np.array_equal(start[name][0].numpy(), tensor) for name, tensor in body.items())
    assert backbone.about["origin"] == f"zoo {packed.path}, row 3"


def test_what_is_no_zoo_or_no_row_is_refused_in_a_sentence(packed: Zoo, tmp_path: Path):
    def start(named: str) -> None:
        experiment = Experiment.of("tests/tiny.toml", "head_only", (0,), **SMALL, **{"backbone.file": named})
        experiment.backbone(experiment.stream())

    with pytest.raises(UsageError, match="has the nets 0 to 7"):
        start(f"{packed.path}?row=8")
    with pytest.raises(UsageError, match="is a zoo of many nets: say which"):
        start(str(packed.path))
    with pytest.raises(UsageError, match="cannot be read as a zoo"):
        open_zoo(tmp_path / "nowhere.h5")
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(UsageError, match="is no zoo"):
        open_zoo(tmp_path / "other.h5")
    broken = tmp_path / "broken.h5"
    broken.write_bytes(packed.path.read_bytes())
    with h5py.File(broken, "r+") as file:
        del file["nets/0/score"]
    with pytest.raises(UsageError, match="is not a whole zoo"):
        open_zoo(broken)


def test_the_command_packs_runs_and_leaves_out_what_has_no_net_of_a_task(
    packed: Zoo, folder: Path, tiny: Tiny, caplog: pytest.LogCaptureFixture
):
    odd = tiny("supsup", (0,), **SMALL, **{"stream.setting": "domain"}).run(folder / "odd", device="cpu")
    result = CliRunner().invoke(main, ["zoo", str(folder / "run0"), str(odd), "-o", str(folder / "some.h5")])
    assert result.exit_code == 0, result.output
    assert f"{folder / 'some.h5'}: 4 nets of 1 runs" in result.output
    assert "is left out: the strategy 'supsup' has no weights of one task here" in caplog.text
    none = CliRunner().invoke(main, ["zoo", str(odd), "-o", str(folder / "none.h5")])
    assert none.exit_code == 2
    assert "there is no net in these runs" in none.stderr
    assert not (folder / "none.h5").exists()


def test_a_run_of_which_some_tasks_have_no_net_keeps_its_number(
    packed: Zoo, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = Learner.state_dict

    def but_task_1(self: Learner, task: int | None = None, seed: int | None = None) -> dict[str, torch.Tensor]:
        if self.run.strategy == "independent" and task == 1:
            raise UsageError("rows decide")
        return whole(self, task, seed)

    monkeypatch.setattr(Learner, "state_dict", but_task_1)
    found = pack([folder / "run0", folder / "run1"], folder / "part.h5")
    assert found.table[["run", "task"]].values.tolist() == [[0, 0], [0, 0], [1, 0], [1, 1]]
    assert [run["strategy"] for run in found.runs] == ["independent", "piggyback"]
