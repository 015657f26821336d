"""What our strategies cannot take inside Avalanche: plug-ins that would change what is trained, and what is no experience."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cl_engine.errors import UsageError
from cl_engine.interop.lazy_import import quietly

with quietly():
    from avalanche.core import BasePlugin
    from avalanche.training import supervised
    from avalanche.training.plugins import LRSchedulerPlugin

# what only looks, or asks for what our strategies do: to stop, to go back to weights, to change the learning rate
SERVED = {"Clock", "PeriodicEval", "EarlyStoppingPlugin", "LRSchedulerPlugin", "EvaluationPlugin"}
NEUTRAL = {"avalanche.core", "avalanche.training.plugins.strategy_plugin", "avalanche.logging", "avalanche.evaluation"}
REHEARSAL = {"ReplayPlugin", "GDumbPlugin", "GSS_greedyPlugin", "MIRPlugin", "RARPlugin", "GenerativeReplayPlugin"}


def check_plugin(plugin: Any, optimizer: Any) -> None:
    """Refuse a plug-in that would change what is trained; ``optimizer`` is the learner's, None: it is still being made.

    Raises:
        UsageError: for one of Avalanche's that changes batches, loss, gradients or weights, and for what is built on it;
            for a schedule of another optimiser than the learner's.
    """
    origin = next((kind for kind in type(plugin).__mro__ if _is_avalanches_own(kind)), None)
    name = type(plugin).__name__
    if origin is not None and origin.__name__ not in SERVED:
        strategy = origin.__name__.removesuffix("Plugin")
        known = hasattr(supervised, strategy)
        ours = "as_avalanche('replay', samples=…) rehearses, and " if origin.__name__ in REHEARSAL else ""
        raise UsageError(
            f"the plug-in '{name}' has no effect on our strategies, which draw their own batches and compute their own loss "
            f"and gradients: {ours}Avalanche's own run in this engine as avalanche:{strategy if known else 'NAME'}"
        )
    if isinstance(plugin, LRSchedulerPlugin) and plugin.scheduler.optimizer is not optimizer:
        raise UsageError(
            f"the plug-in '{name}' sets the learning rate of another optimiser: make its schedule of learner.optimizer, "
            "and put it first, by learner.plugins.insert(0, …)"
        )


def check_experiences(method: str, given: Any) -> None:
    """Refuse what is neither an experience nor several of them; of those made one by one the first is not asked for.

    Raises:
        UsageError: with what was found instead.
    """
    one = isinstance(given, str) or not isinstance(given, Iterable)
    several = [given] if one else given if isinstance(given, list | tuple) else []
    odd = next((each for each in several if not hasattr(each, "dataset")), None)
    if odd is not None or given is None:
        raise UsageError(
            f"{method}: found a {type(odd).__name__} among what is to be gone through; an experience of a benchmark is allowed, "
            "or a stream of them, such as benchmark.train_stream"
        )


def _is_avalanches_own(kind: type) -> bool:
    """Return whether a class is a plug-in of Avalanche's that does something by itself."""
    module = kind.__module__
    neutral = any(module == own or module.startswith(f"{own}.") for own in NEUTRAL)
    return module.startswith("avalanche.") and issubclass(kind, BasePlugin) and not neutral
