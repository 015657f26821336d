"""Banks, checkpoints and rehearsal: what a state is made of, and how it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.checkpoints.file import load, save
from cl_engine.core.bank import Bank
from cl_engine.core.state import Memory, bytes_by_part, check_state
from cl_engine.errors import UsageError
from cl_engine.training.rehearsal import balanced, reservoir

STATE: dict[str, Any] = {
    "net": {"layer.weight": torch.arange(6.0).reshape(2, 3), "flags": torch.tensor([[True], [False]])},
    "bank": Bank(torch.arange(8, dtype=torch.uint8).reshape(2, 4)),
    "count": 3,
    "rate": 0.1,
    "names": ["a", "b"],
    "empty": torch.zeros(2, 0),
}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_a_bank_holds_the_last_row_written_to_each_place(places: list[int]):
    bank, rows, writes = Bank.empty(2, (3,)), {}, {}
    for number, place in enumerate(places):
        index = min(place, len(bank))
        row = torch.full((2, 3), float(number))
        bank.put(index, row)
        rows[index], writes[index] = row, writes.get(index, 0) + 1
    assert len(bank) == len(rows)
    assert all(torch.equal(bank[index], row) for index, row in rows.items())
    assert [bank.writes(index) for index in range(len(bank) + 1)] == [*(writes[i] for i in range(len(bank))), 0]
    assert bank.rows.shape == (2, len(bank), 3)


@given(st.lists(st.tuples(st.sampled_from(["put", "again", "first"]), st.integers(0, 12)), max_size=40))
def test_a_bank_is_what_was_done_to_it_whether_row_by_row_or_at_once(done: list[tuple[str, int]]):
    bank, model = Bank.empty(1, (2,), torch.int64), []
    for number, (what, place) in enumerate(done):
        before = bank.stamps
        if what == "put":
            index = min(place, len(model))
            bank.put(index, torch.tensor([[number, place]]))
            model[index : index + 1] = [(number, place)]
        elif what == "again":
            rows = torch.arange(0, min(place, len(model)), 2)
            bank.put_again(rows, torch.stack([rows, rows + number], dim=1).unsqueeze(0))
            for row in rows.tolist():
                model[row] = (row, row + number)
                assert bank.stamps[row] > before.max()
        else:
            bank.keep_first(place)
            del model[place:]
        assert [bank.numbers(row) for row in range(len(bank))] == model
        assert bank.rows[0].tolist() == [list(row) for row in model]


def test_a_bank_that_lost_rows_goes_on_counting_the_writes_of_their_places():
    bank = Bank.empty(1, (1,))
    for _ in range(3):
        bank.put(0, torch.zeros(1, 1))
    bank.keep_first(0)
    assert (len(bank), bank.writes(0)) == (0, 0)
    bank.put(0, torch.zeros(1, 1))
    assert bank.writes(0) == 4
    with pytest.raises(IndexError, match=r"rows \[0, 1\] of a bank that holds 1"):
        bank.put_again(torch.tensor([0, 1]), torch.zeros(1, 2, 1))


def test_a_bank_refuses_to_leave_rows_out_or_to_give_what_it_does_not_hold():
    bank = Bank.empty(1, (2,))
    with pytest.raises(IndexError, match="cannot follow the 0 rows"):
        bank.put(1, torch.zeros(1, 2))
    with pytest.raises(IndexError, match="row 0 of a bank that holds 0"):
        bank[0]


def test_memory_counts_a_seeds_share_and_what_is_shared_whole_and_held_rows_only():
    bank = Bank.empty(4, (5,), torch.uint8)
    for row in range(3):
        bank.put(row, torch.zeros(4, 5, dtype=torch.uint8))
    state = {"net": {"w": torch.zeros(4, 10)}, "data": torch.zeros(1, 7, dtype=torch.float64), "bank": bank, "n": 1}
    assert bytes_by_part(state) == {"net": 40, "data": 56, "bank": 15, "n": 8}


def test_what_is_as_the_seeds_drew_it_and_diagnostics_are_told_apart_and_all_else_counts():
    drawn = {"net": {"w": torch.rand(2, 3), "b": torch.zeros(2, 1)}, "n": 0, "rows": Bank.empty(2, (4,))}
    rows = Bank.empty(2, (4,))
    rows.put(0, torch.zeros(2, 4))
    memory = Memory(drawn)
    state = {**drawn, "net": {**drawn["net"], "b": torch.ones(2, 1)}, "rows": rows, "diagnostics": torch.zeros(2, 5)}
    assert memory.by_part(state) == ({"net": 4, "n": 8, "rows": 16}, {"net": 12, "diagnostics": 20})
    for other in (drawn["net"]["w"].double(), drawn["net"]["w"][:, :2]):  # the same numbers in another form are others
        assert Memory(drawn).by_part({"net": {"w": other}})[1] == {}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ([], "must return a dict"),
        ({"net": np.zeros(2)}, r"state\['net'\] is a ndarray"),
        ({"a": {"b": torch.zeros(3, 2)}}, r"state\['a'\]\['b'\] is a tensor of shape \(3, 2\)"),
        ({"a": torch.tensor(1.0)}, "its first axis must be the 2 seeds"),
        ({"a/b": 1}, "key that is not a string without '/'"),
        ({"a": "text"}, "is a str"),
    ],
)
def test_a_state_that_cannot_be_saved_is_refused_with_the_entry_named(state: Any, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        check_state(state, 2, "mine")


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path):
    size = save(tmp_path / "state", STATE)
    found = load(tmp_path / "state")
    assert size == (tmp_path / "state").stat().st_size
    assert found["count"] == 3
    assert found["rate"] == 0.1
    assert found["names"] == ["a", "b"]
    assert torch.equal(found["net"]["layer.weight"], STATE["net"]["layer.weight"])
    assert found["net"]["flags"].dtype == torch.bool
    assert torch.equal(found["bank"].rows, STATE["bank"].rows)
    assert found["bank"].written.tolist() == STATE["bank"].written.tolist()
    assert found["empty"].shape == (2, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_checkpoint_with_any_byte_changed_or_cut_off_is_refused_and_never_misread(
    tmp_path_factory: Any, data: st.DataObject
):
    path = tmp_path_factory.mktemp("damage") / "state"
    save(path, STATE)
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    path.write_bytes(damaged)
    try:
        found = load(path)
    except UsageError as error:
        assert str(path) in str(error)
    else:  # a byte of padding, or of a name of the format that carries no content
        assert torch.equal(found["net"]["layer.weight"], STATE["net"]["layer.weight"])
        assert found["count"] == 3


@given(st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 99))
def test_a_reservoir_holds_as_many_as_fit_each_row_once(room: int, arrivals: list[int], seed: int):
    kept, seen = np.array([], dtype=int), 0
    for number, new in enumerate(arrivals):
        index = reservoir(len(kept), seen, new, room, np.random.default_rng(seed + number))
        kept = np.concatenate([kept, seen + np.arange(new)])[index]
        seen += new
        assert len(kept) == len(set(kept)) == min(room, seen)


def test_a_reservoir_keeps_early_and_late_rows_equally_often():
    counts = np.zeros(60)
    for seed in range(4000):
        draw = np.random.default_rng(seed)
        kept = np.arange(20)[reservoir(0, 0, 20, 10, draw)]
        for start in (20, 40):
            both = np.concatenate([kept, start + np.arange(20)])
            kept = both[reservoir(10, start, 20, 10, draw)]
        counts[kept] += 1
    # 4,000 draws of 10 out of 60: each row 667 times, standard deviation 24
    assert abs(counts[:20].mean() - 4000 / 6) < 25
    assert abs(counts[40:].mean() - 4000 / 6) < 25
    assert counts.min() > 550


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(1, 60), st.integers(0, 99))
def test_balanced_memory_is_full_and_no_group_is_short_while_another_has_more_than_one_above(
    groups: list[int], room: int, seed: int
):
    labels = np.array(groups)
    kept = balanced(labels, room, np.random.default_rng(seed))
    assert len(kept) == len(set(kept)) == min(room, len(labels))
    had, held = (np.bincount(which, minlength=5) for which in (labels, labels[kept]))
    most = held.max()
    assert all(held[g] == had[g] or held[g] >= most - 1 for g in range(5))
