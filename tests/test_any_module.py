"""Any module serves: what it draws, keeps and freezes is respected, and what cannot serve is refused before the first step."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.core import rng
from cl_engine.core.tree import Tree, leaves_with_path
from cl_engine.data.stream import Data, Experience
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.masks.gates import Gates
from cl_engine.masks.patches import PatchParts
from cl_engine.modules.adapters import Adapters
from cl_engine.modules.division import ends
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.strategy import Strategy
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob
from cl_engine.training.optimizers import Train
from tests import nets_zoo as zoo

Tiny = Callable[..., Experiment]
ROWS = torch.rand(12, *zoo.SHAPE, generator=torch.Generator().manual_seed(0))
OPTIONS: dict[str, dict[str, Any]] = {"piggyback": {"mask_lr": 3e-3}}
LABELS = torch.arange(12) % zoo.CLASSES


def net_of(name: str) -> Net:
    return Net(zoo.SERVE[name], zoo.SHAPE)


def trained(net: Net, seeds: list[int], start: Tree | None = None, step: int = 0) -> Tree:
    def loss(params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(net.one(params, x), y)

    rows, train = (ROWS, LABELS), Train(batch=6, lr=0.1)
    fitting = fit(FitJob(net, start or net.init(seeds), loss, rows, train, seeds, step=step, task_id=step))
    while True:
        try:
            next(fitting)
        except StopIteration as ended:
            result: Tree = ended.value
            return result


def one_of(params: Tree, seed: int = 0) -> Tree:
    return {name: tensor[seed].clone() for name, tensor in params.items()}


@pytest.mark.parametrize("name", zoo.SERVE)
def test_a_users_module_trains_two_tasks_with_one_seed_and_with_three(name: str):
    net, rows = net_of(name), ROWS.clone()
    alone = trained(net, [1], trained(net, [1]), step=1)
    among = trained(net, [0, 1, 2], trained(net, [0, 1, 2]), step=1)
    for key, tensor in alone.items():
        torch.testing.assert_close(tensor[0], among[key][1], rtol=1e-3, atol=1e-5)
    before = {key: tensor.clone() for key, tensor in among.items()}
    answers = net.all(among, ROWS)
    assert answers.shape == (3, 12, zoo.CLASSES)
    assert torch.equal(answers, net.all(among, ROWS)), "the same call is answered otherwise"
    assert all(torch.equal(tensor, among[key]) for key, tensor in before.items()), "answering changed the weights"
    assert torch.equal(rows, ROWS), "rows were written over"


@pytest.mark.parametrize("name", zoo.REFUSED)
def test_a_module_that_cannot_serve_is_refused_in_a_sentence_before_the_first_step(name: str):
    build, sentence = zoo.REFUSED[name]
    with pytest.raises(UsageError, match=sentence) as refused:
        Net(build, zoo.SHAPE)
    assert str(refused.value).startswith("net.name: ")
    assert len(str(refused.value).splitlines()) == 1


def test_a_net_with_fewer_outputs_than_tasks_ask_for_is_refused():
    with pytest.raises(UsageError, match=r"net\.name: the net has 5 outputs, and tasks ask for 6"):
        net_of("plain").check_outputs(6)


@pytest.mark.parametrize("error", [FileNotFoundError("pretrained.pth"), AssertionError(), KeyError("x")])
def test_a_builder_that_fails_in_any_way_is_refused_in_a_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def build() -> nn.Module:
        raise error

    monkeypatch.setattr(zoo, "failing", build, raising=False)
    with pytest.raises(UsageError, match=r"net\.name: 'tests.nets_zoo:failing' cannot be built"):
        plugins.net_builder("tests.nets_zoo:failing", {}, zoo.SHAPE, 5)()


# What a module draws.


@pytest.mark.parametrize("name", ["functional_dropout", "python_draws", "noise", "attention", "builder_draws"])
def test_numbers_drawn_without_a_dropout_layer_are_the_same_again_and_leave_the_generators_alone(name: str):
    before = rng.states()
    found = []
    for number in (1, 2):  # whatever the generators stand at
        rng.reseed(number)
        outside = rng.states()
        found.append(trained(net_of(name), [3]))
        assert not rng.drawn(outside, rng.states())
    rng.restore(before)
    assert all(torch.equal(tensor, found[1][key]) for key, tensor in found[0].items())


def test_a_step_of_a_net_that_draws_draws_other_numbers_than_the_step_before():
    net = net_of("functional_dropout")
    drawn: list[Tensor] = []

    def loss(params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        drawn.append(net.one({key: tensor.detach() for key, tensor in start.items()}, ROWS))
        return net.one(params, x).square().mean()

    start = one_of(net.init([0]))
    list(fit(FitJob(net, net.init([0]), loss, (ROWS, LABELS), Train(batch=6), [0], step=0, task_id=0)))
    assert len(drawn) == 2
    assert not torch.equal(*drawn)


def test_seeds_start_from_weights_that_follow_from_them_whatever_generator_the_builder_uses():
    net = net_of("builder_draws")
    alone, among = net.init([5]), net.init([1, 5])
    assert torch.equal(alone["a.weight"][0], among["a.weight"][1])
    assert not torch.equal(among["a.weight"][0], among["a.weight"][1])


def test_threads_of_one_process_do_not_draw_each_others_numbers():
    def numbers(seed: int) -> list[float]:
        found = []
        for step in range(200):
            with rng.ambient(seed, "thread", step):
                found += [torch.rand(()).item(), random.random(), np.random.rand()]  # noqa: NPY002
        return found

    alone, together = [numbers(seed) for seed in range(3)], {}
    threads = [threading.Thread(target=lambda s=s: together.update({s: numbers(s)})) for s in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(3)] == alone


@pytest.mark.usefixtures("forking")
def test_a_forked_process_can_draw_while_another_thread_held_the_generators():
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with rng.ambient(0, "held"):
            entered.set()
            leave.wait(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    params = trained(net_of("functional_dropout"), [0, 1])  # forks, and each draws
    thread.join()
    assert len(params["a.weight"]) == 2


# Whether seeds can run as one.


def test_a_net_that_vmap_cannot_run_says_so_once_and_trains_seeds_in_turn(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "cl_engine")
    net = net_of("gru")
    assert not net.side_by_side(3)
    assert not net.side_by_side(4)
    assert [record.message for record in caplog.records if "run in turn" in record.message] == [
        caplog.records[0].message
    ]
    assert net_of("plain").side_by_side(3)
    with torch.inference_mode():  # one that is asked for answers first, before it is trained
        assert net_of("plain").side_by_side(3)


# What a module keeps.


def test_buffers_are_held_whether_they_are_changed_in_place_or_assigned_or_plain_attributes():
    kept = {}
    for name in ("assigned", "attribute"):
        net = net_of(name)
        params = one_of(net.init([0]))
        with net.training():
            for _ in range(2):
                net.one(params, ROWS)
        kept[name] = params["mean"].clone()
        net.one(params, ROWS)
        assert torch.equal(params["mean"], kept[name]), "answering changed it"
        h = F.relu(F.linear(ROWS.flatten(1), params["a.weight"], params["a.bias"])).mean(0)
        torch.testing.assert_close(kept[name], 0.19 * h)
    assert torch.equal(kept["assigned"], kept["attribute"])
    net, params = net_of("counter"), one_of(net_of("counter").init([0]))
    with net.training():
        net.one(params, ROWS)
        net.one(params, ROWS, statistics=False)
    assert params["calls"] == 1


@pytest.mark.parametrize("name", ["piggyback", "hat", "packnet", "mntdp", "finetune"])
def test_strategies_with_a_frozen_net_take_modules_that_keep_something(name: str):
    strategy = learned(name, "assigned")
    again = [strategy.predict(ROWS, task) for task in (0, 0, 1)]
    assert torch.equal(again[0], again[1]) and again[2].isfinite().all()  # answering keeps nothing


def test_weights_that_the_module_freezes_stay_as_they_are_while_others_learn():
    net = net_of("frozen_part")
    start, after = net.init([0, 1]), trained(net, [0, 1])
    assert torch.equal(start["a.weight"], after["a.weight"])
    assert not torch.equal(start["b.weight"], after["b.weight"])


@pytest.mark.parametrize("name", ["independent", "experts", "hat", "piggyback", "packnet", "mntdp", "skill_recall"])
def test_weights_that_the_module_freezes_are_kept_once_by_strategies_whose_tasks_share_nothing(name: str):
    strategy = learned(name, "frozen_part")
    first = strategy.net.init([0])["a.weight"]
    kept = [leaf for path, leaf in leaves_with_path(strategy.state) if path[-1] == "a.weight"]
    assert all(torch.equal(leaf, first) for leaf in kept if isinstance(leaf, Tensor))
    if name in ("independent", "experts"):
        assert len(kept) == 1
    if name == "mntdp":
        assert strategy.state["modules"]["0"].rows.shape[-1] == 0


def learned(name: str, net: str) -> Strategy:
    """Return a strategy that has learned two tasks."""
    made: Strategy = plugins.load("strategies", name)(net_of(net), train=Train(batch=6), **OPTIONS.get(name, {}))
    made.state = made.start()
    for task in range(2):
        data = Data(ROWS, LABELS)
        experience = Experience(step=task, task_id=task, train=data, validation=data, classes=zoo.CLASSES)
        for _ in made.learning(experience):
            pass
    assert made.predict(ROWS, 1).isfinite().all()
    return made


# Along which axis its units lie.


def test_a_gate_shuts_a_unit_of_every_token_not_a_token():
    net = net_of("tokens")
    params, gate = one_of(net.init([0])), torch.tensor([1.0] + 7 * [0.0])
    e = F.linear(ROWS.reshape(12, 8, 8), params["a.weight"], params["a.bias"]) * gate
    expected = F.linear(e.mean(1), params["head.weight"], params["head.bias"])
    torch.testing.assert_close(net.one(params, ROWS, False, gates={"a": gate}), expected)


class Flattened(nn.Module):
    """A layer over five tokens (or a convolution, places last) whose outputs are flattened and read."""

    def __init__(self, tokens: bool) -> None:
        super().__init__()
        self.a = nn.Linear(8, 3) if tokens else nn.Conv1d(8, 3, 1)
        self.b, self.head = nn.Linear(24, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x[:, 0]))
        return self.head(F.relu(self.b(h.flatten(1))))


@pytest.mark.parametrize("tokens", [True, False])
def test_weights_are_blocked_by_the_unit_they_read_whether_tokens_or_maps_were_flattened(tokens: bool):
    net = Net(partial(Flattened, tokens), zoo.SHAPE)
    gates = Gates.of(net, zoo.SHAPE)
    used = {"a": torch.tensor([1.0, 0.0, 0.0]), "b": torch.ones(4)}
    columns = gates.open(used, "b.weight", torch.zeros(4, 24))[0]
    expected = torch.tensor([0.0, 1.0, 1.0])
    assert torch.equal(columns, expected.repeat(8) if tokens else expected.repeat_interleave(8))


def test_hat_refuses_layers_that_are_not_called():
    with pytest.raises(UsageError, match=r"hat: the outputs of 'a', an attention or recurrent layer, are not those"):
        learned("hat", "attention")


class Transposed(nn.Module):
    """A transposed convolution, whose weights count their outputs along their second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.ConvTranspose2d(1, 3, 3), nn.ConvTranspose2d(3, 2, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(F.relu(self.a(x))).mean((2, 3)))


def test_patches_and_gates_of_transposed_convolutions_go_by_their_outputs():
    net = Net(Transposed, zoo.SHAPE)
    params, patch = net.init([0]), PatchParts(net, "scale_bias")
    own = patch.identity(params)
    own["b/scale"] = torch.tensor([[2.0, 1.0]])
    changed = patch.applied(params, own)["b.weight"]
    assert torch.equal(changed[0, :, 0], 2 * params["b.weight"][0, :, 0])
    assert torch.equal(changed[0, :, 1], params["b.weight"][0, :, 1])
    opened = Gates.of(net, zoo.SHAPE).open({"a": torch.zeros(3), "b": torch.tensor([1.0, 0.0])}, "b.weight", changed[0])
    assert opened[:, 1].all()


@pytest.mark.parametrize(
    ("name", "channels"),
    [("tokens", {8}), ("attention", {8}), ("lstm", {8}), ("transformer", {8, 16}), ("weight_norm", {8})],
)
def test_adapters_are_as_wide_as_a_layer_has_units(name: str, channels: set[int]):
    net = net_of(name)
    adapters = Adapters(net, bottleneck=2)
    assert set(adapters.channels.values()) == channels
    params, own = one_of(net.init([0])), one_of(adapters.start([0]))
    assert torch.allclose(
        net.one(params, ROWS, False, hooks=adapters.hooks(own)), net.one(params, ROWS, False), atol=1e-6
    )
    own = {key: tensor + 1.0 for key, tensor in own.items()}
    assert not torch.allclose(net.one(params, ROWS, False, hooks=adapters.hooks(own)), net.one(params, ROWS, False))


def test_a_module_whose_last_weight_is_computed_from_others_ends_at_the_layer():
    assert ends(net_of("weight_norm")) == ["a", "between"]


# What its user has set for torch.


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_users_defaults_of_torch_change_no_number(tiny: Tiny, tmp_path: Path):
    settings: list[Callable[[], AbstractContextManager[Any]]] = [
        float64,
        torch.no_grad,
        torch.inference_mode,
        partial(torch.autocast, "cpu", torch.bfloat16),
        partial(torch.device, "meta"),
    ]
    expected = facts(tiny("finetune", (0,)).run(tmp_path / "plain") / "log.h5")
    for number, setting in enumerate(settings):
        with setting():
            folder = tiny("finetune", (0,)).run(tmp_path / f"{number}")
        assert_same_facts(facts(folder / "log.h5"), expected)
