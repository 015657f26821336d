"""The checkpoints of a run: what is new is appended, the one before is kept, and nothing that happens to files loses both."""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.checkpoints import store as checkpoint_store
from cl_engine.checkpoints.file import load
from cl_engine.checkpoints.store import Store
from cl_engine.core.bank import Bank
from cl_engine.core.tree import leaves_with_path
from cl_engine.errors import UsageError
from cl_engine.events import Event, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.runs.run_folder import RunFolder
from cl_engine.testing.logs import assert_same_facts, facts

Tiny = Callable[..., Experiment]
NAME = "checkpoint.safetensors"


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_store, "LARGE", 1)
    monkeypatch.setattr(checkpoint_store, "SMALL", 1)
    monkeypatch.setattr(checkpoint_store, "SLACK", 0)


def bank(rows: int, fill: float = 0.0, width: int = 5) -> Bank:
    return Bank(torch.arange(2.0 * rows * width).reshape(2, rows, width) + fill)


def copied(state: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return the leaves of a state as they are now."""
    found = {}
    for path, leaf in leaves_with_path(state):
        if isinstance(leaf, Bank):
            found[path] = (leaf.rows.clone(), leaf.written.tolist())
        else:
            found[path] = leaf.clone() if isinstance(leaf, torch.Tensor) else np.copy(leaf)
    return found


def same(one: dict[tuple[str, ...], Any], other: dict[tuple[str, ...], Any]) -> bool:
    if one.keys() != other.keys():
        return False
    for path, leaf in one.items():
        if isinstance(leaf, tuple):
            if not torch.equal(leaf[0], other[path][0]) or leaf[1] != other[path][1]:
                return False
        elif isinstance(leaf, torch.Tensor):
            if leaf.dtype != other[path].dtype or not torch.equal(leaf, other[path]):
                return False
        elif not np.array_equal(leaf, other[path]):
            return False
    return True


def loaded(path: Path) -> dict[tuple[str, ...], Any]:
    found = Store(path).load()
    assert found is not None
    return copied(found)


CHANGES = (
    "append",
    "overwrite",
    "several again",
    "shorter",
    "new bank",
    "other tensor",
    "same tensor",
    "array",
    "save",
    "reopen",
)


@given(st.lists(st.sampled_from(CHANGES), max_size=40), st.booleans())
@settings(max_examples=50, deadline=None)
def test_whatever_changes_between_saves_the_last_save_is_what_is_loaded(
    tmp_path_factory: Any, changes: list[str], large: bool
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_store, "LARGE", 1 if large else 150)
        patch.setattr(checkpoint_store, "SMALL", 100)
        patch.setattr(checkpoint_store, "SLACK", 100)
        path = tmp_path_factory.mktemp("store") / NAME
        state: dict[str, Any] = {"bank": bank(2), "net": {"w": torch.ones(2, 30)}, "seen": np.zeros(40), "step": 0}
        store = Store(path)
        for number, change in enumerate([*changes, "save"]):
            row = torch.full((2, 5), float(number))
            if change == "append":
                state["bank"].put(len(state["bank"]), row)
            elif change == "overwrite":
                state["bank"].put(number % len(state["bank"]), row)
            elif change == "several again":
                places = torch.arange(0, len(state["bank"]), 2)
                state["bank"].put_again(places, row.unsqueeze(1).expand(-1, len(places), -1))
            elif change == "shorter":
                state["bank"].keep_first(max(1, len(state["bank"]) - 2))
            elif change == "new bank":
                state["bank"] = bank(1 + number % 4, number)
            elif change == "other tensor":
                state["net"] = {"w": torch.full((2, 30), float(number)).to(torch.bfloat16)}
            elif change == "same tensor":
                state["net"] = {"w": state["net"]["w"].clone()}
            elif change == "array":
                state["seen"][number % 40] = number
            elif change == "save":
                state["step"] = number
                store.save(state)
                assert same(loaded(path), copied(state))
                assert same(copied(load(path)), copied(state))
            elif path.exists():
                store = Store(path)
                state = store.load() or state


def test_a_bank_of_many_rows_is_saved_at_the_price_of_its_new_rows(tmp_path: Path):
    store, skills = Store(tmp_path / NAME), Bank.empty(1, (4096,))
    written = []
    for task in range(100):
        skills.put(task, torch.rand(1, 4096))
        written.append(store.save({"skills": skills}))
    assert sum(written[10:]) < 1.5 * 90 * 4096 * 4
    assert max(written[10:]) < 2 * 4096 * 4
    assert torch.equal(loaded(tmp_path / NAME)["skills",][0], skills.rows)


def test_a_large_tensor_that_stays_as_it_is_is_written_twice_and_no_more(tmp_path: Path):
    store = Store(tmp_path / NAME)
    state = {"backbone": torch.rand(1, 100_000), "net": torch.rand(1, 100)}
    written = []
    for _ in range(6):
        state["net"] = torch.rand(1, 100)
        state["backbone"] = state["backbone"].clone()  # equal is enough
        written.append(store.save(state))
    assert min(written[:2]) > 400_000
    assert max(written[2:]) < 10_000
    state["backbone"][0, 0] += 1
    store.save(state)
    assert same(loaded(tmp_path / NAME), copied(state))


def test_many_tensors_that_stay_as_they_are_are_not_written_again_though_each_is_small(tmp_path: Path):
    store, blocks, written = Store(tmp_path / NAME), {}, []
    for number in range(40):
        blocks[f"{number}"] = {"decoder": torch.rand(1, 4_000)}
        written.append(store.save({"blocks": blocks}))
    assert max(written[20:]) < 4 * 16_000 + 20_000  # the newest, the one before, and where the others are
    assert same(loaded(tmp_path / NAME), copied({"blocks": blocks}))


def test_where_all_changes_every_time_there_is_one_file_and_no_more_on_disk_than_two_states(tmp_path: Path):
    store = Store(tmp_path / NAME)
    for _ in range(5):
        store.save({"net": torch.rand(2, 50_000)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.safetensors", NAME]


def test_rows_written_again_and_again_do_not_pile_up(tmp_path: Path):
    store, rows = Store(tmp_path / NAME), bank(40, width=1000)
    for number in range(300):
        rows.put(number % 40, torch.full((2, 1000), float(number)))
        store.save({"rows": rows})
    held = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert held < 5 * rows.rows.numel() * 4 + 3 * 2**20
    assert same(loaded(tmp_path / NAME), copied({"rows": rows}))
    store.keep_newest_only()
    assert not store.previous.exists()
    assert same(loaded(tmp_path / NAME), copied({"rows": rows}))


@pytest.mark.usefixtures("everything_is_large")
@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damage_to_any_one_file_is_noticed_and_answered_with_the_checkpoint_before(
    tmp_path_factory: Any, data: st.DataObject
):
    path = tmp_path_factory.mktemp("damage") / NAME
    store, state = Store(path), {"bank": bank(3), "net": torch.ones(2, 8), "step": 0}
    saved = []
    for step in range(4):
        state["step"] = step
        state["bank"].put(len(state["bank"]), torch.full((2, 5), float(step)))
        store.save(state)
        saved.append(copied(state))
    hurt = data.draw(st.sampled_from(sorted(path.parent.iterdir())))
    whole = hurt.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        hurt.write_bytes(whole[:place])
    else:
        hurt.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    again = Store(path)
    try:
        found = again.load()
    except UsageError as error:
        assert hurt.suffix == ".blocks"  # both checkpoints need what it held
        assert str(hurt) in str(error)
        return
    assert found is not None
    if again.damaged:
        assert same(copied(found), saved[-2])
        assert str(hurt) in again.damaged
    else:
        assert same(copied(found), saved[-1])
    found["bank"].put(0, torch.zeros(2, 5))
    again.save(found)  # and from there it goes on
    assert same(loaded(path), copied(found))


class Killed(BaseException):
    pass


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the process die at the n-th thing it does to files; return how many it has done so far."""
    done = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done > number:
                raise Killed
            return function(*arguments, **named)

        return counted

    monkeypatch.setattr(os, "fsync", counting(os.fsync))
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, counting(getattr(Path, name)))
    monkeypatch.setattr(checkpoint_store.Contents, "write", counting(checkpoint_store.Contents.write))
    return lambda: done


def saves(store: Store) -> Iterator[dict[str, Any]]:
    state = {"bank": bank(2), "net": torch.ones(2, 8), "step": 0}
    for step in range(9):
        state["step"] = step
        state["bank"].put(step % 3, torch.full((2, 5), float(step)))
        if step == 4:
            state["bank"] = bank(4, step)
        yield state
        store.save(state)


@pytest.mark.usefixtures("everything_is_large")
def test_a_kill_between_any_two_things_done_to_files_leaves_this_save_or_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    number, dead = 0, True
    while dead:
        path = tmp_path / str(number) / NAME
        path.parent.mkdir()
        at_hand: list[dict[tuple[str, ...], Any]] = []
        with monkeypatch.context() as patch:
            killed_at(number, patch)
            try:
                at_hand.extend(map(copied, saves(Store(path))))
                dead = False
            except Killed:
                dead = True
        store = Store(path)
        found = store.load()
        assert not store.damaged
        if found is None:
            assert len(at_hand) == 1
        else:
            assert any(same(copied(found), each) for each in at_hand[-2:])
            store.save(found)
            assert same(loaded(path), copied(found))
        number += 1
    assert number > 50


def test_what_another_run_left_is_never_gone_on_from_once_this_one_has_saved(tmp_path: Path):
    other = Store(tmp_path / NAME)
    for _ in range(3):
        other.save({"skills": bank(3, width=20_000), "step": 99})
    mine = Store(tmp_path / NAME)
    mine.save({"step": 0})
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(UsageError, match="is damaged"):
        Store(tmp_path / NAME).load()


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about["rows"]["bank"].update(shape=[2, 2**40]),
        lambda about: about["rows"]["bank"].update(shape=[2, -5]),
        lambda about: about["rows"]["bank"].update(dtype="object"),
        lambda about: about["rows"].update(other={"dtype": "float32", "shape": [1]}),
        lambda about: about["order"].append("other"),
        lambda about: about.update(order=about["order"][::-1][:1]),
        lambda about: about["blocks"]["net"].update(file="1/../../secret"),
        lambda about: about["blocks"]["net"].update(at=-16),
        lambda about: about["blocks"]["net"].update(shape="long"),
        lambda about: about.update(more={}),
    ],
)
@pytest.mark.usefixtures("everything_is_large")
def test_a_checkpoint_that_lies_about_its_blocks_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]
):
    path = tmp_path / NAME
    store, state = Store(path), {"bank": bank(3), "net": torch.ones(2, 8)}
    store.save(state)
    dumps = json.dumps

    def lying(about: dict[str, Any]) -> str:
        lie = copy.deepcopy(about)
        change(lie)
        return dumps(lie)

    monkeypatch.setattr(json, "dumps", lying)
    store.save(state)
    monkeypatch.undo()
    store.previous.unlink()
    with pytest.raises(UsageError, match=r"damaged|no checkpoint|cannot be read"):
        Store(path).load()


class Cut(BaseException):
    pass


def cut_at(step: int) -> Callable[[Event], None]:
    def cut(event: Event) -> None:
        if isinstance(event, TaskLearned) and event.step == step:
            raise Cut

    return cut


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("strategy", ["independent", "replay"])
def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_and_ends_the_same(
    tiny: Tiny, tmp_path: Path, strategy: str, caplog: pytest.LogCaptureFixture
):
    experiment = tiny(strategy, **{"stream.n": 5})
    whole = facts(experiment.run(tmp_path / "whole") / "log.h5")
    with pytest.raises(Cut):
        experiment.run(tmp_path / "cut", listeners=lambda stream: [cut_at(3)])
    path = tmp_path / "cut" / NAME
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING, "cl_engine"):
        experiment.run(tmp_path / "cut")
    assert f"{path} is damaged" in caplog.text
    assert "going on from the checkpoint before, after experience 1" in caplog.text
    assert_same_facts(facts(tmp_path / "cut" / "log.h5"), whole)


@pytest.mark.usefixtures("everything_is_large")
def test_the_files_a_run_goes_on_from_are_told_and_are_enough(tiny: Tiny, tmp_path: Path):
    experiment = tiny("independent", **{"stream.n": 5})
    with pytest.raises(Cut):
        experiment.run(tmp_path / "here", listeners=lambda stream: [cut_at(3)])
    (tmp_path / "there").mkdir()
    names = RunFolder.to_go_on(tmp_path / "here")
    assert all(map(RunFolder.is_to_go_on, names))
    assert not RunFolder.is_to_go_on("../checkpoint.1.blocks")
    for name in names:
        shutil.copy(tmp_path / "here" / name, tmp_path / "there" / name)
    heard: list[int] = []
    experiment.run(tmp_path / "there", listeners=lambda stream: [lambda event: heard.append(event.step)])
    assert min(heard) >= 2
    assert_same_facts(facts(tmp_path / "there" / "log.h5"), facts(experiment.run(tmp_path / "whole") / "log.h5"))
    removed = RunFolder.cleared(tmp_path / "here")
    assert {path.name for path in removed} == set(names)
    assert [path.name for path in (tmp_path / "here").iterdir()] == [".lock"]


def test_files_may_be_read_by_whom_the_umask_lets(tmp_path: Path):
    Store(tmp_path / NAME).save({"net": torch.zeros(1, 3)})
    plain = tmp_path / "plain"
    plain.write_text("as any program writes it")
    assert (tmp_path / NAME).stat().st_mode == plain.stat().st_mode
