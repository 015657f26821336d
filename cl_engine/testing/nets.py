"""The contract of nets: a function of weights, for one seed and for several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT, apply_head
from cl_engine.nn.net import Net
from cl_engine.runs import plugins


class NetContract:
    """Holds a net to all that the engine's own are held to; each failure says what is broken.

    >>> class TestMine(NetContract):
    ...     net = "my_module:build"
    ...     input_shape = (1, 28, 28)

    Attributes:
        net: the net's name, or ``module:Class`` or ``module:function``.
        options: its options.
        input_shape: the shape of an input, without the axis of rows.
        outputs: number of logits.
        places: whether it is built for answers at places.
        vocabulary: number of tokens, where inputs are tokens.
    """

    net: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    input_shape: ClassVar[tuple[int, ...]] = (3, 32, 32)
    outputs: ClassVar[int] = 10
    places: ClassVar[bool] = False
    vocabulary: ClassVar[int | None] = None

    def make(self) -> Net:
        """Return the net under test."""
        asked: dict[str, Any] = {"places": self.places, "vocabulary": self.vocabulary}
        build = plugins.net_builder(self.net, dict(self.options), self.input_shape, self.outputs, **asked)
        return Net(build, self.input_shape, vocabulary=self.vocabulary)

    def inputs(self, rows: int) -> torch.Tensor:
        """Return random inputs, the same every time."""
        generator = torch.Generator().manual_seed(0)
        if self.vocabulary is not None:
            return torch.randint(self.vocabulary, (rows, *self.input_shape), generator=generator)
        return torch.randn(rows, *self.input_shape, generator=generator)

    def test_it_gives_logits_and_its_head_reads_the_features(self) -> None:
        net, x = self.make(), self.inputs(5)
        params = net.init([3, 4])
        logits, features = net.all(params, x), net.all_features(params, x)
        assert net.places or not self.places, "answers are asked for at places, and the net gives one a row"
        assert logits.ndim == (5 if net.places else 3), f"logits have shape {tuple(logits.shape)}"
        at = tuple(logits.shape[3:])
        assert logits.shape[:3] == (2, 5, self.outputs), (
            f"logits have shape {tuple(logits.shape)}, not {(2, 5, self.outputs, *at)}"
        )
        assert features.shape == (2, 5, net.width, *at), (
            f"features have shape {tuple(features.shape)}, not {(2, 5, net.width, *at)}"
        )
        again = torch.vmap(apply_head)(features, params[HEAD_WEIGHT], params[HEAD_BIAS])
        torch.testing.assert_close(logits, again, msg=lambda text: f"the head does not read the features: {text}")

    def test_a_seed_is_initialised_the_same_whatever_is_beside_it(self) -> None:
        alone, among = self.make().init([5]), self.make().init([1, 5, 9])
        for key, tensor in alone.items():
            assert torch.equal(tensor[0], among[key][1]), (
                f"the first weights {key} of seed 5 depend on other seeds: draw them with torch's generator alone"
            )
        drawn = [k for k, t in among.items() if t.is_floating_point() and not t[0].eq(t[1]).all()]
        assert drawn, "all seeds start from the same weights"

    def test_seeds_side_by_side_answer_as_each_does_alone(self) -> None:
        net, x = self.make(), self.inputs(3)
        params = net.init([0, 1])
        torch.testing.assert_close(
            net.all(params, x),
            torch.stack([net.one({name: t[s] for name, t in params.items()}, x, False) for s in range(2)]),
            rtol=1e-4,
            atol=1e-5,
            msg=lambda text: f"beside others a seed answers otherwise than alone: {text}",
        )

    def test_gradients_reach_below_the_head(self) -> None:
        net, x = self.make(), self.inputs(2)
        params = {name: t[0].requires_grad_(not net.is_buffer(name)) for name, t in net.init([0]).items()}
        net.one(params, x, False).square().sum().backward()
        below = [name for name, t in params.items() if t.grad is not None and not name.startswith("head.")]
        assert below or net.parameters == net.outputs * (net.width + 1), "no weight but the head's gets a gradient"

    def test_a_row_is_answered_the_same_whatever_is_beside_it(self) -> None:
        net, x = self.make(), self.inputs(6)
        params = net.init([0])
        torch.testing.assert_close(
            net.all(params, x)[:, :2],
            net.all(params, x[:2]),
            rtol=1e-4,
            atol=1e-5,
            msg=lambda text: f"in evaluation mode the answer to a row depends on the rows beside it: {text}",
        )

    def test_weights_are_handed_in_and_change_what_is_answered(self) -> None:
        net, x = self.make(), self.inputs(3)
        one, other = (net.all(net.init([seed]), x) for seed in (0, 1))
        assert torch.equal(one, net.all(net.init([0]), x)), "the same weights give other answers the second time"
        assert not torch.equal(one, other), "the answers do not depend on the weights"
