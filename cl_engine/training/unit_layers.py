"""Hidden layers of a seed group, unit by unit: what flows into and out of a unit, and how it is made anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cl_engine.core.tree import Path
from cl_engine.nn.net import Net
from cl_engine.nn.units import Units, hidden_units

MOMENTS = (
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",  # Adagrad
    "prev",  # Rprop
)
GAINS: Mapping[type[nn.Module], Literal["relu", "tanh", "sigmoid", "leaky_relu"]] = {
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.LeakyReLU: "leaky_relu",
    **dict.fromkeys((nn.ReLU, nn.ELU, nn.GELU, nn.SiLU), "relu"),  # as the authors of Continual Backprop take them
}

NewWeights = Literal["kaiming", "xavier", "lecun", "default"]
MEANING = "what new weights are drawn by: kaiming, xavier, lecun, or default, as torch draws them; all uniform"


class Weight:
    """A weight that a seed group trains, or a part of one, seen with the axis of seeds in front: ``[S, …]``.

    >>> leaf = torch.ones(2, 3)
    >>> Weight(leaf, lambda tensor: tensor.unsqueeze(0), []).value.shape
    torch.Size([1, 2, 3])
    """

    def __init__(
        self, leaf: Tensor, see: Callable[[Tensor], Tensor], optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        self._leaf, self._see, self._optimizers = leaf, see, optimizers
        self.value = see(leaf.detach())

    @property
    def gradient(self) -> Tensor:
        """What the last step went along, zeros where the loss does not depend on the weight."""
        return self._see(torch.zeros_like(self._leaf) if self._leaf.grad is None else self._leaf.grad.detach())

    @property
    def rate(self) -> float:
        """The learning rate."""
        groups = (group for optimizer in self._optimizers for group in optimizer.param_groups)
        return float(next(group["lr"] for group in groups if any(own is self._leaf for own in group["params"])))

    def set(self, where: Tensor, value: Tensor | float) -> None:
        """Put other numbers where a mask says so, which has as many axes."""
        if isinstance(value, Tensor):
            self.value.copy_(torch.where(where, value, self.value))
        else:
            self.value.masked_fill_(where, value)

    def forget(self, where: Tensor) -> None:
        """Let optimisers remember no gradients there; a count of steps, which is one for the whole weight, stays."""
        for optimizer in self._optimizers:
            for name, held in optimizer.state.get(self._leaf, {}).items():
                if name in MOMENTS and isinstance(held, Tensor):
                    self._see(held).masked_fill_(where, 0.0)
                elif name == "step_size":  # of Rprop, which begins with the rate
                    self._see(held).masked_fill_(where, self.rate)


@dataclass(frozen=True)
class Reader:
    """A layer that reads the units of another: its weight ``[S, O, inputs, …]``, bias ``[S, O]``, and what reads which unit.

    >>> Reader.__name__  # found by `layers_of`
    'Reader'
    """

    name: str
    weight: Weight
    bias: Weight | None
    columns: Tensor  # [units, places]
    owner: Tensor  # of each input the unit it reads; as many as there are units: another layer's
    plain: bool  # whether there is an input for each unit, in their order
    convolves: bool

    def of_inputs(self, of_units: Tensor) -> Tensor:
        """Return ``[S, units]`` as ``[S, inputs]``, 0 (False) at the inputs that read other layers."""
        if self.plain:
            return of_units
        return torch.cat([of_units, torch.zeros_like(of_units[:, :1])], dim=1)[:, self.owner]

    def of_units(self, of_inputs: Tensor) -> Tensor:
        """Return the means ``[S, units]`` of ``[S, inputs]`` over the places where a unit is read."""
        return of_inputs if self.plain else of_inputs[:, self.columns].mean(dim=2)

    def magnitude(self) -> Tensor:
        """Return the mean size ``[S, inputs]`` of the weights that read each input."""
        return mean_over(self.weight.value.abs(), axis=2)

    def mean_input(self, change: Callable[[Tensor], Tensor], read: Tensor, subtract: Tensor | None = None) -> Tensor:
        """Return the mean ``[S, inputs]`` of what the layer read ``[S, N, …]``, changed, less ``[S, inputs]``."""
        axis = 2 if self.convolves else read.ndim - 1
        if subtract is not None:
            size = [1] * read.ndim
            size[0], size[axis] = subtract.shape
            read = read - subtract.reshape(size)
        return mean_over(change(read), axis)


@dataclass
class Layer:
    """A hidden layer of a seed group, of units that can be made anew one by one.

    >>> Layer.__name__  # found by `layers_of`
    'Layer'

    Attributes:
        path: that of its weight.
        weight: ``[S, units, …]``: what flows into a unit is a row of it.
        others: further weights ``[S, units]``, with what they begin with: the bias, scale and shift of a normalisation.
        readers: the layers that read it.
        convolves: whether it is a convolution, whose units are channels.
        gain: how much larger weights are drawn for the net's activation.
        memory: tensors ``[S, …]`` that outlive the fit.
        count: what is counted here in Python, and not read from a device.
        chosen: the units ``[S, units]`` that are to be made anew in this step; None: none is.
        read: what the readers read in this step ``[S, N, …]``, by name.
    """

    path: Path
    weight: Weight
    others: list[tuple[Weight, float]]
    readers: list[Reader]
    convolves: bool
    gain: float
    memory: dict[str, Tensor] = field(default_factory=dict)
    count: Any = None
    chosen: Tensor | None = None
    read: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """How many units there are."""
        return self.weight.value.shape[1]

    @property
    def heard(self) -> bool:
        """Whether the loss of this step asked the layer for something."""
        return all(reader.name in self.read for reader in self.readers)

    def zeros(self) -> Tensor:
        """Return zeros ``[S, units]``."""
        value = self.weight.value
        return torch.zeros(value.shape[:2], device=value.device)

    def bound(self, init: NewWeights) -> float:
        """Return the greatest size of weights that are drawn anew.

        ``kaiming``: gain √(3 / inputs); ``lecun``: √(3 / inputs); ``xavier``: gain √(6 / (inputs + units)); ``default``:
        √(1 / inputs), as torch draws them.
        """
        inputs = math.prod(self.weight.value.shape[2:])
        return {
            "kaiming": self.gain * math.sqrt(3 / inputs),
            "lecun": math.sqrt(3 / inputs),
            "xavier": self.gain * math.sqrt(6 / (inputs + self.units)),
            "default": math.sqrt(1 / inputs),
        }[init]

    def incoming(self) -> Tensor:
        """Return the mean size ``[S, units]`` of the weights that flow into each unit."""
        return mean_over(self.weight.value.abs(), axis=1)

    def outgoing(self, read: Callable[[Reader], Tensor] | None = None) -> Tensor:
        """Return the mean size of the weights that read each unit ``[S, units]``, times ``read(reader) [S, inputs]``.

        Of several readers it is the sum.
        """
        found = [
            reader.of_units(reader.magnitude() if read is None else reader.magnitude() * read(reader))
            for reader in self.readers
        ]
        return found[0] if len(found) == 1 else torch.stack(found).sum(dim=0)

    def renew(self, chosen: Tensor, fresh: Tensor, forget: bool = True) -> None:
        """Make the ``chosen`` units ``[S, units]`` anew: fresh weights ``[S, units, …]`` in, none out, no past.

        ``forget``: optimisers remember nothing of those weights either.
        """
        rows = chosen.reshape(*chosen.shape, *[1] * (self.weight.value.ndim - 2))
        self.weight.set(rows, fresh)
        masks = [(self.weight, rows)]
        for other, begun in self.others:
            other.set(chosen, begun)
            masks.append((other, chosen))
        for reader in self.readers:
            inputs = reader.of_inputs(chosen)
            columns = inputs.reshape(len(inputs), 1, -1, *[1] * (reader.weight.value.ndim - 3))
            reader.weight.set(columns, 0.0)
            masks.append((reader.weight, columns))
        if forget:
            for weight, where in masks:
                weight.forget(where)


def layers_of(net: Net, found: Callable[[str], tuple[Path, Weight] | None]) -> Iterator[Layer]:
    """Yield the hidden layers whose weights, and those of all their readers, are ``found(name)`` among what is trained."""
    gain = gain_of(net)
    for units in hidden_units(net):
        weight, readers = found(f"{units.layer}.weight"), [_reader(net, units, name, found) for name in units.readers]
        if weight is None or None in readers:
            continue
        others = [(f"{units.layer}.bias", 0.0)]
        others += [] if units.norm is None else [(f"{units.norm}.weight", 1.0), (f"{units.norm}.bias", 0.0)]
        own = [(part[1], begun) for name, begun in others if (part := found(name)) is not None]
        convolves = isinstance(net.owner(f"{units.layer}.weight"), nn.modules.conv._ConvNd)
        yield Layer(*weight, own, [reader for reader in readers if reader is not None], convolves, gain)


def gain_of(net: Net) -> float:
    """Return the gain of the net's activation; that of ReLU where it has several, or none that is known."""
    kinds = {GAINS.get(type(net.owner(f"{name}.weight")), "") for name in net.layers if name} - {""}
    return nn.init.calculate_gain(kinds.pop() if len(kinds) == 1 else "relu")  # type: ignore[arg-type]


def _reader(net: Net, units: Units, name: str, found: Callable[[str], tuple[Path, Weight] | None]) -> Reader | None:
    weight, bias = found(f"{name}.weight"), found(f"{name}.bias")
    if weight is None:
        return None
    columns = units.readers[name]
    owner = torch.full((weight[1].value.shape[2],), units.count, device=columns.device)
    owner[columns.flatten()] = torch.arange(units.count, device=columns.device).repeat_interleave(columns.shape[1])
    plain = torch.equal(owner, torch.arange(units.count, device=owner.device))
    convolves = isinstance(net.owner(f"{name}.weight"), nn.modules.conv._ConvNd)
    return Reader(name, weight[1], None if bias is None else bias[1], columns, owner, plain, convolves)


def mean_over(of: Tensor, axis: int) -> Tensor:
    """Return the mean over all axes but the first, of the seeds, and one more."""
    rest = [k for k in range(1, of.ndim) if k != axis]
    return of.mean(dim=rest) if rest else of
