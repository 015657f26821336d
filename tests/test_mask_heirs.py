"""Heirs of masks: winning subnetworks with entropy-coded masks, and soft masks on gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cl_engine.core.bank import Bank
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Event, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.masks.coded import GROUP, PAGE, CodedMasks
from cl_engine.masks.events import GradientsGated, LayerMask, MaskOverlap, MasksCoded
from cl_engine.masks.huffman import BLOCK, code_lengths, decode, encode
from cl_engine.masks.layout import Layout
from cl_engine.strategies.spg import Spg
from cl_engine.strategies.wsn import Wsn

Tiny = Callable[..., Experiment]
SGD = {"train.optimizer": "sgd", "train.lr": 0.1}


def learned(experiment: Experiment) -> Iterator[tuple[Event, Any, Any]]:
    """Yield each event of a run, with its stream and strategy."""
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    for event in simulate(stream, strategy, plan(stream, experiment.agenda)):
        yield event, stream, strategy


# Huffman codes.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.lists(st.integers(0, 127), min_size=1, max_size=200), st.integers(0, 3))
def test_what_is_encoded_is_decoded(bits: int, drawn: list[int], beyond: int):
    symbols = np.array(drawn) % (1 << bits)
    data = np.concatenate([encode(symbols, 1 << bits), np.zeros(beyond, dtype=np.uint8)])
    assert np.array_equal(decode(data, 1 << bits, len(symbols)), symbols)


def test_codes_are_read_block_by_block_and_are_as_short_as_the_entropy_allows():
    draw = np.random.default_rng(0)
    share = np.array([0.7, 0.15, 0.1, 0.04, 0.01])
    symbols = draw.choice(5, size=BLOCK + 1000, p=share)
    data = encode(symbols, 5)
    assert np.array_equal(decode(data, 5, len(symbols)), symbols)
    entropy = -(share * np.log2(share)).sum()
    assert entropy <= 8 * len(data) / len(symbols) < entropy + 0.15


def test_code_lengths_are_those_of_a_full_tree_and_the_longest_for_the_rarest():
    counts = np.array([1, 1, 2, 4, 8, 16, 32, 0])  # each as often as all before it
    lengths = code_lengths(counts)
    assert lengths.tolist() == [6, 6, 5, 4, 3, 2, 1, 0]
    assert (0.5 ** lengths[lengths > 0]).sum() == 1


def test_very_uneven_counts_have_codes_longer_than_a_byte():
    fibonacci = [1, 1]
    while len(fibonacci) < 20:
        fibonacci.append(sum(fibonacci[-2:]))
    symbols = np.repeat(np.arange(20), fibonacci)
    assert code_lengths(np.array(fibonacci)).max() > 16
    assert np.array_equal(decode(encode(symbols, 32), 32, len(symbols)), symbols)


# Masks of many tasks.


def test_masks_of_tasks_are_found_again_whatever_came_after_and_are_counted_in_bytes():
    layout, draw = Layout({"a": (60, 40), "b": (30, 5)}), torch.Generator().manual_seed(0)
    masks, kept = CodedMasks(layout), []
    state = masks.empty(2, torch.device("cpu"))
    for task in range(2 * GROUP + 2):
        one = {name: torch.rand(2, *shape, generator=draw) < 0.1 for name, shape in layout.shapes.items()}
        kept.append(one)
        masks.put(state, task, one)
        for other, theirs in enumerate(kept):
            assert all(torch.equal(found, theirs[name]) for name, found in masks.of(state, other).items())
    several = masks.several(state, 5)
    assert list(several) == list(range(5, 2 * GROUP + 2))
    assert all(torch.equal(several[task]["a"], kept[task]["a"]) for task in several)
    pages = len(state["codes"])
    assert state["codes"].rows[0].nbytes == pages * PAGE
    plain = (2 * GROUP + 2) * layout.packed
    assert 0.4 * plain < pages * PAGE < 0.85 * plain  # of one bit in ten the entropy is .47
    assert masks.bits(state) == 8 * pages * PAGE / layout.size / len(kept)
    with pytest.raises(IndexError, match="task 16 has no mask"):
        masks.of(state, 16)


def test_masks_that_are_alike_take_a_fraction_of_a_bit():
    layout = Layout({"a": (100, 100)})
    masks, one = CodedMasks(layout), {"a": torch.rand(1, 100, 100) < 0.5}
    state = masks.empty(1, torch.device("cpu"))
    for task in range(GROUP):
        masks.put(state, task, one)
    assert masks.bits(state) < 0.2


# WSN.


@pytest.mark.parametrize("norm", ["frozen", "affine"])
@pytest.mark.parametrize("layers", ["none", "batch"])
def test_earlier_tasks_are_answered_bit_for_bit_as_before(tiny: Tiny, norm: str, layers: str):
    first: dict[int, torch.Tensor] = {}
    options = {"norm": norm, "net.hidden": [12], "net.norm": layers, "keep": 0.3}
    for event, stream, strategy in learned(tiny("wsn", **options)):
        if isinstance(event, TaskLearned):
            for task in range(event.task_id + 1):
                logits = strategy.predict(stream.test(task).x, task)
                assert torch.equal(first.setdefault(task, logits), logits)
    assert len(first) == 3


def test_a_mask_has_the_best_scores_of_each_layer_and_its_weights_stay(tiny: Tiny):
    nets: list[dict[str, torch.Tensor]] = []
    masks: list[dict[str, torch.Tensor]] = []
    told: list[Event] = []
    for event, _, strategy in learned(tiny("wsn", (0, 1), keep=0.25)):
        assert isinstance(strategy, Wsn)
        told.append(event)
        if isinstance(event, TaskLearned):
            nets.append({name: tensor.clone() for name, tensor in strategy.state["net"].items()})
            masks.append(strategy._masks.of(strategy.state["masks"], event.task_id))
            for name, mask in masks[-1].items():
                share = mask.flatten(1).double().mean(dim=1)
                assert torch.allclose(share, torch.full_like(share, 0.25), atol=0.01)
                size = strategy.state["scores"][name].abs()
                assert size[mask].min() >= 0 and all(
                    one[bits].min() >= one[~bits].max() for one, bits in zip(size, mask, strict=True)
                )
    for name in masks[0]:
        assert torch.equal(nets[2][name][masks[0][name]], nets[0][name][masks[0][name]])
        both = masks[0][name] | masks[1][name]
        assert torch.equal(nets[2][name][both], nets[1][name][both])
        assert not torch.equal(nets[1][name], nets[0][name])
        assert torch.equal(nets[2]["1.bias"], nets[0]["1.bias"])
    used = [event.used for event in told if isinstance(event, MasksCoded)]
    assert used == sorted(used)
    assert used[0] == pytest.approx((0.25, 0.25), abs=0.01)
    assert any(isinstance(event, MaskOverlap) for event in told)
    assert all(abs(event.zeroed[0] - 0.75) < 0.01 for event in told if isinstance(event, LayerMask))


def test_weights_that_a_mask_reuses_teach_its_scores_and_do_not_move(tiny: Tiny):
    """With all weights in the first task's mask, later tasks can but choose among them."""
    states = []
    for event, _, strategy in learned(tiny("wsn", (0,), keep=1.0)):
        if isinstance(event, TaskLearned):
            states.append({name: tensor.clone() for name, tensor in strategy.state["net"].items()})
    assert all(torch.equal(states[2][name], states[0][name]) for name in states[0] if not name.startswith("head"))


def test_a_task_that_comes_back_keeps_its_mask_and_others_answer_as_before(tiny: Tiny):
    experiment = tiny("wsn", (0,), norm="affine", **{"net.norm": "batch", "net.hidden": [12]})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    for step in (0, 1):
        list(strategy.learning(stream[step]))
    x, codes = stream.test(0).x, strategy.state["masks"]["codes"].rows.clone()
    own, other = strategy.predict(x, 0), strategy.predict(x, 1)
    list(strategy.learning(stream[0]))
    assert torch.equal(strategy.state["masks"]["codes"].rows, codes)
    assert torch.equal(strategy.predict(x, 1), other)
    assert not torch.equal(strategy.predict(x, 0), own)


# SPG.


def test_importance_is_the_greatest_standardised_gradient_of_the_own_loss_and_other_heads(tiny: Tiny):
    experiment = tiny("spg", (0, 1), **SGD, **{"net.hidden": [6], "train.epochs": 1})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    assert isinstance(strategy, Spg)
    strategy.state = strategy.start()
    for step in (0, 1):
        before = {name: tensor.clone() for name, tensor in strategy.state["importance"].items()}
        list(strategy.learning(stream[step]))
    x, y, seed = stream[1].train.x, stream[1].train.y, 1
    net = {name: tensor[seed].clone().requires_grad_() for name, tensor in strategy.state["net"].items()}
    head = {
        task: nn.functional.linear(
            strategy.net.features(net, x, False),
            strategy.state["heads"][task][seed, :, :-1],
            strategy.state["heads"][task][seed, :, -1],
        )
        for task in (0, 1)
    }
    for name, kept in strategy.state["importance"].items():
        most = before[name][seed]
        for objective in (head[0].sum(), nn.functional.cross_entropy(head[1], y)):
            [slope] = torch.autograd.grad(objective, [net[name]], retain_graph=True)
            most = torch.maximum(most, ((slope - slope.mean()) / slope.std()).tanh().abs())
        torch.testing.assert_close(kept[seed], most, rtol=1e-3, atol=1e-4)


def test_a_weight_follows_as_much_of_its_gradient_as_it_is_unimportant(tiny: Tiny):
    experiment = tiny("spg", (0,), **SGD, **{"net.hidden": [6], "train.epochs": 1, "train.batch": 1000})
    stream = experiment.stream()
    steps = {}
    for importance in (0.0, 0.75, 1.0):
        strategy = experiment.build_strategy(stream)
        strategy.state = strategy.start()
        start = strategy.state["net"]["1.weight"].clone()
        head = strategy.state["net"]["head.weight"].clone()
        for tensor in strategy.state["importance"].values():
            tensor.fill_(importance)
        list(strategy.learning(stream[0]))  # one step over all rows
        steps[importance] = (
            strategy.state["net"]["1.weight"] - start,
            strategy.state["heads"][0][..., :-1] - head,
        )
    for plain, slowed in zip(steps[0.0], steps[0.75], strict=True):
        assert plain.abs().max() > 1e-4
        torch.testing.assert_close(slowed, plain / 4, rtol=1e-2, atol=1e-6)
    assert not any(step.any() for step in steps[1.0])


def test_importance_only_grows_and_lies_between_nothing_and_one(tiny: Tiny):
    means: dict[str, list[float]] = {}
    for event, _, strategy in learned(tiny("spg", (0,), **SGD)):
        if isinstance(event, GradientsGated):
            means.setdefault(event.part, []).append(event.mean[0])
        if isinstance(event, TaskLearned):
            assert all(t.min() >= 0 and t.max() <= 1 for t in strategy.state["importance"].values())
    assert means.keys() >= {"1.weight", "1.bias"}
    assert all(each == sorted(each) and each[0] > 0 and len(each) == 3 for each in means.values())


def test_other_heads_make_weights_more_important(tiny: Tiny):
    found = {}
    for other_heads in (True, False):
        *_, (_, _, strategy) = learned(tiny("spg", (0,), other_heads=other_heads, **SGD))
        found[other_heads] = torch.cat([t.flatten() for t in strategy.state["importance"].values()]).mean()
    assert found[True] > found[False] > 0


@pytest.mark.parametrize("name", ["wsn", "spg"])
def test_they_run_on_convolutions_with_normalisation_and_heads_are_rows(tiny: Tiny, name: str):
    net = {"net.name": "cl_engine.testing.small:with_batchnorm", "net.hidden": 4, "stream.n": 2}
    *_, (_, stream, strategy) = learned(tiny(name, (0,), **net))
    assert isinstance(strategy.state["heads"], Bank)
    assert strategy.predict(stream.test(1).x, 1).isfinite().all()
