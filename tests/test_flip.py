"""Slowly-changing regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cl_engine.data.stream_of_seeds import for_seeds
from cl_engine.errors import UsageError
from cl_engine.streams.flip import Flip


def test_a_task_shares_all_bits_but_those_drawn_for_each_row():
    stream = Flip(n=4, rows=300)
    x = stream[1].train.x
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert len(x[:, :15].unique(dim=0)) == 1 and len(x[:, 15:].unique(dim=0)) == 32
    assert not torch.equal(x[0, :15], stream[2].train.x[0, :15])


def test_one_bit_flips_between_tasks_where_that_is_asked_for():
    stream = Flip(n=6, rows=20, change="one")
    bits = np.stack([stream.slow_bits(task) for task in range(6)])
    assert (np.abs(np.diff(bits, axis=0)).sum(axis=1) == 1).all()


def test_the_number_asked_is_that_of_a_net_of_threshold_units_which_stays_the_same():
    stream = Flip(n=3, rows=40, hidden=7, beta=0.5)
    data = stream[2].train
    weights, bias, readout = stream._weights, stream._bias, stream._readout
    assert set(np.unique(weights)) == set(np.unique(readout)) == {-1, 1}
    for x, y in zip(data.x.numpy(), data.y.numpy(), strict=True):
        units = [own @ x + b > 0.5 * 21 - (20 - own.sum() + b) / 2 for own, b in zip(weights, bias, strict=True)]
        assert y[0] == sum(sign for sign, on in zip(readout, units, strict=True) if on)


def test_each_learner_has_a_net_to_learn_of_its_own_where_that_is_asked_for():
    stream = for_seeds(Flip(n=3, rows=200, per_seed=True), [0, 1])
    train = stream[1].train
    (x, y), (other_x, other_y) = train.of(0), train.of(1)
    assert not torch.equal(x[0, :15], other_x[0, :15]) and not torch.equal(y.sort(dim=0)[0], other_y.sort(dim=0)[0])
    assert stream.target(0).measure.name == "mse" and not stream.target(0).measure.higher


def test_bits_that_are_all_random_are_refused():
    with pytest.raises(UsageError, match=r"stream\.random: 5 of 5 bits"):
        Flip(n=3, bits=5)
