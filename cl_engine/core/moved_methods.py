"""Old names of methods that strategies had until version 0.1."""

from __future__ import annotations

from typing import Any, NoReturn


class _Moved:
    """Stands for a method that strategies had until version 0.1, and says where it is now."""

    def __init__(self, now: str) -> None:
        self._now = now

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, strategy: Any, owner: type) -> NoReturn:
        raise AttributeError(
            f"Strategy.{self._name} is now a part of its own: write `shared = SharedNet()` in the class, with "
            f"`from cl_engine.nn.shared_net import SharedNet`, and `self.shared.{self._now}(…)` here"
        )


class MovedMethods:
    """The methods of strategies that are now parts of a `cl_engine.nn.shared_net.SharedNet`; each says so when it is asked for.

    >>> hasattr(MovedMethods(), "keep_net")
    False
    """

    new_net = _Moved("start")
    net_for = _Moved("params")
    keep_net = _Moved("keep")
    midway_net = _Moved("params_midway")
    tasks_net = _Moved("of_tasks")
    keep_tasks_net = _Moved("keep_tasks")
    mixed_logits = _Moved("task_logits")
    mixed_loss = _Moved("task_loss")
    logits_of = _Moved("logits_at")
