"""What a strategy answers one task with, as a plain ``nn.Module``: inputs as the stream gives them in, outputs out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cl_engine.core.tree import Tree, leaves_with_path, tree_map, unflatten
from cl_engine.nn.learner import Learner
from cl_engine.nn.net import Net
from cl_engine.nn.question import Asked, Question


class Answering(Learner, Protocol):
    """The attributes of a strategy that its modules are made from.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy is one
    'Strategy'
    """

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        """Return outputs ``[S, N, O, …]``."""

    def of_seed(self, place: int) -> Any:
        """Return a twin that has the seed at this place alone."""


class TaskModule(nn.Module):
    """A module that answers one task as one seed has learned it: what it was made of, behind the scaling of inputs.

    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    >>> module = TaskModule(net, net.module(0))
    >>> module(torch.zeros(5, 1, 2, 2, dtype=torch.uint8)).shape, list(module.answering.state_dict())
    (torch.Size([5, 3]), ['1.weight', '1.bias'])

    Attributes:
        scaling: brings inputs to where the net wants them.
        answering: what reads them: the scenario's own module wherever one net answers, with the task's weights in it.
        exportable: whether answers are computed from each row by itself, in tensors alone, so that they can be traced.
    """

    def __init__(self, net: Net, answering: nn.Module, exportable: bool = True) -> None:
        super().__init__()
        self.scaling, self.answering, self.exportable = copy.deepcopy(net.scaling), answering, exportable
        self._copies = net.changes_inputs
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs ``[N, O]``, or ``[N, O, h, w]`` of a net whose head is read at places, for inputs ``[N, …]``."""
        ready = self.scaling(x)
        answer: Tensor = self.answering(ready.clone() if self._copies else ready)
        return answer


class Composed(nn.Module):
    """A function of weights that are no single net's: several nets and a readout, a net with adapters between its layers.

    >>> module = Composed(lambda own, x: x * own["net"]["scale"], {"net": {"scale": torch.tensor(2.0)}})
    >>> module(torch.ones(1)), list(module.state_dict())
    (tensor([2.], grad_fn=<MulBackward0>), ['net.scale'])
    """

    def __init__(self, function: Callable[[Tree, Tensor], Tensor], own: Mapping[str, Any]) -> None:
        super().__init__()
        self._function, self._paths = function, [path for path, _ in leaves_with_path(own)]
        for path, leaf in leaves_with_path(own):
            *parts, name = [part for key in path for part in key.split(".")]
            holder = self._holder(parts)
            if leaf.is_floating_point():
                holder.register_parameter(name, nn.Parameter(_plain(leaf)))
            else:
                holder.register_buffer(name, _plain(leaf))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the function gives for the weights and inputs as nets take them."""
        leaves = {path: self._leaf(".".join(path)) for path in self._paths}
        return self._function(unflatten(leaves), x)

    def _holder(self, parts: list[str]) -> nn.Module:
        found: nn.Module = self
        for part in parts:
            if part not in found._modules:
                found.add_module(part, nn.Module())
            found = found._modules[part]  # type: ignore[assignment]
        return found

    def _leaf(self, name: str) -> Tensor:
        parts, _, leaf = name.rpartition(".")
        found: Tensor = getattr(self.get_submodule(parts), leaf)
        return found


class WholeStrategy(nn.Module):
    """A strategy as a module: where answers depend on more than a net of the task, as where rows decide which net it is.

    Its tensors are the strategy's state; it stays on the strategy's device.

    >>> from types import SimpleNamespace
    >>> strategy = SimpleNamespace(predict=lambda x, task: torch.stack([x.clamp(max=task), x - x.mean()]))
    >>> WholeStrategy(strategy, task_id=1, place=1)(torch.tensor([1.0, 3.0]))
    tensor([-1.,  1.])
    """

    def __init__(self, strategy: Answering, task_id: int | None, place: int) -> None:
        super().__init__()
        self._strategy, self._task, self._place = strategy, task_id, place

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of one seed."""
        return self._strategy.predict(x, self._task)[self._place].clone()


def module_of(strategy: Answering, task_id: int | None, place: int) -> TaskModule:
    """Return a module that answers a task as ``predict`` does for the seed at this place.

    It is found by asking: of rows that note what is done with them (`Question`) a strategy asks one net, with weights that are
    then the task's own, whatever they were made from. Where all seeds together do not ask one net, one by itself may.
    """
    asked = _asked(strategy, task_id)
    if asked is None and len(strategy.seeds) > 1:
        alone = strategy.of_seed(place)
        for name in [name for name in vars(alone) if isinstance(getattr(type(alone), name, None), cached_property)]:
            vars(alone).pop(name)  # it was worked out for all seeds
        asked, at = _asked(alone, task_id), 0
    else:
        at = place
    if asked is None:
        return TaskModule(strategy.net, WholeStrategy(strategy, task_id, place), exportable=False)
    own = tree_map(partial(_of_seed, at), asked.params)
    return TaskModule(strategy.net, _single(asked, own) or Composed(asked.function, own), not strategy.net.draws)


def put_in(net: Net, params: Mapping[str, Tensor], gates: Mapping[str, Tensor] | None = None) -> nn.Module | None:
    """Return the scenario's module with one seed's weights ``{name: […]}``, gates on what layers give folded into them.

    None where a gate stands at a layer whose weights it cannot be folded into.
    """
    module = net.module(0, dict(params)).eval()
    folded = [_folded(module.get_submodule(layer), gate) for layer, gate in (gates or {}).items()]
    return module if all(folded) else None


def _asked(strategy: Answering, task_id: int | None) -> Asked | None:
    """Return the one call of a net that answers a task, None if there is no such."""
    question = Question.about(strategy.net.example(2))
    return question.only(strategy.predict(question, task_id))


def _single(asked: Asked, own: Tree) -> nn.Module | None:
    """Return the scenario's module that answers as a function of one seed's tree does; None if that is more than one net."""
    question = Question.about(asked.net.example(2))
    with torch.inference_mode():
        answer = asked.function(own, question)
        found = question.only(answer)
        if found is None or found.training or found.hooks or asked.net.draws:
            return None
    module = put_in(asked.net, found.params, found.gates)
    if module is None:
        return None
    with torch.no_grad():
        # it may write into its own tensors, or have one under two names: then it is not the function that the net is
        same = torch.allclose(module(question.rows.clone()), answer, rtol=1e-3, atol=1e-4 * float(answer.abs().max()))
    return module if same else None


@torch.no_grad()
def _folded(layer: nn.Module, gate: Tensor) -> bool:
    """Multiply the weights of a layer by a gate on its outputs; False for a layer of which that is not known to serve."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    linear = isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    scaled = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.GroupNorm)
    if not (linear or scaled) or nn.utils.parametrize.is_parametrized(layer):
        return False
    if weight is None or len(weight) != len(gate):
        return False
    for tensor in (weight, bias):
        if tensor is not None:
            tensor.mul_(gate.reshape(-1, *[1] * (tensor.ndim - 1)))
    return True


def _of_seed(place: int, leaf: Tensor) -> Tensor:
    return _plain(leaf[place if len(leaf) > 1 else 0])


@torch.inference_mode(False)
def _plain(leaf: Tensor) -> Tensor:
    """Return a tensor that gradients may reach, of its own memory."""
    return leaf.detach().clone()
