"""Logs of somebody else's: what points outside the file, loads code or lies is refused in a sentence, before it is read."""

from __future__ import annotations

import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.report.terminal import print_run
from cl_engine.errors import UsageError
from cl_engine.results.audit import audit
from cl_engine.results.lazy_arrays import Place
from cl_engine.results.log_file import read_whole
from cl_engine.results.run import open_run, open_runs
from tests.conftest import old_log

SECRET = b"not for the eyes of a log"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return old_log("1.2", tmp_path)


def soft_link(file: h5py.File, folder: Path) -> None:
    del file["results/acc"]
    file["results/acc"] = h5py.SoftLink("/results/bwt")


def external_link(file: h5py.File, folder: Path) -> None:
    shutil.copy(file.filename, folder / "other.h5")
    del file["results"]
    file["results"] = h5py.ExternalLink(str(folder / "other.h5"), "/results")


def raw_bytes_of_another_file(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(SECRET)
    del file["results/experience_task"]
    where = [(str(folder / "secret"), 0, len(SECRET))]
    file["results"].create_dataset("experience_task", (len(SECRET),), "i1", external=where)


def virtual(file: h5py.File, folder: Path) -> None:
    del file["results/acc"]
    layout = h5py.VirtualLayout(shape=(4, 2), dtype="f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "results/acc", shape=(4, 2))
    file["results"].create_virtual_dataset("acc", layout)


def unknown_filter(file: h5py.File, folder: Path) -> None:
    del file["results/acc"]
    file["results"].create_dataset("acc", data=np.zeros((4, 2)), compression="lzf")


def compound(file: h5py.File, folder: Path) -> None:
    file["results"].create_dataset("odd", data=np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]))


def references(file: h5py.File, folder: Path) -> None:
    file["results"].create_dataset("odd", data=np.array([file["results"].ref], dtype=h5py.ref_dtype))


def terabytes(file: h5py.File, folder: Path) -> None:
    del file["results/acc"]
    file["results"].create_dataset("acc", (10**6, 10**6, 2), "f4", chunks=(1, 1024, 2))


def cycle(file: h5py.File, folder: Path) -> None:
    file["results/again"] = file["results"]


def lists_of_lists(file: h5py.File, folder: Path) -> None:
    inner = h5py.vlen_dtype(np.dtype("i4"))
    file["results"].create_dataset("odd", (2,), dtype=inner)


def yes_or_no(file: h5py.File, folder: Path) -> None:
    file["results"].create_dataset("odd", data=np.array([True, False]))


def a_named_type(file: h5py.File, folder: Path) -> None:
    file["results/odd"] = np.dtype("f8")


def zeros_that_unpack_to_more_than_they_say(file: h5py.File, folder: Path) -> None:
    data = file["results"].create_dataset("odd", (1000,), "f8", chunks=(1000,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(bytes(2**28), 9))


def packed_twice(file: h5py.File, folder: Path) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((1000,))
    made.set_deflate(9)
    made.set_deflate(9)
    space = h5py.h5s.create_simple((1000,))
    h5py.h5d.create(file["results"].id, b"odd", h5py.h5t.NATIVE_DOUBLE, space, made)


def giant_chunks(file: h5py.File, folder: Path) -> None:
    file["results"].create_dataset("odd", (10**7,), "f8", chunks=(10**7,), compression="gzip")


def one_text_a_million_times(file: h5py.File, folder: Path) -> None:
    count = 10**6
    one = file["results"].create_dataset("one", (1,), h5py.string_dtype(), chunks=(1,))
    one[0] = "x" * 10**6
    where = one.id.read_direct_chunk((0,))[1]
    many = file["results"].create_dataset("odd", (count,), h5py.string_dtype(), chunks=(count,), compression="gzip")
    many.id.write_direct_chunk((0,), zlib.compress(where * count, 9))


def texts_without_chunks(file: h5py.File, folder: Path) -> None:
    file["results"].create_dataset("odd", data=np.array(["a", "b"], dtype=object), dtype=h5py.string_dtype())


ATTACKS = {
    soft_link: "is a link to elsewhere",
    external_link: "is a link to elsewhere",
    raw_bytes_of_another_file: "takes its data from other files",
    virtual: "takes its data from other files",
    unknown_filter: "needs the HDF5 filter",
    compound: "is neither of integers nor of floats nor of strings",
    references: "is neither of integers nor of floats nor of strings",
    terabytes: "declares 8000000000000 bytes",
    cycle: "linked within itself",
    lists_of_lists: "is neither of integers nor of floats nor of strings",
    yes_or_no: "is neither of integers nor of floats nor of strings",
    a_named_type: "is neither a group nor an array",
    zeros_that_unpack_to_more_than_they_say: "unpacks to more than the 8000 bytes it says",
    packed_twice: "is packed more than once",
    giant_chunks: "has chunks of 80000000 bytes",
    one_text_a_million_times: "says that its texts are 1000000000000 bytes",
    texts_without_chunks: "is not stored in chunks",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_what_is_not_plain_is_refused_in_a_sentence(attack: Callable[[h5py.File, Path], None], log: Path):
    with h5py.File(log, "r+") as file:
        attack(file, log.parent)
    with pytest.raises(UsageError, match=ATTACKS[attack]):
        open_run(log)


@pytest.mark.parametrize("attack", [soft_link, virtual, unknown_filter], ids=lambda attack: attack.__name__)
def test_many_logs_are_looked_at_as_closely_as_one(attack: Callable[[h5py.File, Path], None], log: Path):
    with h5py.File(log, "r+") as file:
        attack(file, log.parent)
    with pytest.raises(UsageError, match=ATTACKS[attack]):
        open_runs(log, strict=True)


def test_a_log_that_turns_bad_after_it_was_opened_is_refused_when_it_is_read_again(log: Path):
    run = open_run(log)
    with h5py.File(log, "r+") as file:
        table = file["events"]
        del table["value"]
        table["value"] = h5py.SoftLink("/events/seed")
    with pytest.raises(UsageError, match="is a link to elsewhere"):
        run.table("events")


def many_attributes(file: h5py.File) -> None:
    for number in range(2000):
        file.attrs[f"a{number}"] = "x"


def no_text(value: Any) -> Callable[[h5py.File], None]:
    def put(file: h5py.File) -> None:
        file.attrs["format"] = value

    return put


@pytest.mark.parametrize(
    "attack",
    [
        many_attributes,
        no_text(np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])),
        no_text(["cl-engine-run"] * 50),
        no_text(np.bytes_(b"x" * 60_000)),
        no_text(h5py.Empty("S1")),
        no_text(5),
    ],
)
def test_an_attribute_that_is_not_one_text_is_not_read(attack: Callable[[h5py.File], None], log: Path):
    with h5py.File(log, "r+") as file:
        attack(file)
    with pytest.raises(UsageError, match=r"is not the log of a cl-engine run|it is no log of this program"):
        open_run(log)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_our_own_logs_pass(version: str, tmp_path: Path):
    with h5py.File(old_log(version, tmp_path), "r") as file:
        audit(file)


def missing_array(file: h5py.File) -> None:
    del file["results/memory"]


def missing_group(file: h5py.File) -> None:
    del file["environment"]


def another_shape(file: h5py.File) -> None:
    del file["results/acc"]
    file["results"].create_dataset("acc", data=np.zeros((7, 5)))


def nonsense_experiment(file: h5py.File) -> None:
    del file["environment/experiment"]
    file["environment/experiment"] = "{not json"


def half_an_experiment(file: h5py.File) -> None:
    del file["environment/experiment"]
    file["environment/experiment"] = '{"options": {"stream": {}, "net": []}}'


def no_strategy(file: h5py.File) -> None:
    del file.attrs["strategy"]


DAMAGES = (missing_array, missing_group, another_shape, nonsense_experiment, half_an_experiment, no_strategy)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_what_is_missing_or_does_not_fit_is_a_sentence(damage: Callable[[h5py.File], Any], log: Path):
    with h5py.File(log, "r+") as file:
        damage(file)
    with pytest.raises(UsageError, match=r"log\.h5 is (damaged|not a whole log)"):
        run = open_run(log)
        _ = run.results, run.experiment


def test_an_r_that_is_nearly_empty_is_read_in_part_and_refused_as_a_whole_where_memory_does_not_hold_it(tmp_path: Path):
    tasks, seeds = 10**6, 2
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file.attrs.update(
            format="cl-engine-run", format_version="2.0", run_id="1", strategy="s", scenario="s", status="stopped"
        )
        score = file.create_dataset(
            "results/score", (tasks, tasks, seeds), "f4", chunks=(1, 1024, seeds), fillvalue=np.nan
        )
        score[7, 5] = 0.5
    read_whole(tmp_path / "log.h5")
    place = Place(tmp_path / "log.h5", "1", "score", (tasks, tasks, seeds), np.nan)
    assert place.read([np.array([7]), np.arange(4, 6), np.arange(seeds)])[0, :, 0].tolist() == [
        pytest.approx(np.nan, nan_ok=True),
        0.5,
    ]
    with pytest.raises(
        UsageError, match=r"/results/score is 8,000 GB, where this machine's memory is .* ask for some of its rows"
    ):
        place.read([np.arange(tasks), np.arange(tasks), np.arange(seeds)])


def test_bytes_turned_at_random_give_a_log_or_a_sentence(log: Path):
    whole, draw = log.read_bytes(), random.Random(0)
    for _ in range(60):
        turned = bytearray(whole)
        for _ in range(8):
            turned[draw.randrange(len(turned))] = draw.randrange(256)
        log.write_bytes(turned)
        try:
            run = open_run(log)
            _ = run.results.load(), run.experiment, [run.table(name) for name in run.tables]
        except UsageError as error:
            assert str(log) in str(error)


@pytest.mark.parametrize("task", [-1, 999])
def test_an_experience_of_no_task_is_refused_when_the_log_is_opened(log: Path, task: int):
    with h5py.File(log, "r+") as file:
        file["results/experience_task"][0] = task
    with pytest.raises(UsageError, match="an experience is of a task that is none of its"):
        open_run(log)


def test_a_text_nested_to_break_its_reader_is_shown_as_it_is(log: Path, capsys: pytest.CaptureFixture[str]):
    nested = "[" * 5000
    with h5py.File(log, "r+") as file:
        for name in ("versions", "backbone"):
            if name in file["environment"]:
                del file["environment"][name]
            file["environment"][name] = nested
    assert "[" * 50 in write_report([open_run(log)], log.with_name("report.html")).read_text()
    print_run(open_run(log))
    assert "[" * 50 in capsys.readouterr().out
