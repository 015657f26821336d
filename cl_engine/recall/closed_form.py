"""Closed forms for an autoencoder: its first directions, and its last layer."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_engine.recall.autoencoder import FUNCTIONS, Shape, Weights

REACH = 0.5  # largest input of a code's activation at the start: where tanh is nearly linear
RIDGE = 1e-7  # share of the mean squared feature, so that features which are nearly dependent do no harm


@torch.no_grad()
def principal_encoder(shape: Shape, fresh: Weights, samples: Tensor) -> Weights:
    """Return an encoder without hidden layers whose rows are the principal directions of ``samples [S, N, D]``.

    The best linear code there is (Eckart & Young 1936) is where training then starts. With fewer directions than
    code numbers the rest stay as they were drawn.
    """
    count, width = samples.shape[1:]
    found = min(shape.latent, count, width)
    if count <= width:
        values, vectors = torch.linalg.eigh((samples @ samples.transpose(1, 2)).double())
        top = vectors[:, :, -found:].float()
        scale = values[:, -found:].clamp_min(1e-12).rsqrt().float()
        rows = (top * scale.unsqueeze(1)).transpose(1, 2) @ samples
    else:
        _, vectors = torch.linalg.eigh((samples.transpose(1, 2) @ samples).double())
        rows = vectors[:, :, -found:].transpose(1, 2).float()
    largest = (samples @ rows.transpose(1, 2)).abs().amax(dim=1).clamp_min(1e-12)
    w0, b0 = fresh["w0"].clone(), fresh["b0"].clone()
    w0[:, :found] = rows * (REACH / largest).unsqueeze(-1)
    b0[:, :found] = 0
    return {"w0": w0, "b0": b0}


@torch.no_grad()
def solve_last_layer(shape: Shape, decoder: Weights, codes: Tensor, samples: Tensor) -> None:
    """Change the decoder's linear last layer, as little as possible, so that ``codes [S, N, latent]`` give ``samples``.

    Least squares with a trace of ridge: exact for as many samples as the layer has independent features, the best
    compromise beyond. Needs the Gram matrix of the samples or of the features, whichever is smaller.
    """
    last = len(shape.hidden)
    features = codes
    for layer in range(last):
        features = torch.baddbmm(decoder[f"b{layer}"].unsqueeze(1), features, decoder[f"w{layer}"].transpose(1, 2))
        features = FUNCTIONS[shape.activation](features)
    weight, bias = decoder[f"w{last}"], decoder[f"b{last}"]
    missing = samples - torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))
    ones = torch.ones_like(features[:, :, :1])
    features = torch.cat([features, ones], dim=2).double()
    seeds, count, width = features.shape
    ridge = RIDGE * features.square().mean(dim=(1, 2)).reshape(seeds, 1, 1)
    if count <= width:
        gram = features @ features.transpose(1, 2) + ridge * torch.eye(count, dtype=torch.float64, device=codes.device)
        change = torch.linalg.solve(gram, features).transpose(1, 2)  # [S, width, N]
    else:
        gram = features.transpose(1, 2) @ features + ridge * torch.eye(width, dtype=torch.float64, device=codes.device)
        change = torch.linalg.solve(gram, features.transpose(1, 2))
    step = missing.transpose(1, 2) @ change.transpose(1, 2).float()  # [S, D, width]
    weight += step[:, :, :-1]
    bias += step[:, :, -1]
