"""Blurred boundaries: each row once, at times that its task's schedule says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.data.blurry_stream import BlurryStream
from cl_engine.data.gradual_stream import arranged
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.streams.permuted import Permuted
from cl_engine.streams.split import Split
from cl_engine.testing.small import images

BY = [("linear", 1.0), ("gaussian", 0.7), ("share", 0.4)]


def permuted(n: int | None = 4, **options: Any) -> Permuted:
    return Permuted(images(), source="given", **{"setting": "domain", "n": n, **options})


@pytest.mark.parametrize(("by", "width"), BY)
@pytest.mark.parametrize("pieces", [0, 7])
def test_every_row_arrives_once_whatever_the_schedule(by: str, width: float, pieces: int):
    options = {"blurry": width, "blurry_by": by, "blurry_disjoint": 0.0}
    sharp, blurry = permuted(), arranged(permuted(**options, pieces=pieces), (0,))
    assert blurry.n_steps == 4
    wanted, found = ([stream[step].train for step in range(4)] for stream in (sharp, blurry))
    assert [len(rows) for rows in found] == [len(rows) for rows in wanted]
    as_rows = [
        sorted(map(tuple, torch.cat([torch.cat([r.x.flatten(1), r.y[:, None]], dim=1) for r in of]).tolist()))
        for of in (wanted, found)
    ]
    assert as_rows[0] == as_rows[1]
    assert not torch.equal(found[1].x, wanted[1].x)
    assert torch.equal(blurry[1].train.x, found[1].x), "pure in the step"


@pytest.mark.parametrize(("by", "widths"), [("linear", (0.5, 1.0, 4.0)), ("gaussian", (0.01, 0.5, 4.0))])
def test_the_wider_the_more_tasks_come_together(by: Any, widths: tuple[float, ...]):
    streams = [BlurryStream(permuted(6), width, by, 0.0) for width in widths]
    own = [np.mean([stream.shares(step)[step] for step in range(6)]) for stream in streams]
    assert own[0] == 1
    assert own[0] > own[1] > own[2]


def test_linear_shares_are_those_of_triangles():
    stream = BlurryStream(permuted(7, samples_per_class=None), 1.0, "linear", 0.0)
    middle = np.mean([stream.shares(step)[step - 1 : step + 2] for step in (2, 3, 4)], axis=0)
    np.testing.assert_allclose(
        middle, [0.125, 0.75, 0.125], atol=0.07
    )  # areas of triangles of half-width 1 over [0, 1]


def test_of_disjoint_classes_no_row_comes_at_another_time():
    split = Split(images(classes=6), source="given", setting="class", n=3)
    for disjoint, together in ((1.0, {2}), (0.0, {4, 5, 6})):
        stream = BlurryStream(split, 0.5, "share", disjoint)
        assert {len(stream[step].train.y.unique()) for step in range(3)} <= together


def test_rows_in_pieces_come_in_the_order_of_their_times():
    blurry = arranged(permuted(blurry=1.0, pieces=5, stretch=2), (0,))
    whole = arranged(permuted(blurry=1.0), (0,))
    steps = [step for step in range(blurry.n_steps or 0) if blurry.task_id(step) == 0]
    assert torch.equal(torch.cat([blurry[step].train.x for step in steps]), whole[0].train.x)


def test_a_net_learns_beyond_blurry_boundaries(tmp_path: Any):
    options = {
        "stream.blurry": 1.0,
        "stream.pieces": 8,
        "stream.samples_per_class": 20,
        "train.batch": 8,
        "train.epochs": 1,
    }
    run = open_run(Experiment.of("split_digits_class", "replay", (0, 1), **options).run(tmp_path, device="cpu"))
    assert float(run.results["acc"].values[-1].mean()) > 0.3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"setting": "task"}, "stream.blurry: rows of several tasks"),
        ({"n": None}, "stream.n is missing"),
        ({"per_seed": True}, "stream.per_seed"),
        ({"blurry": 1.5, "blurry_by": "share"}, "found 1.5"),
    ],
)
def test_what_cannot_be_blurred_is_refused(options: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        arranged(permuted(**{"blurry": 0.5, **options}), (0, 1))
