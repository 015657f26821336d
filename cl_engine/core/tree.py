"""Nested dicts of leaves: walking, mapping and rebuilding. The shape in which a learner's state is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Path = tuple[str, ...]
Tree = dict[str, Any]


def leaves_with_path(tree: Mapping[str, Any], at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield ``(path, leaf)`` for all that is not a dict, in insertion order."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves_with_path(value, (*at, key))
        else:
            yield (*at, key), value


def tree_map(function: Callable[[Any], Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree of the same shape whose leaves are ``function(leaf)``."""
    return {
        key: tree_map(function, value) if isinstance(value, Mapping) else function(value) for key, value in tree.items()
    }


def unflatten(pairs: Mapping[Path, Any]) -> dict[str, Any]:
    """Return the tree that has these leaves: the inverse of `leaves_with_path` (empty dicts are not kept)."""
    tree: dict[str, Any] = {}
    for path, leaf in pairs.items():
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = leaf
    return tree


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves by their dotted names.

    >>> flatten({"train": {"lr": 0.1, "epochs": 2}})
    {'train.lr': 0.1, 'train.epochs': 2}
    """
    return {".".join(map(str, path)): leaf for path, leaf in leaves_with_path(tree)}


def as_text(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the leaves by their dotted names, as text; what is not text is JSON.

    >>> as_text({"train": {"lr": 0.1, "optimizer": "sgd"}})
    {'train.lr': '0.1', 'train.optimizer': 'sgd'}
    """
    return {
        name: leaf if isinstance(leaf, str) else json.dumps(leaf, ensure_ascii=False)
        for name, leaf in flatten(tree).items()
    }
