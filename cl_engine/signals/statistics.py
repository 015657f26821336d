"""Five numbers that tell of a signal where it came through, and little of what it says."""

from __future__ import annotations

import torch
from torch import Tensor

STATISTICS = 5  # numbers of a frame
LAG = 4  # samples: half a symbol


def signal_statistics(x: Tensor) -> Tensor:
    """Return numbers of each frame ``[N, 5]``, from real and imaginary parts ``[N, 2, L]``.

    They are deviation and kurtosis of the magnitude, the deviation of the steps of the phase, the magnitude of their mean,
    weighted by power (so it is that of the carrier's offset), and the correlation of the signal with itself four samples later.
    """
    z = torch.complex(x[:, 0].double(), x[:, 1].double())
    size = z.abs()
    apart = size - size.mean(dim=1, keepdim=True)
    variance = apart.square().mean(dim=1)
    kurtosis = apart.pow(4).mean(dim=1) / variance.square().clamp_min(1e-24)
    turned = z[:, 1:] * z[:, :-1].conj()
    lagged = (z[:, LAG:] * z[:, :-LAG].conj()).mean(dim=1).abs() / size.square().mean(dim=1).clamp_min(1e-24)
    numbers = [variance.sqrt(), kurtosis, turned.angle().std(dim=1), turned.mean(dim=1).angle().abs(), lagged]
    return torch.stack(numbers, dim=1).float()
