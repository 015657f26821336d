"""Adapters: what a task keeps beside a frozen net is a row, changes nothing at first, and touches no other task's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_engine.adapters.adapter import Adapter
from cl_engine.adapters.bottleneck import Bottleneck
from cl_engine.adapters.hard_mask import HardMask
from cl_engine.adapters.low_rank import LowRank
from cl_engine.adapters.modulation import Modulation
from cl_engine.adapters.own_weights import biases
from cl_engine.adapters.patches import PatchParts
from cl_engine.adapters.scale_shift import ScaleShift
from cl_engine.adapters.soft_mask import SoftMask
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.masks.gates import Gates
from cl_engine.nn.net import Net, Params
from tests import nets_zoo as zoo
from tests.conftest import TINY

SHAPE = (1, 6, 6)
Tiny = Callable[..., Experiment]


class Convolutions(nn.Module):
    """Grouped, strided and transposed convolutions, and a linear layer."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(4, 6, (1, 2), groups=2)
        self.c, self.d, self.head = nn.ConvTranspose2d(6, 5, 2), nn.Linear(30, 7), nn.Linear(7, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.b(self.a(x).relu()).relu()).relu()
        return self.head(self.d(x.flatten(1)).relu())  # type: ignore[no-any-return]


KINDS: dict[str, Callable[[Net], Adapter]] = {
    "low rank": partial(LowRank, rank=2),
    "scale and shift": ScaleShift,
    "bias": biases,
    "bottleneck": partial(Bottleneck, bottleneck=2),
    "soft mask": SoftMask,
    "hard mask": HardMask,
    **{
        f"patch of {kind}": partial(PatchParts, kind=kind) for kind in ("scale_bias", "bias", "bottleneck", "soft_mask")
    },
}


def net() -> Net:
    return Net(Convolutions, SHAPE)


def answers(made: Net, adapter: Adapter, base: Params, own: Params, x: Tensor) -> Tensor:
    """Return what one seed's net answers with an adapter."""
    return made.one({**base, **adapter.applied(base, own)}, x, False, hooks=adapter.hooks(own))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_starts_as_the_net_is_learns_under_vmap_and_goes_through_a_row_of_a_bank(kind: str):
    made, x = net(), torch.rand(5, *SHAPE)
    adapter, bases = KINDS[kind](made), made.init([0, 1])
    own = adapter.start([0, 1], bases)
    one, first = ({name: tensor[0] for name, tensor in tree.items()} for tree in (bases, own))
    torch.testing.assert_close(answers(made, adapter, one, first, x), made.one(one, x, False))

    def loss(own: Params, base: Params) -> Tensor:
        return answers(made, adapter, base, own, x).square().mean()

    together = torch.vmap(torch.func.grad(loss))(own, bases)
    alone = torch.func.grad(loss)(first, one)
    for name, gradient in together.items():
        torch.testing.assert_close(gradient[0], alone[name])
    assert any(gradient.abs().sum() for gradient in alone.values())
    bank = adapter.empty(2, made.device)
    adapter.put(bank, 0, own)
    assert all(torch.equal(tensor, own[name]) for name, tensor in adapter.of(bank, 0).items())
    assert adapter.bits == 8 * bank.rows.element_size() * bank.rows[0].numel()


@pytest.mark.parametrize("name", ["a.weight", "b.weight", "c.weight", "d.weight"])
def test_a_low_rank_update_is_a_matrix_of_that_rank_over_the_outputs_of_a_layer(name: str):
    made = net()
    adapter = LowRank(made, rank=2, alpha=6)
    own = {key: torch.randn_like(tensor[0]) for key, tensor in adapter.start([0], {}).items()}
    base = {key: tensor[0] for key, tensor in made.init([0]).items()}
    added = adapter.applied(base, own)[name] - base[name]
    matrix = (added.transpose(0, 1) if name == "c.weight" else added).flatten(1)
    assert torch.linalg.matrix_rank(matrix, rtol=1e-4) == 2
    torch.testing.assert_close(matrix, 3 * own[f"{name}:up"] @ own[f"{name}:down"], rtol=1e-4, atol=1e-5)


def test_a_low_rank_convolution_is_a_thin_one_with_the_same_kernel_and_then_one_of_single_places():
    made, x = net(), torch.rand(5, *SHAPE)
    adapter = LowRank(made, rank=2, where=["a"])
    own = {key: torch.randn_like(tensor[0]) for key, tensor in adapter.start([0], {}).items()}
    base = {key: tensor[0] for key, tensor in made.init([0]).items()}
    whole = nn.functional.conv2d(x, adapter.applied(base, own)["a.weight"], stride=2)
    thin = nn.functional.conv2d(x, own["a.weight:down"].reshape(2, 1, 3, 3), stride=2)
    beside = nn.functional.conv2d(thin, own["a.weight:up"].reshape(4, 2, 1, 1))
    torch.testing.assert_close(whole, nn.functional.conv2d(x, base["a.weight"], stride=2) + beside)


def test_rank_is_at_most_the_smaller_side_and_where_says_which_layers():
    adapter = LowRank(net(), rank=5, where=["[ad]", "c.weight"])
    assert adapter.layout.shapes == {
        "a.weight:down": (4, 9),
        "a.weight:up": (4, 4),
        "c.weight:down": (5, 24),
        "c.weight:up": (5, 5),
        "d.weight:down": (5, 30),
        "d.weight:up": (7, 5),
    }
    with pytest.raises(UsageError, match=r"strategy\.where: 'x\*' fits no layer .* they are a, b, c, d"):
        LowRank(net(), rank=5, where=["a", "x*"])
    with pytest.raises(UsageError, match="found no pattern"):
        LowRank(net(), rank=5, where=[])


@pytest.mark.parametrize("name", ["attention", "lstm", "transformer"])
def test_low_rank_updates_and_biases_reach_attention_and_recurrent_layers(name: str):
    made = Net(zoo.SERVE[name], zoo.SHAPE)
    assert any("weight_hh" in key or "in_proj" in key for key in LowRank(made, rank=2).layout.shapes)
    assert any("bias_hh" in key or "in_proj_bias" in key for key in biases(made).layout.shapes)


def test_nets_without_what_is_adapted_are_refused():
    flat = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), SHAPE)
    for make in (partial(LowRank, rank=2), biases, SoftMask):
        with pytest.raises(UsageError, match="the net has no"):
            make(flat)


# In strategies.


OF_ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lora": ("lora", "adapters", {}),
    "lora, rank 1, some layers": ("lora", "adapters", {"rank": 1, "where": ["[13]"], "alpha": 2.0}),
    "scale and shift": ("patch", "patches", {}),
    **{kind: ("patch", "patches", {"kind": kind}) for kind in ("bias", "bottleneck", "soft_mask")},
}


@pytest.mark.parametrize("which", OF_ROWS)
def test_a_step_for_one_task_leaves_every_other_tasks_row_and_answers_as_they_are_bit_for_bit(tiny: Tiny, which: str):
    name, bank, options = OF_ROWS[which]
    experiment = tiny(name, (0, 1), **{"train.epochs": 1, **options})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    x = stream.test(0).x
    for step in (0, 1, 2):
        for _ in strategy.learning(stream[step]):
            pass
    backbone = {key: tensor.clone() for key, tensor in strategy.state["backbone"].items()}
    for step in (1, 0, 2, 1):  # tasks in turn, a pass each
        rows, heads = (strategy.state[key].rows.clone() for key in (bank, "heads"))
        said = [strategy.predict(x, task) for task in range(3)]
        for _ in strategy.learning(stream[step]):
            pass
        others = [task for task in range(3) if task != step]
        assert torch.equal(strategy.state[bank].rows[:, others], rows[:, others])
        assert torch.equal(strategy.state["heads"].rows[:, others], heads[:, others])
        assert not torch.equal(strategy.state[bank].rows[:, step], rows[:, step])
        assert all(torch.equal(strategy.predict(x, task), said[task]) for task in others)
    assert all(torch.equal(tensor, strategy.state["backbone"][key]) for key, tensor in backbone.items())


def test_the_memory_of_a_task_is_its_row_to_the_bit(tiny: Tiny):
    experiment = tiny("lora", (0, 1), rank=3)
    strategy = experiment.build_strategy(experiment.stream())
    strategy.state = strategy.start()
    memory = []
    stream = experiment.stream()
    for step in range(2):
        for _ in strategy.learning(stream[step]):
            pass
        memory.append(strategy.state["adapters"].rows[0].nbytes)
    assert memory[1] - memory[0] == strategy._adapter.bits / 8  # type: ignore[attr-defined]
    inputs = 64
    assert strategy._adapter.bits == 32 * 3 * ((inputs + 12) + 2 * (12 + 12))  # type: ignore[attr-defined]


def test_a_net_that_the_first_task_trained_is_taken_as_it_is(tiny: Tiny):
    experiment = tiny("lora", (0,), backbone="first_task")
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    for _ in strategy.learning(stream[0]):
        pass
    added = [name for name in strategy._adapter.layout.shapes if name.endswith(":up")]  # type: ignore[attr-defined]
    own = strategy._adapter.of(strategy.state["adapters"], 0)  # type: ignore[attr-defined]
    assert all(not own[name].any() for name in added)
    frozen = {key: tensor.clone() for key, tensor in strategy.state["backbone"].items()}
    for _ in strategy.learning(stream[1]):
        pass
    assert all(torch.equal(tensor, strategy.state["backbone"][key]) for key, tensor in frozen.items())


def test_layers_that_are_not_there_are_refused_before_the_first_step():
    experiment = Experiment.of(TINY, "lora", (0,), where=["conv*"])
    strategy = experiment.build_strategy(experiment.stream())
    with pytest.raises(UsageError, match=r"strategy\.where: 'conv\*' fits no layer of the net that can be adapted"):
        strategy.start()


def in_groups() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(600, 3)
    )


def test_a_transposed_convolution_in_groups_is_refused_by_whatever_treats_its_outputs_one_by_one():
    net = Net(in_groups, SHAPE)
    said = r"the net's '2' is a transposed convolution in 2 groups, .* choose groups = 1, or freeze that layer"
    refused: list[Callable[[], Any]] = [
        lambda: ScaleShift(net),
        lambda: Gates.of(net, SHAPE),
        lambda: Modulation(net, ["se"], 2),
        lambda: PatchParts(net, kind="scale_bias"),
    ]
    for make in refused:
        with pytest.raises(UsageError, match=said):
            make()
    adapter = LowRank(net, rank=2)
    base = net.init((0,))
    own = adapter.start((0,), base)
    assert adapter.added("2.weight", {name: part[0] for name, part in own.items()}).shape == net.shapes["2.weight"]
