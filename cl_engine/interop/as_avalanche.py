"""Our strategies as Avalanche's: what makes one for a benchmark."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from cl_engine.errors import UsageError, mistakes_told
from cl_engine.interop.avalanche_strategy import AvalancheStrategy
from cl_engine.interop.benchmark_stream import Avalanche, from_avalanche
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.plain_modules import plain
from cl_engine.nn.net import Net
from cl_engine.options import checked
from cl_engine.runs import plugins
from cl_engine.runs.built_strategy import built_strategy
from cl_engine.strategy import Strategy
from cl_engine.training.optimizer_steps import check_training
from cl_engine.training.optimizers import Train

with quietly():
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.plugins.evaluation import default_evaluator


def as_avalanche(
    strategy: str | Strategy,
    *,
    benchmark: Any,
    net: Mapping[str, Any] | str | nn.Module | Callable[[], nn.Module] | None = None,
    train: Mapping[str, Any] | None = None,
    evaluator: EvaluationPlugin | Callable[[], EvaluationPlugin] | None = default_evaluator,
    plugins: Sequence[Any] = (),
    seed: int = 0,
    device: torch.device | str = "cpu",
    eval_mb_size: int = 512,
    eval_every: int = -1,
    stream: Mapping[str, Any] | None = None,
    **options: Any,
) -> AvalancheStrategy:
    """Return one of our strategies as an Avalanche strategy: ``train(experience)``, ``eval(stream)``.

    Args:
        strategy: a name of ``list strategies``, ``module:Class``, or a strategy with one seed, which brings its net.
        benchmark: the Avalanche benchmark it is to learn.
        net: the table ``[net]`` of a scenario, ``{"name": "mlp", "hidden": [64]}``, or its name alone; or a module, or what
            builds one; heads of Avalanche's that grow with classes or tasks are one head of all outputs then. A module is
            copied, and its weights, head and all, are what everything starts from, whatever the seed, as with Avalanche's own
            strategies; a head that is put in the place of one that grows is drawn. What builds a module has its weights drawn.
        train: the table ``[train]``, ``{"epochs": 1, "lr": 0.05}``.
        evaluator: Avalanche's, with metrics and loggers.
        plugins: Avalanche's plug-ins, of those that look, stop training or go back to the best weights; a schedule of
            the learning rate is made of the learner's ``optimizer`` and put first into its ``plugins``.
        seed: what all randomness is derived from.
        device: where it computes.
        eval_mb_size: rows a batch in evaluation.
        eval_every: how often Avalanche evaluates while training: as in its own strategies.
        stream: options of the benchmark as our stream, ``{"random_transforms": "eval"}``.
        options: those of the strategy.

    Raises:
        UsageError: for whatever is unknown or does not fit.
    """
    found = from_avalanche(benchmark, device, **(stream or {}))
    if found.setting == "class" and found.outputs != len(set().union(*found.classes)):
        raise UsageError("stream.setting: the classes of all experiences have the same names; use 'task' or 'domain'")
    if isinstance(strategy, str):
        if net is None:
            raise UsageError(
                "net is missing: give a table, as {'name': 'mlp', 'hidden': [64]}, a module, or what builds one"
            )
        strategy = _made(strategy, found, net, check_training(checked(Train, train or {}, "train")), seed, options)
    elif not isinstance(strategy, Strategy):
        raise UsageError(f"strategy: found a {type(strategy).__name__}; a name is allowed, or a strategy with one seed")
    elif net is not None or train is not None or options:
        raise UsageError("a strategy that is given whole brings its net, its training and its options")
    if len(strategy.seeds) != 1:
        raise UsageError(f"inside Avalanche a strategy has one seed, found {strategy.seeds}")
    with quietly():
        return AvalancheStrategy(
            strategy, found, evaluator=evaluator, plugins=plugins, eval_mb_size=eval_mb_size, eval_every=eval_every
        )


def _made(name: str, stream: Avalanche, net: Any, train: Train, seed: int, options: dict[str, Any]) -> Strategy:
    if isinstance(net, str | Mapping):
        table = {"name": net} if isinstance(net, str) else dict(net)
        if "name" not in table:
            raise UsageError("net.name is missing: give a table, as {'name': 'mlp', 'hidden': [64]}")
        build = plugins.net_builder(table.pop("name"), table, stream.input_shape, stream.outputs)
    else:
        build = partial(_plain, _builder(net), stream.outputs)
    ours = Net(build, stream.input_shape, pad_value=stream.pad_value, device=stream.device)
    return built_strategy(name, ours, stream, seeds=(seed,), train=train, options=options)


def _builder(net: Any) -> Callable[[], nn.Module]:
    """Return what builds the module: copies of one that is given, and else what is given, if it can."""
    if isinstance(net, nn.Module):
        held = copy.deepcopy(net).cpu()  # as it is now: the one that is given may be trained elsewhere
        return lambda: copy.deepcopy(held)
    if not callable(net):
        raise UsageError(
            f"net: found a {type(net).__name__}; a table is allowed, as {{'name': 'mlp', 'hidden': [64]}}, a name, an nn.Module, "
            "or what builds one"
        )
    return net  # type: ignore[no-any-return]


def _plain(build: Callable[[], nn.Module], outputs: int) -> nn.Module:
    with quietly(), mistakes_told("net: what is to build the module"):
        found: object = build()
        if not isinstance(found, nn.Module):
            raise UsageError(f"net: what is to build the module returned a {type(found).__name__}, not an nn.Module")
        return plain(found, outputs)
