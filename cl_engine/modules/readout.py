"""Readouts of frozen nets: a small net that answers a task from what the heads of other nets would read."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.nn.fast_linear import linear
from cl_engine.nn.net import Net, Params
from cl_engine.nn.target import Target
from cl_engine.options import OptionGroup, option
from cl_engine.training.fit_job import FitOptions
from cl_engine.training.grid import Fitter
from cl_engine.training.optimizers import Train


class ReadoutOptions(OptionGroup):
    """Size and training of a readout; all else of its training is as the scenario's ``train`` says.

    >>> ReadoutOptions().hidden
    16
    """

    hidden: int = option(16, "units of a readout at each place of the maps it reads", ge=1)
    readout_epochs: int = option(40, "epochs of a readout", ge=1)

    def of_few(self, train: Train, rows: int) -> Train:
        """Return how a whole net is trained on as few rows as a readout is: as often, and never on one row by itself."""
        alone = rows % train.batch == 1
        return train.model_copy(update={"epochs": self.readout_epochs, **({"leftover": "merge"} if alone else {})})


class Readout:
    """A readout of the features of one or several nets side by side: a 1 × 1 convolution, rectified, and a linear layer.

    Features that are maps, or maps laid out in a row, are read at each place alike (P places of C channels); what was never a
    map is read as a map of one place (Zamir et al. 2018, §3.2, has two convolutions). Of a net whose head is read at places
    the second layer is a 1 × 1 convolution too. Features are computed once and picked by index, those of all nets that are
    read side by side being ``[R, N, P, C]``.

    >>> net = Net(lambda: torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3)), (1, 4, 4))
    >>> readout = Readout(net, ReadoutOptions(hidden=5))
    >>> readout.maps
    (2, 2, 2)
    >>> features = readout.features([net.init([0, 1])], torch.zeros(7, 1, 4, 4))
    >>> features.shape
    torch.Size([2, 7, 4, 2])
    >>> readout.answer(readout.start([0, 1], 1, "x"), features, torch.tensor([[0], [1]])).shape
    torch.Size([2, 7, 3])

    Attributes:
        maps: channels, height and width of what is read of one net.
    """

    def __init__(self, net: Net, options: ReadoutOptions) -> None:
        self._net, self._options = net, options
        self.maps = _maps(net)

    def start(self, seeds: Sequence[int], sources: int, *purpose: int | str) -> Params:
        """Return untrained readouts of so many nets, a seed each, drawn as torch's layers are."""
        channels, height, width = self.maps
        places = 1 if self._net.places else height * width
        sizes = {
            "hidden": (self._options.hidden, sources * channels),
            "out": (self._net.outputs, places * self._options.hidden),
        }
        found: dict[str, list[Tensor]] = {}
        for seed in seeds:
            draw = rng.tensors(seed, "readout", *purpose)
            for name, (rows, columns) in sizes.items():
                for part, shape in (("weight", (rows, columns)), ("bias", (rows,))):
                    value = (2 * torch.rand(shape, generator=draw) - 1) / columns**0.5
                    found.setdefault(f"{name}.{part}", []).append(value.to(self._net.device))
        return {name: torch.stack(values) for name, values in found.items()}

    def features(self, nets: Sequence[Params], x: Tensor) -> Tensor:
        """Return the features of nets of S seeds each ``[nets · S, N, P, C]``, of one net's seeds after the other."""
        return torch.cat([self.placed(self._net.all_features(net, x)) for net in nets])

    def placed(self, features: Tensor) -> Tensor:
        """Return features ``[…, N, width]``, or ``[…, N, width, h, w]``, as they are read: ``[…, N, P, C]``."""
        rows = features.flatten(-3) if self._net.places else features
        maps: Tensor = rows.unflatten(-1, (self.maps[0], -1))
        return maps.transpose(-1, -2)

    def read(self, params: Params, features: Tensor) -> Tensor:
        """Return outputs ``[N, O]``, or ``[N, O, h, w]``, of one readout for features ``[k, N, P, C]``."""
        beside = features.movedim(0, -2).flatten(-2)
        hidden = F.relu(linear(beside, params["hidden.weight"], params["hidden.bias"]))
        if not self._net.places:
            return linear(hidden.flatten(1), params["out.weight"], params["out.bias"])
        outputs: Tensor = linear(hidden, params["out.weight"], params["out.bias"])
        maps: Tensor = outputs.transpose(1, 2).unflatten(2, self.maps[1:])
        return maps

    def logits(self, params: Params, nets: Mapping[str, Params], x: Tensor) -> Tensor:
        """Return outputs ``[N, O, …]`` of one readout of one seed's ``nets`` for inputs."""
        return self.read(params, torch.stack([self.placed(self._net.features(net, x, False)) for net in nets.values()]))

    def answer(self, params: Params, features: Tensor, sources: Tensor) -> Tensor:
        """Return outputs ``[K, N, O, …]`` of K readouts, which read the rows ``sources [K, k]`` of ``features``."""
        return torch.vmap(lambda own, read: self.read(own, features[read]))(params, sources)

    def fit(
        self,
        strategy: Fitter,
        target: Target,
        start: Params,
        features: Tensor,
        sources: Tensor,
        y: Tensor,
        experience: Experience,
        nets: Tree | None = None,
        **options: Unpack[FitOptions],
    ) -> Generator[Event, None, Tree]:
        """Fit readouts ``start``, of the strategy's seeds and of one candidate after the other, to labels ``y [N]``.

        Args:
            strategy: whose fit it is.
            target: what is asked.
            start: tensors ``[K, …]``, K the candidates times the seeds.
            features: of all nets that are read ``[R, N, P, C]``.
            sources: which of them each readout reads ``[K, k]``.
            y: labels.
            experience: the one being learned.
            nets: those that each seed's readout reads, by name, handed on for `logits`, where the fit is tested in its middle.
            options: further ones of the fit.
        """
        candidates = len(sources) // len(strategy.seeds)

        def loss(params: Params, frozen: Tree, index: Tensor, y: Tensor) -> Tensor:
            picked = frozen["features"][frozen["sources"][:, None], index.long()]
            return target.loss(self.read(params, picked), y)

        how: FitOptions = {
            # a float: what a net is given as whole numbers is scaled as images are
            "rows": (torch.arange(len(y), dtype=torch.float32, device=y.device), y),
            "frozen": {"features": features.unsqueeze(0), "sources": sources, **({"nets": nets} if nets else {})},
            "train": strategy.train.plain.model_copy(update={"epochs": self._options.readout_epochs, "milestones": []}),
            "seeds": list(strategy.seeds) * candidates,
            "candidates": candidates,
        }
        return (yield from strategy.fit(start, loss, experience, **{**how, **options}))


def _maps(net: Net) -> tuple[int, int, int]:
    """Return the shape of the last maps of a net whose numbers are its features; one place, if there are none."""
    found = [(net.width, 1, 1)]

    def look(layer: object, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output[0].numel() == net.width:
            found.append(tuple(output.shape[1:]))  # type: ignore[arg-type]

    params = {name: tensor[0] for name, tensor in net.init([0]).items()}
    with torch.no_grad():
        features = net.features(params, net.example(2), False, hooks={name: look for name in net.layers if name})
    return tuple(features.shape[1:]) if net.places else found[-1]  # type: ignore[return-value]
