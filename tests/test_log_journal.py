"""Logs are saved into a journal at the price of what is new, published from time to time, and never short of a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.errors import UsageError
from cl_engine.events import Event, Progress, Saved
from cl_engine.experiment import Experiment
from cl_engine.loggers import recorder
from cl_engine.loggers.journal import Journal
from cl_engine.results.run import open_run
from cl_engine.testing.logs import assert_same_facts, facts

Tiny = Callable[..., Experiment]
MANY = {"stream.n": 4, "stream.revisit": [1], "agenda.curve_batches": 1, "agenda.curve_tasks": 1}


class Cut(BaseException):
    pass


@pytest.fixture
def seldom_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "PUBLISHED", 1e-9)
    monkeypatch.setattr(recorder, "LATEST", 1e9)


def cut_at(number: int) -> Callable[[Event], None]:
    heard = 0

    def cut(event: Event) -> None:
        nonlocal heard
        heard += not isinstance(event, Progress)
        if heard == number:
            raise Cut

    return cut


@pytest.mark.usefixtures("seldom_published")
@pytest.mark.parametrize("flushed", [10**9, 1])
def test_a_run_killed_between_two_publications_goes_on_without_losing_a_row(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: int
):
    monkeypatch.setattr(recorder, "FLUSHED", flushed)
    experiment = tiny("finetune", **MANY)
    heard: list[Event] = []
    whole = facts(experiment.run(tmp_path / "whole", listeners=lambda stream: [heard.append]) / "log.h5")
    count = sum(not isinstance(event, Progress) for event in heard)
    for cut in (count // 3, count // 2, count - 4):
        path = tmp_path / f"cut {cut}"
        for again in (cut, 5):  # the second time soon after it was taken up
            with pytest.raises(Cut):
                experiment.run(path, listeners=lambda stream, again=again: [cut_at(again)])  # type: ignore[misc]
        assert_same_facts(facts(experiment.run(path) / "log.h5"), whole)
        assert not (path / recorder.JOURNAL).exists()


@pytest.mark.usefixtures("seldom_published")
def test_a_reader_finds_a_whole_log_that_is_older_than_the_last_save(tiny: Tiny, tmp_path: Path):
    seen: list[int] = []

    def look(event: Event) -> None:
        if isinstance(event, Saved):
            seen.append(open_run(tmp_path).results.sizes["experience"])

    tiny("finetune", **MANY).run(tmp_path, listeners=lambda stream: [look])
    assert seen == [1] * 5
    assert open_run(tmp_path).results.sizes["experience"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoint.safetensors", "log.h5"]


@pytest.mark.parametrize(
    ("takes", "expected"),
    [
        (0.0, [1, 2, 3, 4, 5, 6]),
        (0.1, [1, 1, 3, 3, 5, 5]),  # there are 50 seconds before the next …
        (1.0, [1, 1, 3, 3, 5, 5]),  # … no more than 60 …
        (9.0, [1] * 6),  # … but for a log that takes more than a second
    ],
)
def test_a_log_is_published_again_when_that_takes_no_more_than_its_share(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float, expected: list[int]
):
    now = 0.0
    monkeypatch.setattr(recorder.time, "monotonic", lambda: now)
    monkeypatch.setattr(recorder.shutil, "copyfile", _slowly(recorder.shutil.copyfile, lambda: _later(takes)))

    def _later(seconds: float) -> None:
        nonlocal now
        now += seconds

    seen: list[int] = []

    def look(event: Event) -> None:
        if isinstance(event, Saved):
            seen.append(open_run(tmp_path).results.sizes["experience"])
            _later(30.0)

    tiny("finetune", (0,), **{"stream.n": 6}).run(tmp_path, listeners=lambda stream: [look])
    assert seen == expected


def _slowly(function: Callable[..., Any], wait: Callable[[], None]) -> Callable[..., Any]:
    def slow(*arguments: Any) -> Any:
        wait()
        return function(*arguments)

    return slow


@pytest.mark.usefixtures("seldom_published")
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_a_journal_cut_short_is_noticed_before_a_row_is_missed(tiny: Tiny, tmp_path: Path, kept: float):
    experiment = tiny("finetune", **MANY)
    with pytest.raises(Cut):
        experiment.run(tmp_path, listeners=lambda stream: [cut_at(55)])
    before = facts(tmp_path / "log.h5")
    journal = tmp_path / recorder.JOURNAL
    content = journal.read_bytes()
    journal.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UsageError, match="journal end before experience"):
        experiment.run(tmp_path)
    assert_same_facts(facts(tmp_path / "log.h5"), before)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_journal_gives_back_its_blocks_up_to_the_first_that_is_damaged(tmp_path_factory: Any, data: st.DataObject):
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(path)
    journal.begin("log")
    blocks = [({"rows": [[k, 0.1, "ü", float("inf")]]}, np.arange(3 * k).reshape(k, 3)) for k in range(5)]
    ends = []
    for block in blocks:
        journal.append(*block)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    found = list(Journal(path).blocks("log"))
    assert len(found) == sum(end <= place for end in ends)
    for (lists, numbers), (lists_then, numbers_then) in zip(found, blocks, strict=False):
        assert lists == lists_then
        assert np.array_equal(numbers, numbers_then)
    assert not list(Journal(path).blocks("another log"))
