"""Upkeep that works unit by unit, or weight by weight, is what its authors published: held to plain loops over one seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.core import rng
from cl_engine.nn.net import Net
from cl_engine.nn.units import hidden_units
from cl_engine.training.fit_job import FitJob
from cl_engine.training.optimizers import Train
from cl_engine.training.upkeep import Upkeep
from cl_engine.training.weight_memory import WeightMemory
from cl_engine.upkeep.continual_backprop import ContinualBackprop
from cl_engine.upkeep.cpr import Cpr
from cl_engine.upkeep.redo import Redo
from cl_engine.upkeep.regrama import Regrama
from cl_engine.upkeep.upgd import Upgd
from tests.test_fit import job_of, net_of, run

SEEDS, AT = [3, 5, 7], 1
GAIN = math.sqrt(2)
LAYERS = {"mlp": ["1", "3", "head"], "cnn": ["0", "3", "6", "head"]}


def cnn() -> nn.Module:
    maps = nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU()
    return nn.Sequential(*maps, nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))


def net_named(kind: str) -> Net:
    return Net(cnn, (1, 6, 6)) if kind == "cnn" else net_of("mlp", hidden=[12, 9])


def features_of(kind: str, p: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Return what each layer but the first reads, and the logits last, as a plain forward pass gives them."""
    if kind == "mlp":
        h = F.linear(x.flatten(1), p["1.weight"], p["1.bias"]).relu()
        g = F.linear(h, p["3.weight"], p["3.bias"]).relu()
        return [h, g, F.linear(g, p["head.weight"], p["head.bias"])]
    a = F.max_pool2d(F.conv2d(x, p["0.weight"], p["0.bias"], padding=1).relu(), 2)
    b = F.conv2d(a, p["3.weight"], p["3.bias"]).relu().flatten(1)
    c = F.linear(b, p["6.weight"], p["6.bias"]).relu()
    return [a, b, c, F.linear(c, p["head.weight"], p["head.bias"])]


Keeper = Callable[[dict[str, Tensor], list[Tensor], Any, torch.Generator], None]


def by_hand(
    kind: str, job: FitJob, after: Keeper, before: Callable[[dict[str, Tensor]], None] = id
) -> dict[str, Tensor]:  # type: ignore[assignment]
    """Train one seed in a plain loop, with what is done after each step."""
    seed, train = SEEDS[AT], job.train
    p = {name: tensor[AT].clone().requires_grad_() for name, tensor in job.params.items()}
    adam = train.optimizer == "adam"
    optimizer = (
        torch.optim.Adam(p.values(), lr=train.lr)
        if adam
        else torch.optim.SGD(p.values(), lr=train.lr, momentum=train.momentum)
    )
    for epoch in range(train.epochs):
        draw = rng.tensors(seed, "upkeep", 0, 0, epoch)
        order = torch.randperm(50, generator=rng.tensors(seed, "order", 0, 0, epoch))
        for index in order.split(train.batch):
            optimizer.zero_grad()
            seen = features_of(kind, p, job.rows[0][index])
            F.cross_entropy(seen[-1], job.rows[1][index]).backward()
            with torch.no_grad():
                before(p)
                optimizer.step()
                after(p, seen, optimizer, draw)
    return {name: tensor.detach() for name, tensor in p.items()}


def fitted(kind: str, upkeep: Upkeep, together: bool, **train: Any) -> tuple[FitJob, dict[str, Tensor], WeightMemory]:
    net, memory = net_named(kind), WeightMemory()
    options = {"epochs": 8, "batch": 10, "lr": 0.05, **train}
    job = job_of(net, SEEDS, train=Train(**options), upkeep=upkeep, upkeep_memory=memory, side_by_side=together)
    found, _ = run(job)
    return job, {name: tensor[AT] for name, tensor in found.items()}, memory


def check(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name, tensor in wanted.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=2e-4, atol=2e-5, msg=lambda said, name=name: f"{name}: {said}"
        )


def per_unit(read: Tensor, units: int) -> Tensor:
    """Return a mean over the rows of what was read ``[N, …]`` for each unit, over its places in maps."""
    return (read.mean(dim=(0, 2, 3)) if read.ndim == 4 else read.mean(dim=0)).reshape(units, -1).mean(dim=1)


def columns(chosen: Tensor, reader: Tensor) -> Tensor:
    """Return the inputs of a reader that read these units (a list of numbers), as numbers."""
    units, width = chosen.shape[0], reader.shape[1]
    return torch.arange(width)[chosen.repeat_interleave(width // units)]


def forget(optimizer: Any, weight: Tensor, where: Any) -> None:
    for name in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
        if name in optimizer.state.get(weight, {}):
            optimizer.state[weight][name][where] = 0.0


def renewed(p: dict[str, Tensor], layer: str, reader: str, chosen: Tensor, fresh: Tensor, optimizer: Any) -> None:
    """Replace units by boolean indexing, as authors do."""
    weight, out = p[f"{layer}.weight"], p[f"{reader}.weight"]
    cols = columns(chosen, out)
    weight[chosen] = fresh
    p[f"{layer}.bias"][chosen] = 0.0
    out[:, cols] = 0.0
    if optimizer is not None:
        forget(optimizer, weight, chosen)
        forget(optimizer, p[f"{layer}.bias"], chosen)
        forget(optimizer, out, (slice(None), cols))


def bound_of(weight: Tensor, init: str = "kaiming") -> float:
    fan = weight[0].numel()
    return GAIN * math.sqrt(3 / fan) if init == "kaiming" else math.sqrt(1 / fan)


class ByHandBackprop:
    """Continual backpropagation as the authors' `GnT` and `ConvGnT` do it."""

    def __init__(self, kind: str, p: dict[str, Tensor], upkeep: ContinualBackprop) -> None:
        self.kind, self.of = kind, upkeep
        sizes = [len(p[f"{layer}.weight"]) for layer in LAYERS[kind][:-1]]
        self.ages, self.util, self.mean = ([torch.zeros(size) for size in sizes] for _ in range(3))
        self.owed = [0.0 for _ in sizes]
        self.replaced = 0

    def __call__(self, p: dict[str, Tensor], seen: list[Tensor], optimizer: Any, draw: torch.Generator) -> None:
        layers, of = LAYERS[self.kind], self.of
        for k, layer in enumerate(layers[:-1]):
            weight, out, h = p[f"{layer}.weight"], p[f"{layers[k + 1]}.weight"], seen[k]
            units = len(weight)
            self.ages[k] += 1
            correction = 1 - of.decay ** self.ages[k]
            self.util[k] *= of.decay
            self.mean[k] *= of.decay
            self.mean[k] += (1 - of.decay) * per_unit(h, units)
            hat = self.mean[k] / correction
            size = [1, units, 1, 1] if h.ndim == 4 else [1, -1]
            hat = (hat if h.ndim == 4 else hat.repeat_interleave(h.shape[1] // units)).reshape(size)
            away, height = (h - hat).abs(), out.abs().mean(dim=(0, 2, 3) if out.ndim == 4 else 0)
            rows = (0, 2, 3) if h.ndim == 4 else 0
            inward = weight.abs().flatten(1).mean(dim=1)
            outward = {
                "adaptable_contribution": height * away.mean(dim=rows),
                "zero_contribution": height * away.mean(dim=rows),
                "contribution": height * h.abs().mean(dim=rows),
                "weight": height,
                "adaptation": torch.ones_like(height),
                "feature_by_input": away.mean(dim=rows),
            }[of.utility]
            new = outward.reshape(units, -1).mean(dim=1)
            if of.utility in ("adaptable_contribution", "adaptation", "feature_by_input"):
                new = new / inward
            self.util[k] += (1 - of.decay) * new
        chosen = []
        for k in range(len(layers) - 1):
            correction = 1 - of.decay ** self.ages[k]
            eligible = torch.where(self.ages[k] > of.maturity)[0]
            picked = torch.zeros_like(self.ages[k], dtype=torch.bool)
            fresh = None
            if len(eligible):
                share = of.rate * (len(eligible) if of.counts == "mature" else len(self.ages[k]))
                self.owed[k] += share
                if of.accumulate:
                    count = int(self.owed[k])
                    self.owed[k] -= count
                else:
                    count = int(share) if share >= 1 else int(float(torch.rand((), generator=draw)) <= share)
                least = eligible[torch.topk(-(self.util[k] / correction)[eligible], count)[1]]
                picked[least] = True
                weight = p[f"{layers[k]}.weight"]
                drawn = torch.empty(count, *weight.shape[1:]).uniform_(-1, 1, generator=draw)
                drawn = drawn * bound_of(weight, "default" if weight.ndim == 4 else of.init)
                fresh = drawn[least.argsort()]
            chosen.append((picked, fresh))
            self._renew(p, k, picked, fresh, optimizer)

    def _renew(self, p: dict[str, Tensor], k: int, picked: Tensor, fresh: Tensor | None, optimizer: Any) -> None:
        if not picked.any() or fresh is None:
            return
        layer, reader = LAYERS[self.kind][k : k + 2]
        out = p[f"{reader}.weight"]
        if self.of.transfer_bias and out.ndim == 2 and out.shape[1] == len(picked):
            gave = self.mean[k] / (1 - self.of.decay ** self.ages[k])
            p[f"{reader}.bias"] += (out[:, picked] * gave[picked]).sum(dim=1)
        renewed(p, layer, reader, picked, fresh, optimizer)
        self.util[k][picked] = self.mean[k][picked] = self.ages[k][picked] = 0.0
        self.replaced += int(picked.sum())


@pytest.mark.parametrize(
    ("kind", "together", "options", "train"),
    [
        ("mlp", True, {}, {}),
        ("mlp", False, {"utility": "contribution", "transfer_bias": False}, {"optimizer": "adam", "lr": 0.01}),
        ("mlp", True, {"accumulate": False, "rate": 0.06, "utility": "adaptation"}, {}),
        ("mlp", False, {"counts": "all", "utility": "zero_contribution", "init": "default"}, {}),
        ("mlp", True, {"utility": "weight", "decay": 0.0}, {}),
        ("cnn", False, {}, {"optimizer": "adam", "lr": 0.01}),
        ("cnn", True, {"counts": "all", "utility": "contribution"}, {"momentum": 0.9}),
        ("cnn", False, {"utility": "feature_by_input", "accumulate": False}, {}),
    ],
)
def test_continual_backprop_replaces_the_units_that_a_plain_loop_replaces(
    kind: str, together: bool, options: dict[str, Any], train: dict[str, Any]
):
    upkeep = ContinualBackprop.of(**{"rate": 0.03, "maturity": 4, **options})
    job, found, memory = fitted(kind, upkeep, together, **train)
    hand = ByHandBackprop(kind, {name: tensor[AT] for name, tensor in job.params.items()}, upkeep)
    wanted = by_hand(kind, job, hand)
    assert hand.replaced > 5
    for k, layer in enumerate(LAYERS[kind][:-1]):
        kept = memory.state["of"][f"{layer}.weight"]
        assert torch.equal(kept["age"][AT], hand.ages[k]), layer  # who was replaced, and when
        torch.testing.assert_close(kept["utility"][AT], hand.util[k], rtol=1e-3, atol=1e-5)
        assert not upkeep.accumulate or kept["owed"][AT].item() == pytest.approx(hand.owed[k])
    check(found, wanted)


@pytest.mark.parametrize(("kind", "together"), [("mlp", True), ("cnn", False), ("cnn", True)])
@pytest.mark.parametrize("by", ["redo", "regrama"])
def test_dormant_units_are_made_anew_as_by_a_plain_loop(kind: str, together: bool, by: str):
    options = {"threshold": 0.6, "period": 7}
    upkeep = Redo.of(**options) if by == "redo" else Regrama.of(**options, reset_optimizer=False)
    train = {"momentum": 0.9} if by == "redo" else {"optimizer": "adam", "lr": 0.01}
    job, found, _ = fitted(kind, upkeep, together, **train)
    steps = replaced = 0

    def after(p: dict[str, Tensor], seen: list[Tensor], optimizer: Any, draw: torch.Generator) -> None:
        nonlocal steps, replaced
        steps += 1
        if steps % 7:
            return
        layers, dormant = LAYERS[kind], []
        for layer, h in zip(layers, seen[:-1], strict=False):
            weight = p[f"{layer}.weight"]
            assert weight.grad is not None
            score = per_unit(h.abs(), len(weight)) if by == "redo" else weight.grad.abs().flatten(1).mean(dim=1)
            dormant.append(score / (score.mean() + 1e-8) <= 0.6)
        for k, chosen in enumerate(dormant):
            weight = p[f"{layers[k]}.weight"]
            fresh = torch.empty_like(weight).uniform_(-1, 1, generator=draw) * bound_of(weight)
            renewed(p, layers[k], layers[k + 1], chosen, fresh[chosen], optimizer if by == "redo" else None)
            replaced += int(chosen.sum())

    check(found, by_hand(kind, job, after))
    assert replaced > 5


@pytest.mark.parametrize(
    ("kind", "curve"), [("mlp", "sigmoid"), ("cnn", "sigmoid"), ("cnn", "exp"), ("mlp", "linear"), ("mlp", "softplus")]
)
def test_partial_resets_are_those_of_a_plain_loop(kind: str, curve: str):
    job, found, _ = fitted(kind, Cpr.of(rate=0.3, period=6, curve=curve, sharpness=4.0), curve != "exp")
    utilities: dict[str, Tensor] = {}
    steps = 0
    curves = {
        "sigmoid": lambda x: torch.minimum(2 * torch.sigmoid(-4 * (x - 1)), torch.tensor(1.0)),
        "linear": lambda x: torch.clip(1 - 4 * (x - 1), 0.0, 1.0),
        "exp": lambda x: torch.minimum(torch.exp(-4 * (x - 1)), torch.tensor(1.0)),
        "softplus": lambda x: torch.minimum(torch.log1p(torch.exp(4 * (1 - x))) / math.log(2), torch.tensor(1.0)),
    }

    def after(p: dict[str, Tensor], seen: list[Tensor], optimizer: Any, draw: torch.Generator) -> None:
        nonlocal steps
        steps += 1
        layers = LAYERS[kind]
        for layer in layers[:-1]:
            gradient = p[f"{layer}.weight"].grad
            assert gradient is not None
            size = gradient.abs().flatten(1).mean(dim=1)
            utilities.setdefault(layer, torch.ones(len(size)))
            utilities[layer] = 0.99 * utilities[layer] + 0.01 * size / (size.mean() + 1e-8)
        if steps % 6:
            return
        for layer, reader in itertools.pairwise(layers):
            weight, out = p[f"{layer}.weight"], p[f"{reader}.weight"]
            share = 0.3 * curves[curve](utilities[layer])
            for unit in range(len(weight)):
                fresh = torch.empty_like(weight[unit]).uniform_(-1, 1, generator=draw) * bound_of(weight)
                weight[unit] = (1 - share[unit]) * weight[unit] + share[unit] * fresh
                out[:, columns(torch.arange(len(weight)) == unit, out)] *= 1 - share[unit]
            utilities[layer] = torch.ones(len(weight))

    check(found, by_hand(kind, job, after))


@pytest.mark.parametrize(("together", "optimizer"), [(True, "adam"), (False, "sgd")])
@pytest.mark.parametrize("options", [{}, {"factor": 1.0, "protecting": False}, {"scope": "local", "decay": 0.1}])
def test_utility_based_perturbed_gradients_are_those_of_a_plain_loop(
    together: bool, optimizer: str, options: dict[str, Any]
):
    upkeep = Upgd.of(sigma=0.1, utility_decay=0.9, **options)
    lr = 0.05 if optimizer == "sgd" else 0.01
    job, found, _ = fitted("mlp", upkeep, together, optimizer=optimizer, lr=lr)
    utility: dict[str, Tensor] = {}
    held: dict[str, Tensor] = {}
    steps = 0

    def before(p: dict[str, Tensor]) -> None:
        for name, w in p.items():
            assert w.grad is not None
            utility[name] = 0.9 * utility.get(name, torch.zeros_like(w)) - 0.1 * w.grad * w
            held[name] = w.clone()

    def after(p: dict[str, Tensor], seen: list[Tensor], optimizer: Any, draw: torch.Generator) -> None:
        nonlocal steps
        steps += 1
        greatest = max(float(own.max()) for own in utility.values())
        for name, w in p.items():
            corrected = utility[name] / (1 - 0.9**steps)
            local = upkeep.scope == "local"
            u = torch.sigmoid(F.normalize(corrected, dim=-1) if local else corrected / greatest)
            direction = (held[name] - w) / lr
            noise = 0.1 * torch.empty_like(w).normal_(generator=draw)
            step = (direction + noise) * (1 - u) if upkeep.protecting else direction + noise * (1 - u)
            w.copy_(held[name] * (1 - lr * upkeep.decay) - upkeep.factor * lr * step)

    check(found, by_hand("mlp", job, after, before))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hidden": [10, 8], "norm": "layer"}),
        ("mlp", {"hidden": [10, 8], "activation": "crelu"}),
        ("small_cnn", {"width": 6, "layers": 2, "norm": "layer", "activation": "crelu"}),
        ("small_cnn", {"width": 6, "layers": 2, "norm": "batch"}),
    ],
)
def test_nothing_reads_a_unit_that_was_just_replaced_and_its_normalisation_begins_anew(
    name: str, options: dict[str, Any]
):
    net, memory = net_of(name, **options), WeightMemory()
    utility = "random" if "activation" in options else "contribution"
    worn = ContinualBackprop.of(rate=0.2, maturity=1, init="default", utility=utility)
    params, _ = run(job_of(net, SEEDS, train=Train(epochs=2, batch=10, lr=0.1), upkeep=worn, upkeep_memory=memory))
    own = {key: tensor[0] for key, tensor in params.items()}
    x = torch.rand(5, 1, 6, 6)
    before = net.one(own, x, False)
    layers = hidden_units(net)
    assert len(layers) == 2
    for units in layers:
        new = memory.state["of"][f"{units.layer}.weight"]["age"][0] == 0
        assert new.any()
        assert not new.all()
        for reader, places in units.readers.items():
            of_reader = memory.state["of"].get(f"{reader}.weight")
            old = slice(None) if of_reader is None else of_reader["age"][0] > 0  # what flows into new units is new
            assert not own[f"{reader}.weight"][old][:, places[new]].any()
            assert own[f"{reader}.weight"][old][:, places[~new]].any()
        other = own[f"{units.layer}.weight"].clone()
        other[new] += 1.0
        if options.get("norm") != "layer":  # which makes units depend on each other
            assert torch.equal(net.one({**own, f"{units.layer}.weight": other}, x, False), before)
        other[~new] += 1.0
        assert not torch.equal(net.one({**own, f"{units.layer}.weight": other}, x, False), before)
        if units.norm is not None:
            scale, shift = own[f"{units.norm}.weight"], own[f"{units.norm}.bias"]
            assert (scale[new] == 1).all()
            assert not shift[new].any()
            assert (shift[~new] != 0).any()
