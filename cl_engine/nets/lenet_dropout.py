"""The smaller of Self-Net's two LeNets, with dropout."""

from __future__ import annotations

from torch import nn

from cl_engine.nn.architecture import Architecture


class LenetDropout(Architecture):
    """LeNet with dropout: conv 10 and 20 with 5 × 5 kernels, then 50 and the head (21,840 weights on MNIST, 10 classes).

    The task network of Self-Net on MNIST (Camp, Mandivarapu & Estrada 2020), as released.

    >>> module = LenetDropout().build((1, 28, 28), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    21840
    """

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = input_shape
        flat = 20 * ((((height - 4) // 2) - 4) // 2) * ((((width - 4) // 2) - 4) // 2)
        maps = (
            *(nn.Conv2d(channels, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU()),
        )
        if self.places:
            return nn.Sequential(*maps, self.head_of(20, outputs))
        hidden = nn.Flatten(), nn.Linear(flat, 50), nn.ReLU(), nn.Dropout()
        return nn.Sequential(*maps, *hidden, self.head_of(50, outputs))
