"""The AlexNet-like network of HAT and MNTDP."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from cl_engine.errors import UsageError
from cl_engine.nn.architecture import Architecture
from cl_engine.options import option


class Alexnet(Architecture):
    """AlexNet-like: conv 64, 128, 256 (4 × 4, 3 × 3, 2 × 2), max-pooled, two layers of 2,048, dropout; six modules.

    As HAT (Serrà et al. 2018) and, in CTrL's tables, MNTDP (Veniat, Denoyer & Ranzato 2021) have it for 32 × 32 images.

    >>> module = Alexnet().build((3, 32, 32), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    6524362
    """

    width: int = option(2048, "units of each of the two fully connected layers", ge=1)
    dropout: tuple[float, float] = option((0.2, 0.5), "dropped after the two first convolutions, and after the others")

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = input_shape
        if min(height, width) < 20:
            raise UsageError(
                f"net.name: 'alexnet' needs images of 20 × 20 or more, found {height} × {width}: see stream.shape"
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        early, late = self.dropout
        for number, (maps, kernel, drop) in enumerate(((64, 4, early), (128, 3, early), (256, 2, late))):
            layers[f"conv{number}"] = nn.Conv2d(channels, maps, kernel)
            layers |= {f"relu{number}": nn.ReLU(), f"drop{number}": nn.Dropout(drop), f"pool{number}": nn.MaxPool2d(2)}
            channels, height, width = maps, (height - kernel + 1) // 2, (width - kernel + 1) // 2
        if self.places:
            layers["head"] = self.head_of(channels, outputs)
            return nn.Sequential(layers)
        layers["flatten"] = nn.Flatten()
        inside = channels * height * width
        for number in (3, 4):
            layers[f"linear{number}"] = nn.Linear(inside, self.width)
            layers |= {f"relu{number}": nn.ReLU(), f"drop{number}": nn.Dropout(late)}
            inside = self.width
        layers["head"] = self.head_of(inside, outputs)
        return nn.Sequential(layers)
