"""Scenarios and experiments: what is resolved, and what is refused before the first step."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results import open_run
from cl_engine.runs.scenario import FOLDER, Scenario, parsed, scenario_names
from tests.conftest import STRATEGIES, TINY

Tiny = Callable[..., Experiment]


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_on_file_resolves_and_begins_with_what_it_is(name: str):
    text = (FOLDER / f"{name}.toml").read_text()
    assert text.startswith("# ")
    scenario = Scenario.load(name)
    strategies = [*scenario.tables.get("strategy", {}), "finetune"]
    for strategy in strategies:
        assert Experiment.of(name, strategy).resolved["stream"]["name"] == scenario.tables["stream"]["name"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_experiments_have_equal_hashes_and_any_option_changes_them(tiny: Tiny, strategy: str):
    one = tiny(strategy)
    assert one.hash == tiny(strategy).hash
    others = [
        tiny(strategy, seeds=(0, 2)),
        tiny(strategy, **{"train.lr": 0.02}),
        tiny(strategy, **{"net.hidden": [13]}),
        tiny(strategy, **{"stream.n": 2}),
        tiny(strategy, **{"agenda.save_every": 3}),
    ]
    assert len({one.hash, *(other.hash for other in others)}) == 6


def test_an_option_set_to_its_default_is_the_same_experiment(tiny: Tiny):
    assert tiny("replay").hash == tiny("replay", samples=500).hash
    assert tiny("finetune").folder.name.startswith("tiny-finetune-")


def test_an_option_that_is_newer_than_experiments_on_disk_leaves_them_as_they_are_until_it_is_set(tiny: Tiny):
    assert "leftover" not in tiny("finetune").json
    assert tiny("finetune").hash == tiny("finetune", **{"train.leftover": "keep"}).hash
    assert tiny("finetune", **{"train.leftover": "merge"}).resolved["train"]["leftover"] == "merge"


def test_a_schedule_that_is_not_asked_for_leaves_experiments_on_disk_as_they_are(tiny: Tiny):
    assert "schedule" not in tiny("finetune").json
    assert tiny("finetune").hash == tiny("finetune", **{"train.schedule": "constant"}).hash
    assert tiny("finetune", **{"train.schedule": "cosine"}).resolved["train"]["schedule"] == "cosine"


def test_an_option_that_came_later_leaves_experiments_their_name_at_the_value_of_before(tiny: Tiny):
    assert tiny("finetune").hash == "54b3077476"  # as in version 0.1
    assert tiny("finetune", **{"net.init": "kaiming"}).hash != tiny("finetune").hash
    exact, released = tiny("hat", gradient="exact", clip=None), tiny("hat")
    assert exact.resolved["strategy"]["gradient"] == "exact"
    assert "gradient" not in exact.json and '"gradient": "released"' in released.json


def test_settings_reach_every_table_and_the_strategy_and_go_before_the_scenario(tiny: Tiny):
    made = tiny(
        "piggyback", **{"train.epochs": 7, "stream.n": 2, "net.hidden": [3, 4], "agenda.save_every": 5, "mask_lr": 0.5}
    )
    assert made.resolved["train"]["epochs"] == 7
    assert made.resolved["stream"]["n"] == 2
    assert made.resolved["net"]["hidden"] == [3, 4]
    assert made.resolved["agenda"]["save_every"] == 5
    assert made.resolved["strategy"]["mask_lr"] == 0.5


def test_naming_another_net_leaves_the_options_of_the_scenarios_net_behind(tiny: Tiny):
    assert tiny("finetune", **{"net.name": "resnet18", "net.width": 4}).resolved["net"]["width"] == 4
    assert tiny("finetune", **{"net.name": "mlp"}).resolved["net"]["hidden"] == [12, 12, 12]


def test_a_strategys_table_holds_for_that_strategy_alone_and_may_change_its_training():
    tables = tomllib.loads(TINY.read_text())
    tables["strategy"]["replay"] = {"samples": 9, "train": {"epochs": 4}}
    scenario = Scenario.of("mine", tables)
    replay, other = (Experiment.of(scenario, name) for name in ("replay", "finetune"))
    assert replay.resolved["strategy"]["samples"] == 9
    assert (replay.resolved["train"]["epochs"], other.resolved["train"]["epochs"]) == (4, 2)


def test_a_strategys_backbone_is_a_table_or_an_option_of_its_own():
    tables = Scenario.load(TINY).tables
    own = {"packnet": {"backbone": "overwritten"}, "adapt": {"backbone": {"source": "digits"}}}
    scenario = Scenario.of("both", {**tables, "strategy": own})
    assert Experiment.of(scenario, "packnet").resolved["strategy"]["backbone"] == "overwritten"
    assert "backbone" not in Experiment.of(scenario, "packnet").resolved
    assert Experiment.of(scenario, "adapt").resolved["backbone"]["source"] == "digits"
    with pytest.raises(UsageError, match=r"no option named .strategy\.replay\.backbone."):
        Experiment.of(Scenario.of("odd", {**tables, "strategy": {"replay": {"backbone": "kept"}}}), "replay")


def test_a_strategys_table_may_change_its_net_or_name_another():
    tables = tomllib.loads(TINY.read_text())
    tables["strategy"] |= {"replay": {"net": {"init": "kaiming"}}, "joint": {"net": {"name": "resnet18", "width": 4}}}
    scenario = Scenario.of("mine", tables)
    assert Experiment.of(scenario, "replay").resolved["net"] == {
        **Experiment.of(scenario, "finetune").resolved["net"],
        "init": "kaiming",
    }
    assert Experiment.of(scenario, "joint").resolved["net"]["width"] == 4
    with pytest.raises(UsageError, match=r"strategy\.replay\.net must be a table, found 'mlp'"):
        Experiment.of(Scenario.of("mine", {**tables, "strategy": {"replay": {"net": "mlp"}}}), "replay")


def test_the_table_of_a_strategy_that_there_is_not_is_refused_with_the_nearest_and_one_by_its_module_is_not():
    tables = Scenario.load(TINY).tables
    for name, sentence in (("reply", r"did you mean 'replay'\?"), ("EWC", "it is 'ewc' here")):
        odd = Scenario.of("odd", {**tables, "strategy": {name: {"samples": 9}}})
        with pytest.raises(UsageError, match=rf"scenario 'odd', \[strategy\.{name}\]: .*{sentence}"):
            Experiment.of(odd, "replay")
    named = {"my_module:Mine": {}, "mine.py:Mine": {}, "avalanche:EWC": {}, "replay": {"samples": 9}}
    found = Experiment.of(Scenario.of("own", {**tables, "strategy": named}), "replay")
    assert found.resolved["strategy"]["samples"] == 9


def test_seeds_are_a_number_of_them_or_a_list_and_anything_else_is_refused(tiny: Tiny):
    assert Experiment.of(TINY, "finetune", seeds=3) == Experiment.of(TINY, "finetune", seeds=(0, 1, 2))
    assert Experiment.of(TINY, "finetune", seeds=np.arange(2)).json == tiny("finetune", (0, 1)).json
    odd: tuple[Any, ...] = ("abc", (0.5,), (True, 2.0), (), (0, 0), (-1,), (2**63,), None, 0.5, True, 0, 10**9, ["1"])
    for seeds in odd:
        with pytest.raises(UsageError, match="seeds"):
            Experiment.of(TINY, "finetune", seeds)


def test_a_log_whose_options_would_do_nothing_is_read_still_as_it_was_begun_when_nobody_asked(tmp_path: Path):
    before = replace(Scenario.load(TINY), logged=True)
    folder = Experiment.of(before, "finetune", **{"agenda.online_batches": 3, "stream.n": 1}).run(
        tmp_path, device="cpu"
    )
    assert open_run(folder).load().tasks == (0,)


def test_what_is_no_scenario_is_refused_with_how_one_is_made():
    with pytest.raises(UsageError, match=r"found a dict: of tables one is made by Scenario\.of\(name, tables\)"):
        Experiment.of(dict(Scenario.load(TINY).tables), "finetune")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strategy", "overrides", "sentence"),
    [
        ("finetun", {}, r"no strategy named 'finetun' \(did you mean 'finetune'\?\); there are: .*replay"),
        ("finetune", {"pull": 1}, "no option named 'strategy.finetune.pull'; there are: none"),
        (
            "finetune",
            {"lr": 0.1},
            r"no option named 'strategy.finetune.lr' \(did you mean 'train.lr'\?\); there are: none",
        ),
        ("finetune", {"samples_per_class": 2}, r"\(did you mean 'stream.samples_per_class'\?\)"),
        ("finetune", {"hidden": [2]}, r"\(did you mean 'net.hidden'\?\)"),
        ("replay", {"sample": 1}, r"no option named 'strategy.replay.sample' \(did you mean 'strategy.replay.samples'"),
        ("replay", {"samples": 0}, r"strategy.replay.samples: input should be greater than or equal to 1, found 0"),
        ("replay", {"selection": "best"}, "strategy.replay.selection: .*'reservoir', .* or 'herding', found \"best\""),
        ("finetune", {"train.epoch": 1}, r"no option named 'train.epoch' \(did you mean 'train.epochs'"),
        ("finetune", {"train.epochs": "two"}, 'train.epochs: input should be a valid integer, found "two"'),
        ("finetune", {"train.epochs": 1.5}, "train.epochs: .*integer"),
        ("finetune", {"train.lr": float("nan")}, "train.lr"),
        ("finetune", {"train.optimizer": "sdg"}, "no optimiser 'sdg' in torch.optim; there are: .*sgd"),
        ("finetune", {"trian.lr": 1}, r"no table 'trian' \(did you mean 'train.lr'\?\)"),
        ("finetune", {"strategy.finetune.x": 1}, "options of the strategy have no dot"),
        ("finetune", {"stream.source": "mnits"}, r"no source named 'mnits' \(did you mean 'mnist'"),
        ("finetune", {"stream.name": "permute"}, r"no stream named 'permute' \(did you mean 'permuted'"),
        ("finetune", {"net.name": "mpl"}, r"no net named 'mpl' \(did you mean 'mlp'"),
        ("finetune", {"agenda.evaluate_every": -1}, "agenda.evaluate_every"),
        ("finetune", {"net.hidden": 3}, "net.hidden: input should be a valid (list|array), found 3"),
        ("nowhere:Thing", {}, "the strategy 'nowhere:Thing' cannot be imported"),
        ("json:JSONDecoder", {}, "is not a strategy: it must be a subclass of cl_engine.strategy.Strategy"),
    ],
)
def test_what_is_unknown_or_wrong_is_refused_by_name_with_what_is_allowed(
    tiny: Tiny, strategy: str, overrides: dict[str, Any], sentence: str
):
    with pytest.raises(UsageError, match=sentence):
        tiny(strategy, **overrides)


def test_all_that_is_wrong_in_a_table_is_said_at_once(tiny: Tiny):
    with pytest.raises(UsageError) as error:
        tiny("finetune", **{"train.epochs": 0, "train.batch": "big", "train.speed": 1})
    assert all(key in str(error.value) for key in ("train.epochs", "train.batch", "train.speed"))


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,)])
def test_seeds_must_be_different_numbers_from_zero(tiny: Tiny, seeds: tuple[int, ...]):
    with pytest.raises(UsageError, match="seeds must be different whole numbers from 0 to"):
        tiny("finetune", seeds)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stream = 3", "stream must be a table"),
        ("[stream]\nname='split'", r"the table \[net\] with a name"),
        ("[stream]\nsource='digits'\n[net]\nname='mlp'", r"the table \[stream\] with a name"),
        ("[stream]\nname='split'\n[net]\nname='mlp'\n[trian]\n", r"no table named 'trian' \(did you mean 'train'"),
        ("[stream", "is not TOML"),
        ("[stream]\nname='split'\n[net]\nname='mlp'\n[strategy]\nreplay=1", "strategy.replay must be a table"),
        ("[stream]\nname='split'\nn=2\n[net]\nname='mlp'", "stream.source is missing"),
        ("[stream]\nname='split'\nsource='digits'\nn=2024-01-01\n[net]\nname='mlp'", "stream.n: a date is not allowed"),
    ],
)
def test_a_scenario_file_that_is_not_one_is_refused_with_its_place(tmp_path: Path, text: str, sentence: str):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        Experiment.of(tmp_path / "mine.toml", "finetune")


def test_a_scenario_that_is_nowhere_is_refused_with_those_that_are():
    with pytest.raises(
        UsageError, match=r"no scenario \(nor file\) named 'permuted_mnits' \(did you mean 'permuted_mnist'"
    ):
        Scenario.load("permuted_mnits")


@given(
    st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.lists(st.integers()))
)
def test_set_reads_values_as_toml(value: Any):
    assert parsed(f"a.b={json.dumps(value)}") == ("a.b", value)


def test_set_reads_what_is_not_toml_as_text_and_refuses_what_has_no_value():
    assert parsed("stream.source=mnist") == ("stream.source", "mnist")
    assert parsed("a=b=c") == ("a", "b=c")
    for wrong in ("train.lr", "=3"):
        with pytest.raises(UsageError, match="write KEY=VALUE"):
            parsed(wrong)
