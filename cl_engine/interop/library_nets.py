"""Nets of other libraries that people start from, timm's and Hugging Face's: what they share.

Such a net is built by its library and stays what it is. A hook before it is called brings images to the number of channels and
the size that it was made for, so that its weights keep their names.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.runs.importing import note


@dataclass(frozen=True)
class Preprocessing:
    """How a library's net wants its images: channels, size, and the mean and deviation of each channel, of values from 0 to 1.

    >>> Preprocessing(channels=3, size=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3).scaling(3)["mean"]
    (127.5, 127.5, 127.5)
    """

    channels: int
    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scaling(self, channels: int) -> dict[str, tuple[float, ...]]:
        """Return mean and deviation of bytes, as `cl_engine.nn.net.Net` takes them; of grey images the means over channels."""
        own = {"mean": self.mean, "std": self.std}
        if channels == 1:
            own = {name: (sum(values) / len(values),) for name, values in own.items()}
        return {name: tuple(255 * value for value in values) for name, values in own.items()}

    def apply(self, x: Tensor) -> Tensor:
        """Return images ``[N, channels, h, w]`` of the size wanted; a single channel is given to each of several."""
        if x.shape[1] == 1 and self.channels > 1:
            x = x.expand(-1, self.channels, -1, -1)
        if self.size is None or tuple(x.shape[2:]) == self.size:
            return x
        return F.interpolate(x.float(), size=self.size, mode="bilinear", antialias=True).to(x.dtype)

    def put_before(self, module: nn.Module) -> nn.Module:
        """Return the module, which from now on is given images so."""
        module.register_forward_pre_hook(lambda _, inputs: (self.apply(inputs[0]), *inputs[1:]))
        return module


def library(name: str, extra: str) -> ModuleType:
    """Return another library.

    Raises:
        UsageError: if it cannot be imported, with the command that installs it.
    """
    try:
        found = importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"net.name: this needs {name}: pip install 'cl-engine[{extra}]' ({error})") from None
    note(found)
    return found


def image_channels(name: str, input_shape: tuple[int, ...], wanted: int) -> int:
    """Return how many channels a net is built for: those it was made for, or of the images where these cannot be brought to that.

    Raises:
        UsageError: if the inputs are no images.
    """
    if len(input_shape) != 3:
        raise UsageError(f"net.name: '{name}' is for images [channels, height, width], found inputs of {input_shape}")
    return wanted if input_shape[0] in (1, wanted) else input_shape[0]


def check_options(name: str, options: Iterable[str], reserved: Iterable[str]) -> None:
    """Refuse options of a net that the scenario decides.

    Raises:
        UsageError: naming the first.
    """
    odd = next((key for key in options if key in reserved), None)
    if odd is not None:
        raise UsageError(f"net.{odd}: '{name}' gets that from the stream: leave it out")
