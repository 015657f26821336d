"""Forty odd modules, as users bring them to an engine that says that any ``nn.Module`` serves; none knows of the engine."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

IN, HIDDEN, CLASSES = 64, 8, 5
SHAPE = (1, 8, 8)


class Plain(nn.Module):
    """A hidden layer and a head; the others differ from it in a few words."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(IN, HIDDEN)
        self.more()
        self.head = nn.Linear(HIDDEN, CLASSES)

    def more(self) -> None: ...

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.a(x.flatten(1)))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.hidden(x))


class Layers(Plain):
    """Other layers between the hidden one and the head."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make
        super().__init__()

    def more(self) -> None:
        self.between = self._make()

    def hidden(self, x: Tensor) -> Tensor:
        return self.between(super().hidden(x))


class Tokens(Plain):
    """Eight tokens of eight numbers: recurrent layers, attention, a layer over tokens."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make
        super().__init__()

    def more(self) -> None:
        self.a = self._make()

    def hidden(self, x: Tensor) -> Tensor:
        rows = x.flatten(1).unflatten(1, (8, 8))
        out = self.a(rows, rows, rows) if isinstance(self.a, nn.MultiheadAttention) else self.a(rows)
        return (out[0] if isinstance(out, tuple) else out).mean(1)


class Maps(Plain):
    """A convolution, a normalisation, a pool."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        self._norm = norm
        super().__init__()

    def more(self) -> None:
        self.a, self.norm = nn.Conv2d(1, HIDDEN, 3), self._norm()

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.a(x))).mean((2, 3))


class Tied(Plain):
    def more(self) -> None:
        self.b, self.c = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.c.weight = self.b.weight

    def hidden(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(super().hidden(x))))


class OldWeightNorm(Plain):
    def more(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.a = nn.utils.weight_norm(self.a)


class Lazy(Plain):
    def more(self) -> None:
        self.a = nn.LazyLinear(HIDDEN)


class Scalar(Plain):
    def more(self) -> None:
        self.scale = nn.Parameter(torch.tensor(1.0))

    def hidden(self, x: Tensor) -> Tensor:
        return self.scale * super().hidden(x)


class FrozenPart(Plain):
    def more(self) -> None:
        self.a.requires_grad_(False)
        self.b = nn.Linear(HIDDEN, HIDDEN)

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.b(super().hidden(x)))


class InPlace(Plain):
    def hidden(self, x: Tensor) -> Tensor:
        return F.relu_(self.a(x.flatten(1).mul_(0.5).add_(0.1)))


class Written(Plain):
    def hidden(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), HIDDEN)
        out[:, :HIDDEN] = super().hidden(x)
        return out


class Branches(Plain):
    def hidden(self, x: Tensor) -> Tensor:
        h = super().hidden(x)
        return h.tanh() if h.max() > 0.3 else h


class Indices(Plain):
    def more(self) -> None:
        self.table = nn.EmbeddingBag(20, HIDDEN)

    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x) + self.table(x.flatten(1).abs().long().clamp(0, 19))


class DropPath(Plain):
    def hidden(self, x: Tensor) -> Tensor:
        h = super().hidden(x)
        if not self.training:
            return h
        return h * (torch.rand(len(h), 1) < 0.8) / 0.8


class PythonDraws(Plain):
    def hidden(self, x: Tensor) -> Tensor:
        factor = random.random() + np.random.rand() if self.training else 1.0  # noqa: NPY002
        return factor * super().hidden(x)


class FunctionalDropout(Plain):
    def hidden(self, x: Tensor) -> Tensor:
        return F.dropout(super().hidden(x), 0.5, self.training)


class Noise(Plain):
    def hidden(self, x: Tensor) -> Tensor:
        h = super().hidden(x)
        return h + 0.1 * torch.randn_like(h)


class BuilderDraws(Plain):
    def more(self) -> None:
        draw = np.random.randn(HIDDEN, IN)  # noqa: NPY002
        self.a.weight.data = torch.tensor(draw * random.random() * 0.1, dtype=torch.float32)


class Counter(Plain):
    def more(self) -> None:
        self.register_buffer("calls", torch.tensor(0))

    def hidden(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return super().hidden(x)


class Assigned(Plain):
    """Running means, assigned: in a buffer."""

    def more(self) -> None:
        self.register_buffer("mean", torch.zeros(HIDDEN))

    def hidden(self, x: Tensor) -> Tensor:
        h = super().hidden(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        return h - self.mean


class Attribute(Assigned):
    """The same in a plain attribute."""

    def more(self) -> None:
        self.mean = torch.zeros(HIDDEN)


class Cached(Plain):
    def hidden(self, x: Tensor) -> Tensor:
        self.last = super().hidden(x)
        return self.last


class Custom(Plain):
    """Weights without a layer, complex numbers on the way."""

    def more(self) -> None:
        self.real, self.imaginary = nn.Parameter(torch.rand(HIDDEN)), nn.Parameter(torch.rand(HIDDEN))

    def hidden(self, x: Tensor) -> Tensor:
        return (torch.fft.fft(super().hidden(x)) * torch.complex(self.real, self.imaginary)).real


class Locked(Plain):
    def more(self) -> None:
        self.lock = threading.Lock()

    def hidden(self, x: Tensor) -> Tensor:
        with self.lock:
            return super().hidden(x)


class Hooked(Plain):
    def more(self) -> None:
        self.a.register_forward_hook(lambda layer, inputs, output: output * 0.5)


class HeadFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(HIDDEN, CLASSES)
        self.a = nn.Linear(IN, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(x.flatten(1))))


class ConvHead(nn.Module):
    """Answers are averaged over places after the head: no other than a head that reads the averages."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).mean((2, 3))


def fully_convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, HIDDEN, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(HIDDEN, 6, 1), nn.ReLU()),
        nn.Conv2d(6, CLASSES, 1),
    )


class Segmenter(nn.Module):
    """A backbone and a classifier, as torchvision's nets for segmentation have them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, HIDDEN, 3, 2, 1), nn.BatchNorm2d(HIDDEN), nn.ReLU())
        self.gate = nn.Linear(HIDDEN, HIDDEN)
        self.classifier = nn.Sequential(nn.Conv2d(HIDDEN, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)
        return self.classifier(maps * self.gate(maps.mean((2, 3))).sigmoid()[..., None, None])


def spectral() -> nn.Module:
    return parametrizations.spectral_norm(nn.Linear(HIDDEN, HIDDEN))


SERVE: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "tied": Tied,
    "weight_norm": partial(Layers, lambda: parametrizations.weight_norm(nn.Linear(HIDDEN, HIDDEN))),
    "orthogonal": partial(Layers, lambda: parametrizations.orthogonal(nn.Linear(HIDDEN, HIDDEN))),
    "spectral_norm": partial(Layers, spectral),
    "old_weight_norm": OldWeightNorm,
    "lazy": Lazy,
    "scalar": Scalar,
    "frozen_part": FrozenPart,
    "gru": partial(Tokens, lambda: nn.GRU(8, HIDDEN, batch_first=True)),
    "lstm": partial(Tokens, lambda: nn.LSTM(8, HIDDEN, batch_first=True)),
    "attention": partial(Tokens, lambda: nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)),
    "transformer": partial(Tokens, lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    "tokens": partial(Tokens, lambda: nn.Linear(8, HIDDEN)),
    "in_place": InPlace,
    "written": Written,
    "branches": Branches,
    "indices": Indices,
    "batch_norm": partial(Maps, lambda: nn.BatchNorm2d(HIDDEN)),
    "group_norm": partial(Maps, lambda: nn.GroupNorm(2, HIDDEN)),
    "instance_norm": partial(Maps, lambda: nn.InstanceNorm2d(HIDDEN, affine=True, track_running_stats=True)),
    "layer_norm": partial(Layers, lambda: nn.LayerNorm(HIDDEN)),
    "dropout": partial(Layers, lambda: nn.Dropout(0.5)),
    "alpha_dropout": partial(Layers, lambda: nn.AlphaDropout(0.2)),
    "channel_dropout": partial(Maps, lambda: nn.Dropout2d(0.2)),
    "functional_dropout": FunctionalDropout,
    "rrelu": partial(Layers, nn.RReLU),
    "drop_path": DropPath,
    "python_draws": PythonDraws,
    "noise": Noise,
    "builder_draws": BuilderDraws,
    "counter": Counter,
    "assigned": Assigned,
    "attribute": Attribute,
    "cached": Cached,
    "custom": Custom,
    "locked": Locked,
    "hooked": Hooked,
    "head_alone": lambda: nn.Sequential(nn.Flatten(), nn.Linear(IN, CLASSES)),
    "head_first": HeadFirst,
    "conv_head": ConvHead,
}

AT_PLACES: dict[str, Callable[[], nn.Module]] = {
    "fully_convolutional": fully_convolutional,
    "segmenter": Segmenter,
    "convolution_alone": lambda: nn.Sequential(nn.Conv2d(1, CLASSES, 1)),
}


class DictOut(Plain):
    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x)}


class TwoOuts(Plain):
    """Returns something else in training, as nets with auxiliary heads do."""

    def forward(self, x: Tensor) -> Any:
        return (super().forward(x), x) if self.training else super().forward(x)


class TwoInputs(Plain):
    def forward(self, x: Tensor, task: int) -> Any:
        return super().forward(x)


class LogSoftmax(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).log_softmax(1)


class RectifiedHead(ConvHead):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.head(x)).mean((2, 3))


class Upsampled(Segmenter):
    """Brings its answers to the size of the image after its head, as torchvision's do."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(super().forward(x), size=x.shape[2:], mode="bilinear", align_corners=False)


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.movedim(1, -1))


class Cosine(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(F.normalize(input), F.normalize(self.weight), self.bias)


class CosineHead(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.head = Cosine(HIDDEN, CLASSES)


class HeadNorm(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.head = parametrizations.weight_norm(self.head)


class TiedHead(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(CLASSES, HIDDEN)
        self.head.weight = self.table.weight


class FrozenHead(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.head.requires_grad_(False)


class Half(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.bfloat16()

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.bfloat16())


class Double(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.double()

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.double())


class Complex(Plain):
    def more(self) -> None:
        self.factor = nn.Parameter(torch.ones(HIDDEN, dtype=torch.complex64))

    def hidden(self, x: Tensor) -> Tensor:
        return (super().hidden(x) * self.factor).real


class Unregistered(Plain):
    def more(self) -> None:
        self.layers = [nn.Linear(HIDDEN, HIDDEN)]

    def hidden(self, x: Tensor) -> Tensor:
        return self.layers[0](super().hidden(x))


class Counting(Plain):
    """A schedule by a number of its own."""

    def more(self) -> None:
        self.calls = 0

    def hidden(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return super().hidden(x) / (1 + self.calls)


class Growing(Plain):
    def more(self) -> None:
        self.register_buffer("seen", torch.zeros(0, HIDDEN))

    def hidden(self, x: Tensor) -> Tensor:
        h = super().hidden(x)
        self.seen = torch.cat([self.seen, h.detach()])
        return h


class Sparse(Indices):
    def more(self) -> None:
        self.table = nn.EmbeddingBag(20, HIDDEN, sparse=True)


class NoGrad(Plain):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)


class OwnGenerator(Plain):
    def more(self) -> None:
        self.a.weight.data = torch.tensor(np.random.default_rng().normal(size=(HIDDEN, IN)), dtype=torch.float32)


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(IN, CLASSES)))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dict": (DictOut, "returns a dict: let it return logits"),
    "two_outs": (TwoOuts, "returns a tuple in training mode"),
    "two_inputs": (TwoInputs, "it must take inputs \\[N, …\\] alone"),
    "log_softmax": (LogSoftmax, "last Linear layer does not give its output"),
    "rectified_head": (
        RectifiedHead,
        "last 1×1 convolution does not give its output .*a 1×1 nn.Conv2d that reads maps",
    ),
    "upsampled": (
        Upsampled,
        r"returns maps of shape \(2, 5, 8, 8\) for 2 rows that no 1×1 nn.Conv2d inside gives: end the net",
    ),
    "wide_head": (lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 5, 3)), "end the net with its head, a 1×1"),
    "strided_head": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 1, 2)), "no nn.Linear inside"),
    "linear_at_places": (ChannelsLast, "end the net with its head, a 1×1 nn.Conv2d"),
    "conv_head_without_bias": (lambda: nn.Sequential(nn.Conv2d(1, 5, 1, bias=False)), "has no bias"),
    "conv_head_norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(1, 5, 1))),
        "is computed from other tensors, .*a plain 1×1 nn.Conv2d",
    ),
    "cosine_head": (CosineHead, "end the net with a plain nn.Linear"),
    "head_norm": (HeadNorm, "is computed from other tensors"),
    "tied_head": (TiedHead, "shares its weight with 'table.weight'"),
    "frozen_head": (FrozenHead, "is frozen"),
    "half": (Half, "is bfloat16, and weights that learn must be float32"),
    "double": (Double, "is float64, and weights that learn must be float32"),
    "complex": (Complex, "is complex64, and weights that learn must be float32"),
    "unregistered": (Unregistered, "not among its parameters"),
    "counting": (Counting, "depends on calls before"),
    "growing": (Growing, "let it keep its type and shape"),
    "sparse": (Sparse, "build it with sparse=False"),
    "no_grad": (NoGrad, "no gradient reaches"),
    "own_generator": (OwnGenerator, "is another each time it is built"),
    "parallel": (lambda: nn.DataParallel(Plain()), "wrapped in DataParallel"),
    "scripted": (scripted, "compiled by torch.jit"),
}
