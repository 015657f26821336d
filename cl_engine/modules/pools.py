"""Pools of interchangeable blocks, and orders in which they are used (Zhmoginov, Bashkirova & Sandler 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.errors import UsageError
from cl_engine.nn.division import division
from cl_engine.nn.hooks import Hook
from cl_engine.nn.net import Net, Params
from cl_engine.nn.units import NORMS

FIRST_SHARE = 0.5  # of a block in the order that learning starts from …
OF_TWO = 0.75  # … where there are two, of which half would be neither
Mix = Literal["kernels", "outputs"]


@dataclass(frozen=True)
class Pool:
    """Steps of a net that have one configuration, so that a block can serve at any of them.

    >>> Pool(steps=("1", "3"), weights=("weight", "bias"), blocks=2).blocks
    2

    Attributes:
        steps: the modules at these steps, by name.
        weights: names of a block's weights within its module; normalisation belongs to the step, not to the block.
        blocks: number of blocks there are.
    """

    steps: tuple[str, ...]
    weights: tuple[str, ...]
    blocks: int


class Orders:
    """The blocks that a net's steps use, each from its pool: numbers ``[S, steps, blocks]``, more is likelier.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 6, 6]}, (1, 2, 2), 3), (1, 2, 2))
    >>> Orders(net, blocks=None).pools[0].blocks
    2

    Attributes:
        pools: the pools of the net, in the order of their first steps.
        places: for each step of all pools, the number of its pool and its name.
    """

    def __init__(self, net: Net, blocks: int | None) -> None:
        """Find modules of one configuration behind the first; ``blocks`` to choose from, or as many as there are steps.

        The first module reads the inputs, whatever its size: what it does is of no use further on.
        """
        self._net = net
        found: dict[tuple[tuple[str, tuple[int, ...]], ...], list[str]] = {}
        for part in division(net)[1:-1]:
            names = [name for name in part if not isinstance(net.owner(name), NORMS)]
            module = _module_of(names)
            weights = [name.removeprefix(f"{module}.") for name in names]
            shapes = tuple((weight, net.shapes[name]) for weight, name in zip(weights, names, strict=True))
            if module:
                found.setdefault(shapes, []).append(module)
        self.pools = [
            Pool(tuple(steps), tuple(weight for weight, _ in shapes), blocks or len(steps))
            for shapes, steps in found.items()
            if len(steps) > 1
        ]
        self.places = [(number, step) for number, pool in enumerate(self.pools) for step in pool.steps]
        self.width = max((pool.blocks for pool in self.pools), default=0)

    def check_pools(self) -> None:
        """Raise a `UsageError` if no module of the net could take another's place."""
        if not self.pools:
            raise UsageError(
                "compose: the net has no two modules of one configuration behind its first that could take each other's "
                "place: use the net 'isometric', or an MLP with three or more hidden layers of equal width"
            )

    @property
    def names(self) -> set[str]:
        """Names of all weights that blocks take the place of."""
        return {f"{step}.{weight}" for pool in self.pools for step in pool.steps for weight in pool.weights}

    def start(self, seeds: Sequence[int]) -> tuple[Tree, Tensor]:
        """Return untrained blocks ``{pool: {weight: [S, blocks, …]}}`` and the order in which step i uses block i."""
        blocks: Tree = {}
        rounds = -(-self.width // min((len(pool.steps) for pool in self.pools), default=1))
        nets = [self._net.init([rng.derive(seed, "blocks", k) if k else seed for seed in seeds]) for k in range(rounds)]
        for number, pool in enumerate(self.pools):
            steps = [(net, step) for net in nets for step in pool.steps][: pool.blocks]
            blocks[f"{number}"] = {
                weight: torch.stack([net[f"{step}.{weight}"] for net, step in steps], dim=1) for weight in pool.weights
            }
        order = torch.zeros(len(seeds), len(self.places), self.width, device=self._net.device)
        for place, (number, step) in enumerate(self.places):
            pool = self.pools[number]
            order[:, place, pool.steps.index(step) % pool.blocks] = 1.0
        return blocks, self.opened(order)

    def opened(self, order: Tensor) -> Tensor:
        """Return orders ``[S, steps, blocks]`` that start from the likeliest blocks of others, open to change."""
        start = torch.zeros_like(order)
        for place, (number, _) in enumerate(self.places):
            blocks = self.pools[number].blocks
            chosen = order[:, place, :blocks].argmax(dim=1, keepdim=True)
            start[:, place].scatter_(1, chosen, _logit(blocks))
        return start

    def replaced(self, order: Tensor, place: int, block: int) -> Tensor:
        """Return orders ``[S, steps, blocks]`` with another block at one step."""
        changed = order.clone()
        changed[:, place] = 0.0
        changed[:, place, block] = _logit(self.pools[self.places[place][0]].blocks)
        return changed

    def chances(self, order: Tensor, temperature: Tensor | float = 1.0, hard: Tensor | float = 0.0) -> list[Tensor]:
        """Return the share of each block at every step, ``[blocks]`` each, for one seed's order ``[steps, blocks]``.

        ``hard`` 1: the likeliest block alone, with the gradient of the shares (straight through); 0: the shares.
        """
        shares = []
        for place, (number, _) in enumerate(self.places):
            soft = torch.softmax(order[place, : self.pools[number].blocks] / temperature, dim=0)
            one = (torch.arange(len(soft), device=soft.device) == soft.argmax()).to(soft)
            shares.append(soft + hard * (one - soft).detach())
        return shares

    def mixed(self, blocks: Tree, shares: Sequence[Tensor], mix: Mix) -> tuple[Params, dict[str, Hook]]:
        """Return weights and hooks that make one seed's net use blocks in these shares.

        ``kernels`` mixes the weights of blocks and runs the mixture; ``outputs`` runs every block and mixes what comes
        out. For the likeliest block alone the two are the same.
        """
        params: Params = {}
        hooks: dict[str, Hook] = {}
        for (number, step), share in zip(self.places, shares, strict=True):
            own = blocks[f"{number}"]
            for weight, tensors in own.items():
                params[f"{step}.{weight}"] = torch.einsum("m,m...->...", share, tensors)
            if mix == "outputs":
                hooks[step] = _mixing(own, share)
        return params, hooks

    def hardened(self, blocks: Tree, order: Tensor) -> Params:
        """Return the weights of nets that use the likeliest block at each step, for orders ``[S, steps, blocks]``."""
        params: Params = {}
        seeds = torch.arange(len(order), device=order.device)
        for place, (number, step) in enumerate(self.places):
            chosen = order[:, place, : self.pools[number].blocks].argmax(dim=1)
            for weight, tensors in blocks[f"{number}"].items():
                params[f"{step}.{weight}"] = tensors[seeds, chosen]
        return params

    def entropy(self, shares: Sequence[Tensor]) -> Tensor:
        """Return the mean entropy of the shares over the steps, in nats."""
        return torch.stack([torch.special.entr(share.clamp_min(0)).sum() for share in shares]).mean()


def _logit(blocks: int) -> float:
    share = FIRST_SHARE if blocks > 2 else OF_TWO
    return math.log(max(1, blocks - 1) * share / (1 - share))


def _mixing(blocks: Params, share: Tensor) -> Hook:
    inside = False

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
        nonlocal inside
        if inside:  # called for one of the blocks
            return output
        inside = True
        outputs = [functional_call(layer, {w: t[i] for w, t in blocks.items()}, inputs) for i in range(len(share))]
        inside = False
        if isinstance(output, tuple):  # of attention and recurrent layers the first is the output
            return (torch.einsum("m,m...->...", share, torch.stack([first for first, *_ in outputs])), *output[1:])
        return torch.einsum("m,m...->...", share, torch.stack(outputs))

    return hook


def _module_of(names: Sequence[str]) -> str:
    """Return the innermost module that all these weights are in; empty if it is the whole net."""
    paths = [name.split(".")[:-1] for name in names]
    common = []
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ".".join(common)
