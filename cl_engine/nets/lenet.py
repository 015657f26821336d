"""The larger of Self-Net's two LeNets."""

from __future__ import annotations

from torch import nn

from cl_engine.nn.architecture import Architecture


class Lenet(Architecture):
    """LeNet: conv 6 and 16 with 5 × 5 kernels, max-pooled, then 120, 84 and the head (61,326 weights on CIFAR, 2 classes).

    The task network of Self-Net on CIFAR (Camp, Mandivarapu & Estrada 2020), as released.

    >>> module = Lenet().build((3, 32, 32), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    62006
    """

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = input_shape
        flat = 16 * ((((height - 4) // 2) - 4) // 2) * ((((width - 4) // 2) - 4) // 2)
        maps = (
            *(nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        )
        if self.places:
            return nn.Sequential(*maps, self.head_of(16, outputs))
        hidden = nn.Flatten(), nn.Linear(flat, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
        return nn.Sequential(*maps, *hidden, self.head_of(84, outputs))
