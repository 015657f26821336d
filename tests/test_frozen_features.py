"""Features of a net that never changes are computed once for rows that are there to stay, and are those of the net."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cl_engine.experiment import Experiment
from cl_engine.nn import feature_cache
from cl_engine.nn.feature_cache import FrozenFeatures
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net, Params
from cl_engine.runs import plugins
from tests.test_evaluator import evaluated, walked

Tiny = Callable[..., Experiment]


@pytest.fixture
def net() -> Net:
    return Net(plugins.net_builder("mlp", {"hidden": [7]}, (5,), 3), (5,))


@pytest.fixture
def asked(net: Net, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows that features were computed of."""
    found: list[int] = []
    features = net.all_features

    def counted(params: Params, x: Tensor) -> Tensor:
        found.append(len(x))
        return features(params, x)

    monkeypatch.setattr(net, "all_features", counted)
    return found


def test_the_same_rows_are_computed_once_and_answered_as_by_the_whole_net(net: Net, asked: list[int]):
    kept, x = FrozenFeatures(net), torch.randn(11, 5)
    frozen = net.init([0, 1])
    for _ in range(3):
        params = {**frozen, **{name: torch.randn_like(frozen[name]) for name in (HEAD_WEIGHT, HEAD_BIAS)}}
        torch.testing.assert_close(kept.logits(params, x), net.all(params, x))
    kept.logits(frozen, x.clone())
    assert asked == [11, 11]


def test_another_net_is_asked_anew(net: Net, asked: list[int]):
    kept, x = FrozenFeatures(net), torch.randn(11, 5)
    for seed in (0, 1, 0):
        params = net.init([seed])
        torch.testing.assert_close(kept.logits(params, x), net.all(params, x))
    assert asked == [11] * 3


def test_features_go_with_their_rows_and_make_room_for_others(
    net: Net, asked: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feature_cache, "KEPT_BYTES", 2 * 4 * 7 * 10)
    kept, params = FrozenFeatures(net), net.init([0])
    first, second, third = (torch.randn(10, 5) for _ in range(3))
    for x in (first, second, third, first, second, third):
        kept.logits(params, x)
    assert asked == [10] * 4  # there is room for two
    del first, x
    for _ in range(2):
        kept.logits(params, third)
    assert asked == [10] * 5
    del second, third
    assert not kept._kept
    assert kept._bytes == 0


def test_a_head_over_a_frozen_net_gets_the_scores_it_would_get_without(tiny: Tiny):
    experiment = tiny("head_only", **{"stream.setting": "class"})

    def whole(strategy: object) -> None:
        strategy.predict = lambda x, task: strategy.net.all(strategy.shared.params(task), x)  # type: ignore[attr-defined]

    def counting(strategy: object) -> None:
        features = strategy.net.all_features  # type: ignore[attr-defined]
        strategy.net.all_features = lambda p, x: (asked.append(len(x)), features(p, x))[1]  # type: ignore[attr-defined]

    asked: list[int] = []
    assert evaluated(walked(experiment, counting)) == evaluated(walked(experiment, whole))
    # three rows for their operations; the twin that learned nothing: three tasks; then each task once, and five times more
    assert sorted(asked) == [1] * 3 + [50] * 6
