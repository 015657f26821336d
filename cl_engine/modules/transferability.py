"""Transferability of a net's features to a task, estimated without training the net."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.nn.target import Target

Proxy = Literal["knn", "linear", "leep", "h_score"]
OF_CLASSES = ("leep", "h_score")  # those that tell of nothing else
ROWS_AT_ONCE = 1024


def transferability_score(
    proxy: Proxy, features: Tensor, logits: Tensor, labels: Tensor, *, k: int = 1, cosine: bool = False
) -> float:
    """Return how well a net's features suit a task, by one of several proxies; more is better.

    Args:
        proxy: which proxy; the functions below.
        features: what the net's head would read, ``[N, d]``.
        logits: what its own head says, ``[N, Z]``; read by ``leep`` alone.
        labels: labels of the task, ``[N]``, from 0; or vectors ``[N, D]`` (`compared`), of which the share of variance that is
            explained tells.
        k: neighbours that vote, for ``knn``.
        cosine: ``knn`` compares directions instead of distances.
    """
    if proxy == "knn":
        return nearest_neighbours(features, labels, k=k, cosine=cosine)
    if proxy == "linear":
        return linear_probe(features, labels)
    return leep(logits, labels) if proxy == "leep" else h_score(features, labels)


def nearest_neighbours(features: Tensor, labels: Tensor, *, k: int = 1, cosine: bool = False) -> float:
    """Return the leave-one-out accuracy of k nearest neighbours, the mean over classes (Puigcerver et al. 2021).

    A row is never its own neighbour. Of classes with as many votes, that of the nearest neighbour among them wins. Of
    vectors it is the mean of the neighbours' that counts, and the share of variance it explains.
    """
    features = F.normalize(features, dim=1) if cosine else features
    k = min(k, len(features) - 1)
    if k < 1:
        return 0.0
    classes, found = (0 if labels.ndim > 1 else int(labels.max()) + 1), []
    for start in range(0, len(features), ROWS_AT_ONCE):
        part = features[start : start + ROWS_AT_ONCE]
        distance = torch.cdist(part, features, compute_mode="donot_use_mm_for_euclid_dist")
        distance[torch.arange(len(part)), torch.arange(start, start + len(part))] = torch.inf
        nearest = labels[distance.topk(k, largest=False).indices]
        if not classes:
            found.append(nearest.mean(dim=1))
            continue
        votes = F.one_hot(nearest, classes).double()
        # a vote of a nearer neighbour counts a little more: it decides between equals
        weights = 1 - torch.arange(k, dtype=torch.float64, device=features.device) * (1e-3 / k)
        found.append((votes * weights.reshape(1, k, 1)).sum(dim=1).argmax(dim=1))
    return _balanced(torch.cat(found), labels) if classes else explained(torch.cat(found), labels)


def neighbours_among(known: Tensor, labels: Tensor, asked: Tensor, right: Tensor, *, k: int) -> float:
    """Return the accuracy on ``asked [M, d]`` of k nearest neighbours among ``known [N, d]`` (Veniat et al. 2021, §4).

    Where labels are vectors, the share of variance that the mean of the neighbours explains.
    """
    distance = torch.cdist(asked, known, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = labels[distance.topk(min(k, len(known)), largest=False).indices]
    if labels.ndim > 1:
        return explained(nearest.mean(dim=1), right)
    return float((nearest.mode(dim=1).values == right).float().mean())


def linear_probe(features: Tensor, labels: Tensor, ridge: float = 1e-2) -> float:
    """Return the leave-one-out accuracy of a linear classifier fitted by ridge regression, the mean over classes.

    All rows but one, for every one, in closed form: what is predicted without row i is (ŷᵢ − hᵢ yᵢ) / (1 − hᵢ), hᵢ the
    leverage of the row (Allen 1974).
    """
    x = features.double()
    x = torch.cat(
        [(x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-8), torch.ones(len(x), 1, dtype=x.dtype).to(x)], dim=1
    )
    of_vectors = labels.ndim > 1
    y = labels.to(x) if of_vectors else 2.0 * F.one_hot(labels, int(labels.max()) + 1).to(x) - 1
    gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    back = torch.linalg.solve(gram, x.T)
    leverage = (x * back.T).sum(dim=1, keepdim=True).clamp_max(1 - 1e-9)
    left_out = (x @ (back @ y) - leverage * y) / (1 - leverage)
    return explained(left_out, y) if of_vectors else _balanced(left_out.argmax(dim=1), labels)


def leep(logits: Tensor, labels: Tensor) -> float:
    """Return the log expected empirical prediction: mean log of Σ_z P(y | z) p(z | x) (Nguyen et al. 2020, eq. 2)."""
    theta = torch.softmax(logits.double(), dim=1)
    joint = F.one_hot(labels, int(labels.max()) + 1).to(theta).T @ theta / len(labels)
    conditional = joint / joint.sum(dim=0, keepdim=True).clamp_min(1e-300)
    expected = (theta @ conditional.T).gather(1, labels.unsqueeze(1))
    return float(expected.clamp_min(1e-300).log().mean())


def h_score(features: Tensor, labels: Tensor) -> float:
    """Return tr(cov(f)⁻¹ cov(E[f | y])): how far classes stand apart (Bao et al. 2019, definition 2)."""
    x = features.double() - features.double().mean(dim=0)
    member = F.one_hot(labels, int(labels.max()) + 1).to(x)
    means = (member.T @ x) / member.sum(dim=0).clamp_min(1).unsqueeze(1)
    expected = means[labels]
    covariance, between = x.T @ x / len(x), expected.T @ expected / len(x)
    return float(torch.trace(torch.linalg.pinv(covariance, hermitian=True, rtol=1e-8) @ between))


def pooled(features: Tensor) -> Tensor:
    """Return features ``[N, width]``: of maps ``[N, width, h, w]`` the mean over their places."""
    return features.flatten(2).mean(dim=2) if features.ndim > 2 else features


def compared(target: Target, y: Tensor) -> Tensor:
    """Return labels as proxies compare them: class numbers ``[N]`` as they are, all else as vectors ``[N, D]``."""
    return y if y.ndim == 1 and not y.is_floating_point() else target.vectors(y)


def explained(found: Tensor, wanted: Tensor) -> float:
    """Return 1 less the squared error of vectors ``[N, D]`` over their variance."""
    off = (found - wanted).square().sum()
    return float(1 - off / (wanted - wanted.mean(dim=0)).square().sum().clamp_min(1e-12))


def _balanced(found: Tensor, labels: Tensor) -> float:
    """Return the accuracy, the mean over the classes there are."""
    right = (found == labels).double()
    return float(torch.stack([right[labels == label].mean() for label in labels.unique()]).mean())
