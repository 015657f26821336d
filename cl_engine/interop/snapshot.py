"""Snapshots of Avalanche strategies between two experiences, as numbers, tensors and a description.

Avalanche keeps its state in ordinary objects and saves it by pickling all of them. Here the objects are walked, and
what is data in them is taken: tensors, containers, numbers, names of classes. `cl_engine.interop.restoring` puts it into
a strategy freshly made; nothing that is read runs code.
"""

from __future__ import annotations

import enum
import io
import logging
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cl_engine.core.gpu import is_gpu
from cl_engine.errors import UsageError
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.rows import tensors_of

with quietly():
    from avalanche.benchmarks import CLExperience, CLScenario, CLStream
    from avalanche.benchmarks.utils import AvalancheDataset
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.templates.base import BaseTemplate
    from avalanche.training.utils import ParamData

# what a strategy makes anew for every experience, or holds only while it works
PASSING = {
    "BaseTemplate": {
        *("evaluator", "experience", "dataloader", "mbatch", "mb_output", "loss", "adapted_dataset", "device"),
        *(
            "current_eval_stream",
            "_eval_streams",
            "_experiences",
            "make_eval_dataloader",
            "replay_loader",
            "batch_logits",
        ),
    },
    "AGEMPlugin": {"buffer_dataloader", "buffer_dliter", "reference_gradients"},
    "GEMPlugin": {"G"},
}
# tensors that Avalanche keeps on the CPU wherever a strategy computes; of others that is seen where it computes on a GPU
ON_CPU = {"SynapticIntelligencePlugin": {"ewc_data", "syn_data"}, "ReservoirSamplingBuffer": {"_buffer_weights"}}
FACTORIES = {"dict": dict, "list": list, "set": set, "int": int, "float": float}
CONSTANT = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, type, types.ModuleType, enum.Enum, torch.dtype),
    *(torch.optim.lr_scheduler.LRScheduler, EvaluationPlugin, slice, range, torch.Generator),
    *(logging.Logger, logging.Handler, io.IOBase),
)
LIVING = (DataLoader, Iterator, CLExperience, CLScenario, CLStream)


@dataclass
class Snapshot:
    """A description as JSON holds it, the tensors by part, and the places that could not be taken.

    >>> Snapshot().lost
    []
    """

    description: Any = None
    tensors: dict[str, list[Tensor]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def taken(strategy: Any) -> Snapshot:
    """Return what the strategy holds; its tensors are referred to, not copied."""
    writer = _Writer()
    writer.out.description = writer.template(strategy, "", "strategy")
    return writer.out


def held_bytes(strategy: Any) -> dict[str, int]:
    """Return the bytes of what `taken` would take, by part; of the rows of a data set, only the first is read."""
    measured = _Measure()
    measured.template(strategy, "", "strategy")
    tensors = measured.out.tensors.items()
    return {part: sum(tensor.numel() * tensor.element_size() for tensor in held) for part, held in tensors}


class _Writer:
    """One walk; an object met again is referred to, so that what is shared stays shared."""

    def __init__(self) -> None:
        self.out = Snapshot()
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is given twice
        self._stays, self._on_gpu = False, False

    def template(self, strategy: Any, part: str, path: str) -> Any:
        """Describe a strategy, its model first, for others refer to the model's weights."""
        number = self._number(strategy)
        self._on_gpu = is_gpu(torch.device(strategy.device))
        passing = _named(PASSING, strategy)
        names = [name for name in vars(strategy) if name not in passing]
        names.sort(key=lambda name: (name != "model", name != "optimizer"))
        pairs = [[n, self.node(vars(strategy)[n], part or n, f"{path}.{n}")] for n in names]
        return ["o", number, _class_name(strategy), pairs]

    def node(self, value: Any, part: str, path: str) -> Any:
        """Describe a value; tensors go to ``part``."""
        if value is None or isinstance(value, bool | int | float | str):
            return value if not isinstance(value, enum.Enum) else ["c"]
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, torch.Size):
            return ["z", list(value)]
        if isinstance(value, torch.device):
            return ["v"]
        if id(value) in self._numbers:
            return ["r", self._numbers[id(value)]]
        if isinstance(value, Tensor):
            return self._tensor(value, part)
        if isinstance(value, np.ndarray):
            return ["n", self._number(value), *self._kept(torch.from_numpy(np.ascontiguousarray(value)), part)]
        if isinstance(value, dict | list | tuple | set | frozenset):
            return self._container(value, part, path)
        if isinstance(value, CONSTANT) or getattr(value, "passing", False):
            return ["c"]
        if isinstance(value, AvalancheDataset):
            return self._dataset(value, path)
        if isinstance(value, LIVING):
            self.out.lost.append(path)
            return ["c"]
        if isinstance(value, BaseTemplate):
            return self.template(value, part, path)
        return self._object(value, part, path)

    def _object(self, value: Any, part: str, path: str) -> Any:
        if isinstance(value, ParamData):
            return ["p", self._number(value), value.name, self.node(value._data, part, path)]
        if isinstance(value, torch.optim.Optimizer):
            held = [value.state, value.param_groups]
            return ["O", self._number(value), [self.node(one, part, path) for one in held]]
        if not hasattr(value, "__dict__"):
            return ["c"]
        number, passing = self._number(value), _named(PASSING, value)
        names = [name for name in vars(value) if name not in passing and not _is_machinery(value, name)]
        staying, before, pairs = _named(ON_CPU, value), self._stays, []
        for name in names:
            self._stays = before or name in staying
            pairs.append([name, self.node(vars(value)[name], part, f"{path}.{name}")])
        self._stays = before
        return ["o", number, _class_name(value), pairs]

    def _container(self, value: Any, part: str, path: str) -> Any:
        number = self._number(value)
        if isinstance(value, dict):
            factory = getattr(value.default_factory, "__name__", "") if isinstance(value, defaultdict) else ""
            kind = "ordered" if isinstance(value, OrderedDict) else "default" if isinstance(value, defaultdict) else ""
            pairs = [[self.node(k, part, path), self.node(v, part, f"{path}[{k!r:.20}]")] for k, v in value.items()]
            return ["d", number, kind, factory, pairs]
        tags: dict[Any, str] = {list: "l", tuple: "u", set: "s", frozenset: "f"}
        tag = tags.get(type(value))
        if tag is None:  # a named tuple, or somebody's own list
            self.out.lost.append(path)
            return ["c"]
        own = [self.node(one, self._part_of(one, part), f"{path}[{k}]") for k, one in enumerate(value)]
        return [tag, number, own]

    @staticmethod
    def _part_of(value: Any, part: str) -> str:
        return type(value).__name__.lstrip("_").removesuffix("Plugin").lower() if part == "plugins" else part

    def _dataset(self, value: Any, path: str) -> Any:
        number = self._number(value)
        if len(value) == 0:
            return ["a", number, {}]
        try:
            rows = self._rows(value)
        except (AttributeError, TypeError, UsageError):  # no classes, or inputs that are no tensors
            self.out.lost.append(path)
            return ["c"]
        return ["a", number, {name: self._kept(tensor, "buffer") for name, tensor in rows.items()}]

    def _rows(self, dataset: Any) -> dict[str, Tensor]:
        return tensors_of(dataset)

    def _tensor(self, value: Tensor, part: str) -> Any:
        kind = "P" if isinstance(value, nn.Parameter) else "T"
        stays = value.device.type == "cpu" and (self._stays or self._on_gpu)
        learns = value.requires_grad and value.is_leaf
        return [kind, self._number(value), *self._kept(value.detach(), part), learns, *["cpu"] * stays]

    def _kept(self, tensor: Tensor, part: str) -> list[Any]:
        held = self.out.tensors.setdefault(part, [])
        held.append(tensor)
        return [part, len(held) - 1]

    def _number(self, value: Any) -> int:
        self._alive.append(value)
        return self._numbers.setdefault(id(value), len(self._numbers))


class _Measure(_Writer):
    """A walk for the sizes alone: rows of a data set are alike, and reading them all takes longer than to learn them."""

    def _rows(self, dataset: Any) -> dict[str, Tensor]:
        first = tensors_of(dataset.subset([0]))
        return {name: row.expand(len(dataset), *row.shape[1:]) for name, row in first.items()}


def _named(table: Mapping[str, set[str]], value: Any) -> set[str]:
    """Return the attributes that a table of classes names for a value."""
    return {name for kind in type(value).__mro__ for name in table.get(kind.__name__, ())}


def _is_machinery(value: Any, name: str) -> bool:
    """Return whether an attribute is torch's own bookkeeping of a module: hooks, and which buffers are saved."""
    return (
        isinstance(value, nn.Module) and name.startswith("_") and ("hook" in name or name.startswith("_non_persistent"))
    )


def _class_name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"
