"""Avalanche strategies restored: the contents of a snapshot put into a strategy freshly made.

The description names classes. Only such are made as are known to hold data (modules, plug-ins, buffers), that are
imported already, and without calling what makes them otherwise: no code of the file's choosing runs.
"""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict, defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.rows import dataset_of
from cl_engine.interop.snapshot import FACTORIES, Snapshot

with quietly():
    from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
    from avalanche.core import BasePlugin
    from avalanche.training.plugins import AGEMPlugin
    from avalanche.training.regularization import RegularizationMethod
    from avalanche.training.storage_policy import ExemplarsBuffer
    from avalanche.training.utils import ParamData

DATA_CLASSES = (nn.Module, BasePlugin, ExemplarsBuffer, RegularizationMethod)
NOTHING = object()


def put(strategy: Any, snapshot: Snapshot) -> list[str]:
    """Put what was taken into ``strategy``, which was made in the same way; return the places that were not restored."""
    reader = _Reader(strategy, snapshot)
    reader.value(snapshot.description, strategy, "strategy")
    for plugin in strategy.plugins:
        if isinstance(plugin, AGEMPlugin) and plugin.buffers:  # an endless iterator, made anew after every experience
            size = plugin.sample_size // len(plugin.buffers)
            plugin.buffer_dataloader = GroupBalancedInfiniteDataLoader(
                plugin.buffers, batch_size=size, pin_memory=False
            )
            plugin.buffer_dliter = iter(plugin.buffer_dataloader)
    return [*snapshot.lost, *reader.missing]


class _Reader:
    """One walk along a description, beside the fresh strategy: what is there is filled, what is not is made."""

    def __init__(self, strategy: Any, snapshot: Snapshot) -> None:
        self.tensors, self.device = snapshot.tensors, strategy.device
        self.missing: list[str] = []
        self._made: dict[int, Any] = {}
        self._templates = {type(module): module for module in reversed(list(strategy.model.modules()))}

    def value(self, node: Any, old: Any, path: str) -> Any:
        """Return the value that a description stands for, ``old`` with new content where that is possible."""
        if not isinstance(node, list):
            return node
        tag, *rest = node
        match tag:
            case "c":
                if old is NOTHING:
                    self.missing.append(path)
                return None if old is NOTHING else old
            case "v":
                return self.device
            case "z":
                return torch.Size(rest[0])
            case "r":
                return self._made.get(rest[0])
        number, rest = rest[0], rest[1:]
        match tag:
            case "T" | "P":
                return self._keep(number, self._tensor(tag, rest, old))
            case "n":
                return self._keep(number, self._stored(rest).cpu().numpy())
            case "p":
                tensor = self.value(rest[1], NOTHING, path)
                return self._keep(number, ParamData(rest[0], init_tensor=tensor, device=tensor.device))
            case "a":
                rows = {name: self._stored(place) for name, place in rest[0].items()}
                return self._keep(number, self._dataset(rows, old))
            case "O":
                return self._optimizer(number, rest[0], old, path)
            case "d":
                return self._dict(number, rest, old, path)
            case "l" | "u" | "s" | "f":
                return self._sequence(tag, number, rest[0], old, path)
        return self._object(number, rest, old, path)

    def _keep(self, number: int, value: Any) -> Any:
        self._made[number] = value
        return value

    def _stored(self, place: list[Any]) -> Tensor:
        part, index = place
        found: Tensor = self.tensors[part][index]
        return found

    def _tensor(self, tag: str, rest: list[Any], old: Any) -> Tensor:
        where = self.device if len(rest) == 3 else rest[3]  # "cpu": of what stays there wherever the strategy computes
        stored, learns = self._stored(rest[:2]).to(where), bool(rest[2])
        if tag == "T":
            return stored.clone().requires_grad_(learns)
        if isinstance(old, nn.Parameter) and old.shape == stored.shape and old.dtype == stored.dtype:
            old.data.copy_(stored)
            old.requires_grad_(learns)
            return old
        return nn.Parameter(stored.clone(), requires_grad=learns)

    def _dataset(self, rows: dict[str, Tensor], old: Any) -> Any:
        if not rows:
            return old
        given = dict(rows)
        return dataset_of(given.pop("x"), given.pop("y"), given.pop("t"), given)

    def _optimizer(self, number: int, held: list[Any], old: Any, path: str) -> Any:
        self._keep(number, old)
        if old is NOTHING:
            self.missing.append(path)
            return None
        self.value(held[0], old.state, path)
        self.value(held[1], old.param_groups, path)
        return old

    def _dict(self, number: int, rest: list[Any], old: Any, path: str) -> Any:
        kind, factory, pairs = rest
        found = old
        if not isinstance(old, dict):
            found = OrderedDict() if kind == "ordered" else defaultdict(FACTORIES.get(factory)) if kind else {}
        self._keep(number, found)
        before = dict(found)
        new = []
        for key_node, node in pairs:
            key = self.value(key_node, NOTHING, path)
            new.append((key, self.value(node, before.get(key, NOTHING), f"{path}[{key!r:.20}]")))
        found.clear()
        found.update(new)
        return found

    def _sequence(self, tag: str, number: int, nodes: list[Any], old: Any, path: str) -> Any:
        before = list(old) if tag in "lu" and isinstance(old, list | tuple) else []
        found: Any = old if tag == "l" and isinstance(old, list) else []
        self._keep(number, found)
        before += [NOTHING] * (len(nodes) - len(before))
        new = [self.value(node, one, f"{path}[{k}]") for k, (node, one) in enumerate(zip(nodes, before, strict=False))]
        if tag == "l":
            found[:] = new
            return found
        return self._keep(number, {"u": tuple, "s": set, "f": frozenset}[tag](new))

    def _object(self, number: int, rest: list[Any], old: Any, path: str) -> Any:
        name, pairs = rest
        found = old if _class_name(old) == name else self._new(name)
        self._keep(number, found)
        if found is None:
            self.missing.append(path)
            found = self._keep(number, _Nowhere())
        for attribute, node in pairs:
            value = self.value(node, vars(found).get(attribute, NOTHING), f"{path}.{attribute}")
            vars(found)[attribute] = value
        return None if isinstance(found, _Nowhere) else found

    def _new(self, name: str) -> Any:
        """Return an empty object of a class that holds data; None if it is none of those."""
        module, _, qualified = name.partition(":")
        found: Any = sys.modules.get(module)
        for part in qualified.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, type) or not issubclass(found, DATA_CLASSES):
            return None
        if found in self._templates:
            return copy.deepcopy(self._templates[found])
        made: Any = object.__new__(found)
        if issubclass(found, nn.Module):
            nn.Module.__init__(made)
        return made


class _Nowhere:
    """Takes what has no place."""


def _class_name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"
