"""The strategy `conditioned`: one net that is told the modules of a task, also of a composition that has not come before."""

from __future__ import annotations

from typing import Any

import torch

from cl_engine.adapters.film import Film
from cl_engine.data.stream import Composition
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.runs.plugins import net_builder
from cl_engine.runs.scenario import Scenario
from cl_engine.strategies.conditioned import modules_of
from cl_engine.testing.walking import after_each_task, answers, walk

INPUTS = [[], ["permute"], [], ["permute"]]
RULES = ["parity", "loops", "loops", "parity"]
TABLES: dict[str, Any] = {
    "stream": {
        "name": "compositional",
        "sources": ["digits"],
        "rules": ["parity", "loops"],
        "inputs": INPUTS,
        "first_rules": RULES,
        "n": 4,
        "samples_per_class": 10,
        "test_samples_per_class": 10,
    },
    "net": {"name": "mlp", "hidden": [12, 12]},
    "train": {"epochs": 3, "batch": 32, "optimizer": "adam", "lr": 0.01},
}


def composed(*seeds: int, **overrides: Any) -> Experiment:
    return Experiment.of(Scenario.of("composed", TABLES), "conditioned", seeds or (0,), **overrides)


def net() -> Net:
    return Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))


def test_a_modulation_scales_and_shifts_units_of_each_row_and_zeros_leave_a_net_as_it_is():
    plain, film, x = net(), Film(net()), torch.randn(4, 1, 2, 2)
    params = {name: tensor[0] for name, tensor in plain.init([0]).items()}
    assert film.size == 2 * (6 + 5)
    assert torch.equal(plain.one(params, x, hooks=film.hooks(torch.zeros(4, film.size))), plain.one(params, x))
    numbers = torch.randn(4, film.size)
    found = plain.one(params, x, hooks=film.hooks(numbers))
    for row in range(4):
        alone = plain.one(params, x[row : row + 1], hooks=film.hooks(numbers[row : row + 1]))
        torch.testing.assert_close(found[row : row + 1], alone)
    seen: list[torch.Tensor] = []
    hooks = film.hooks(torch.tensor([[1.0] * 6 + [2.0] * 6 + [0.0] * 10]))
    first = next(iter(hooks))
    plain.one(params, x, hooks={first: lambda layer, inputs, output: seen.append(output)})
    doubled = hooks[first](torch.nn.Linear(4, 6), None, seen[0])
    torch.testing.assert_close(doubled, 2 * seen[0] + 2)


def test_maps_are_modulated_channel_by_channel():
    conv = Net(net_builder("small_cnn", {"width": 4, "layers": 2}, (1, 8, 8), 3), (1, 8, 8))
    film, x = Film(conv), torch.randn(3, 1, 8, 8)
    params = {name: tensor[0] for name, tensor in conv.init([0]).items()}
    numbers = torch.randn(3, film.size)
    found = conv.one(params, x, False, hooks=film.hooks(numbers))
    each = [conv.one(params, x[k : k + 1], False, hooks=film.hooks(numbers[k : k + 1])) for k in range(3)]
    torch.testing.assert_close(found, torch.cat(each), rtol=1e-4, atol=1e-5)


def test_the_same_modules_in_another_order_are_other_modules_and_a_rule_is_itself_wherever_it_comes():
    one, other = Composition(("turn", "mirror"), "digit"), Composition(("mirror", "turn"), "digit")
    assert set(modules_of(one)) & set(modules_of(other)) == {(-1, "digit")}
    assert set(modules_of(one)) & set(modules_of(Composition(("turn",), "digit"))) == {(0, "turn"), (-1, "digit")}


def test_a_composition_that_has_not_come_before_is_answered_by_its_modules_and_their_head():
    walked = after_each_task(composed(0, 1))
    next(walked)
    stream, strategy = next(walked)
    state = strategy.state
    assert (len(state["heads"]), len(state["modules"])) == (2, 4)
    before = {task: answers(stream, strategy, task) for task in range(4)}
    # plain + loops: the row of `plain`, that of `loops`, and the head of `loops`, whose task comes second
    names = [(0, "plain"), (-1, "parity"), (0, "permute"), (-1, "loops")]
    wanted = [names.index(module) for module in modules_of(stream.composition(2))]
    row = sum(state["modules"][place] for place in wanted)
    head = {"head.weight": state["heads"][1][..., :-1], "head.bias": state["heads"][1][..., -1]}
    for seed in range(2):
        params = {name: tensor[seed] for name, tensor in {**state["net"], **head}.items()}
        film = Film(strategy.net).hooks(row[seed : seed + 1])
        found = strategy.net.one(params, strategy.net.prepare(stream.test(2).x), False, hooks=film)
        torch.testing.assert_close(before[2][seed], found)
    *_, (stream, strategy) = walked
    assert (len(strategy.state["heads"]), len(strategy.state["modules"])) == (2, 4)  # tasks 2 and 3 brought nothing new


def test_switched_off_the_head_alone_is_told():
    off, on = (walk(composed(0, conditioning=conditioning)) for conditioning in (False, True))
    for _, _, events in (off, on):
        list(events)
    assert "modules" not in off[1].state
    stream, strategy = off[0], off[1]
    x = stream.test(0).x
    assert torch.equal(strategy.predict(x, 0), strategy.predict(x, 3))  # the same question
    assert not torch.equal(on[1].predict(x, 0), on[1].predict(x, 3))


def test_an_untold_stream_makes_each_task_a_module_of_its_own(tiny: Any):
    stream, strategy, events = walk(tiny("conditioned"))
    list(events)
    assert stream.composition(2) == Composition((), "task 2")
    assert len(strategy.state["heads"]) == len(strategy.state["modules"]) == 3


def test_memory_is_counted_against_a_twin_that_knows_the_stream_too():
    *_, (stream, strategy) = after_each_task(composed(0))
    twin = strategy.drawn()
    twin.state = strategy.state
    assert torch.equal(answers(stream, twin, 3), answers(stream, strategy, 3))
