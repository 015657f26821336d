"""What the modules of a net are given: seen through random projections, kept as examples, and put in their place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.modules.gaussians import Gaussians, inputs_seen
from cl_engine.nn.division import ends
from cl_engine.nn.hooks import Hook
from cl_engine.nn.net import Net, Params


class ModuleInputs:
    """The inputs of each module on a path: those of the net for the first, of others what the module before gives.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> inputs = ModuleInputs(net, dimensions=3)
    >>> [tuple(seen.shape) for seen in inputs.seen(net.init([0, 1]), torch.zeros(4, 1, 2, 2))]
    [(2, 4, 3), (2, 4, 3), (2, 4, 3)]

    Attributes:
        gaussians: how inputs are looked at, by depth.
        shapes: of the inputs of one row, by depth.
    """

    def __init__(self, net: Net, dimensions: int) -> None:
        """Look at inputs of a net's modules in so many dimensions."""
        self._net, self._ends = net, ends(net)
        params = {name: tensor[0] for name, tensor in net.init([0]).items()}
        with torch.no_grad():
            rows = [net.prepare(net.example(2)), *self._given(params, net.example(2))]
        self.shapes = [tuple(given.shape[1:]) for given in rows]
        self.gaussians = [Gaussians(given[0].numel(), dimensions) for given in rows]

    def seen(self, params: Params, x: Tensor) -> list[Tensor]:
        """Return the projected inputs of every module, ``[S, N, dimensions]`` by depth, of nets ``{name: [S, …]}``."""
        first = self.first(x, len(next(iter(params.values()))))

        def others(own: Params, part: Tensor) -> Tensor:
            given = zip(self.gaussians[1:], self._given(own, part), strict=True)
            return torch.cat([gaussians.projected(one.flatten(1)) for gaussians, one in given], dim=1)

        if not self._ends:
            return [first]
        widths = [one.dimensions for one in self.gaussians[1:]]
        return [first, *self._net.over_seeds(others, params, x).split(widths, dim=2)]

    def first(self, x: Tensor, seeds: int) -> Tensor:
        """Return the projected inputs of the first module, which are those of the net, ``[S, N, dimensions]``."""
        return inputs_seen(self._net, self.gaussians[0], x).unsqueeze(0).expand(seeds, -1, -1)

    def at(self, params: Params, x: Tensor, depth: int) -> Tensor:
        """Return the projected inputs of the modules at one depth, ``[S, N, dimensions]``."""
        if depth == 0:
            return self.first(x, len(next(iter(params.values()))))
        look = self.gaussians[depth].projected
        return self._net.over_seeds(lambda own, part: look(self._given(own, part)[depth - 1].flatten(1)), params, x)

    def kept(self, params: Params, x: Tensor, depth: int) -> Tensor:
        """Return the inputs of the modules at one depth behind the first as they are, ``[S, N, …]``."""
        return self._net.over_seeds(lambda own, part: self._given(own, part)[depth - 1], params, x)

    @torch.inference_mode()
    def answered(self, params: Params, inputs: Tensor, depth: int) -> Tensor:
        """Return the logits ``[N, O, …]`` of one seed's modules from ``depth`` on, for inputs ``[N, …]`` of the first of them."""

        def instead(layer: nn.Module, given: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (inputs.reshape(output[0].shape), *output[1:])
            return inputs.reshape(output.shape)

        rows = self._net.laid_out(self._net.example(len(inputs)))
        return self._net.one(params, rows, False, hooks={self._ends[depth - 1]: instead})

    def _given(self, params: Params, x: Tensor) -> list[Tensor]:
        """Return what each module but the head gives, by depth, of one seed."""
        found: dict[str, Tensor] = {}

        def noted(layer: str) -> Hook:
            def note(module: nn.Module, inputs: Any, output: Any) -> Any:
                found[layer] = output[0] if isinstance(output, tuple) else output
                return output

            return note

        self._net.features(params, x, False, hooks={layer: noted(layer) for layer in self._ends})
        # a net may make several rows of each, as one does that looks at two images by turns
        return [one if len(one) == len(x) else one.reshape(len(x), -1) for one in (found[end] for end in self._ends)]
