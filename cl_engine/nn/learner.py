"""What parts that strategies share ask of a strategy."""

from __future__ import annotations

from typing import Any, Protocol

from cl_engine.core.state import State
from cl_engine.nn.net import Net
from cl_engine.nn.target import Target


class Learner(Protocol):
    """The attributes of a strategy that the parts which it holds use: its nets and heads, its memory, its statistics.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy is one
    'Strategy'
    """

    net: Net
    seeds: list[int]
    setting: Any
    state: State
    target: Target
    train: Any
