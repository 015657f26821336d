"""Strategies put together: found by name, given their parts, and held to what the stream asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cl_engine.data.stream import Stream
from cl_engine.engine.lookahead import look_ahead
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.runs.data_root import DataRoot, default_data_root
from cl_engine.runs.upkeep import upkeep_of
from cl_engine.strategy import Strategy
from cl_engine.training.optimizers import Train


def built_strategy(
    name: str, net: Net, stream: Stream, *, seeds: Sequence[int], train: Train, options: Mapping[str, Any]
) -> Strategy:
    """Return a strategy that can learn a stream.

    Args:
        name: as ``list strategies`` has it, or ``module:Class``.
        net: fits the stream.
        stream: what is to be learned.
        seeds: one learner each.
        train: the table ``[train]``.
        options: those of the strategy.

    Raises:
        UsageError: if there is no such strategy or option, or it cannot learn this stream so.
    """
    kind: Any = plugins.load("strategies", name)
    shown = train.shown(stream.augmentation)
    built: Strategy = kind(net, seeds=tuple(seeds), setting=stream.setting, train=shown, **options)
    stream.check_augmentation(shown.augmentation)
    built.check_targets(stream.targets)
    built.upkeep, built.registry = upkeep_of(train.upkeep), DataRoot(default_data_root())
    built.check_stream(stream)
    look_ahead(stream, built)
    return built
