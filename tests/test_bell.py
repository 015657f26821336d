"""BELL: problems of a domain and a pattern, the sequences of them, and the net that looks at pairs of images."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch

from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError
from cl_engine.nn.division import division
from cl_engine.nn.net import Net
from cl_engine.runs.plugins import net_builder
from cl_engine.streams.bell import PATTERNS, Bell, Kind, pattern
from cl_engine.testing.streams import Given

ROWS = {"full": 60, "fewer": 40, "few_images": 24, "few_cells": 5, "few": 10, "aside": 20, "test_rows": 30}


def told_apart() -> Arrays:
    """Return images whose pixels say their class, and which of its images they are."""
    x, y = np.zeros((120, 1, 8, 8), dtype=np.uint8), np.repeat(np.arange(8), 15)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = y, np.arange(120) % 15
    return Arrays(train_x=x, train_y=y, test_x=x, test_y=y, classes=8, mean=(0.0,), std=(1.0,))


def stream(kind: str, **options: Any) -> Bell:
    names = [f"source {number}" for number in range(6)]
    return Bell(Given(told_apart()), **{"kind": kind, "sources": names, **ROWS, **options})


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_is_symmetric_and_has_cells_of_both_labels(name: str):
    for classes in (4, 6, 8, 10):
        cells = pattern(name, classes)
        assert (cells == cells.T).all()
        assert (cells == cells[::-1, ::-1]).all()
        assert 0 < cells.sum() < classes**2
    with pytest.raises(UsageError, match="there is no pattern 'line'; there are xor, circle, cross, square"):
        pattern("line", 8)


@pytest.mark.parametrize("kind", ["s_pl", "s_in", "s_few", "s_minus"])
def test_a_label_is_the_cell_of_the_two_classes_and_each_comes_as_often(kind: str):
    made = stream(kind)
    for step in range(made.n_tasks or 0):
        problem, rows = made.problems[step], made[step]
        wanted = made._pattern(problem)
        for data in (rows.train, rows.validation, made.test(step)):
            first, second = data.x[:, 0, 0, 0].long(), data.x[:, 1, 0, 0].long()
            assert wanted[first, second].astype(int).tolist() == data.y.tolist()
            assert abs(int(data.y.sum()) * 2 - len(data)) <= 1
        assert len(rows.train) == made.train_rows(step) == {"full": 60, "few": 10}.get(problem.size, 40)


def test_validation_rows_have_other_images_than_training_rows_of_any_problem_of_the_domain():
    made = stream("s_minus")
    seen: dict[str, set[tuple[str, int, int]]] = {"train": set(), "validation": set()}
    for step in range(6):
        for half, data in (("train", made[step].train), ("validation", made[step].validation)):
            for side in (0, 1):
                labels, images = data.x[:, side, 0, 0].tolist(), data.x[:, side, 0, 1].tolist()
                seen[half] |= {(made.problems[step].source, *pair) for pair in zip(labels, images, strict=True)}
    assert seen["train"]
    assert not seen["train"] & seen["validation"]


def test_few_images_and_few_cells_are_as_few_as_asked():
    made = stream("s_minus", fewer=400)
    again = made[5].train.x
    pairs = {tuple(pair) for side in (0, 1) for pair in again[:, side, 0, :2].tolist()}
    assert len(pairs) == 24
    made = stream("s_in", fewer=400)
    cells = {tuple(pair) for pair in made[5].train.x[:, :, 0, 0].tolist()}
    assert len(cells) == 5
    assert len({tuple(pair) for pair in made.test(5).x[:, :, 0, 0].tolist()}) > 5


def test_what_comes_again_in_each_sequence_is_what_it_asks_about():
    def parts(kind: str) -> list[tuple[tuple[str, ...], str]]:
        made = stream(kind)
        return [(made.composition(step).inputs, made.composition(step).rule) for step in range(made.n_tasks or 0)]

    same = {
        kind: (one[0][0] == one[5][0], one[0][1] == one[5][1])
        for kind in ("s_pl", "s_minus", "s_plus", "s_in", "s_sp", "s_out", "s_out_star", "s_out_star_star")
        for one in [parts(kind)]
    }
    nothing, domain, rule, both = (False, False), (True, False), (False, True), (True, True)
    assert list(same.values()) == [nothing, both, both, rule, rule, domain, domain, both]
    few = parts("s_few")
    assert few[5] == (few[1][0], few[3][1])
    assert few[3][0] == few[0][0]
    assert "permute" in parts("s_sp")[5][0]
    long = stream("s_long")
    sizes = [problem.size for problem in long.problems]
    assert (long.n_tasks, {*sizes[:50]}, {*sizes[50:]}) == (
        100,
        {"full", "images", "cells"},
        {"images", "cells", "few"},
    )
    assert stream("s_long", n=7).n_tasks == 7
    assert set(get_args(Kind)) == {*same, "s_few", "s_long"}


def test_views_make_domains_and_too_few_of_them_are_refused():
    two = {"sources": ["a", "b"]}
    with pytest.raises(UsageError, match="'s_pl' has 6 domains, and the sources, classes and views make 2: name more"):
        stream("s_pl", **two)
    made = stream("s_pl", **two, views=[[], ["turn"], ["roll"]])
    assert len({problem.view for problem in made.problems}) == 3
    assert stream("s_out", classes=4, sources=["a", "b", "c"]).n_tasks == 6
    with pytest.raises(UsageError, match="even number of classes on a side, found 5"):
        stream("s_pl", classes=5)
    with pytest.raises(UsageError, match="share their two labels; use 'task' or 'domain'"):
        stream("s_pl", setting="class")
    with pytest.raises(UsageError, match="name at least one source, and one view"):
        stream("s_pl", views=[])


def test_the_net_for_pairs_has_the_published_modules_and_sees_both_images_alike():
    net = Net(net_builder("pairs", {}, (2, 28, 28), 2), (2, 28, 28))
    assert len(division(net)) == 8
    small = Net(net_builder("pairs", {"maps": [], "hidden": [5], "after": []}, (2, 4, 4), 2), (2, 4, 4))
    params, x = {name: tensor[0] for name, tensor in small.init([0]).items()}, torch.rand(3, 2, 4, 4)
    code = small.features(params, x)
    torch.testing.assert_close(code.roll(8, 1), small.features(params, x.flip(1)))
    with pytest.raises(UsageError, match=r"found inputs of shape \[3, 4, 4\]"):
        net_builder("pairs", {}, (3, 4, 4), 2)()
