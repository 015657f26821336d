"""Random transformations of an Avalanche data set that can be applied to whole batches instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.augmentation import Augmentation
from cl_engine.interop.randomness import drawing
from cl_engine.interop.rows import PROBED, TRIES, inputs_of

NEAR = 1e-4  # what the same picture may differ by: moved before it is scaled, or after


def as_augmentation(dataset: Any) -> tuple[Augmentation, tuple[float, ...]] | None:
    """Return the crops and mirror images that training rows are shown through, and what black is; None if it is others.

    What the transformations' names say is held against what they do: a few rows, shown through them several times, must
    be among the crops and mirror images of the same rows as they are shown in evaluation.
    """
    from torchvision import transforms as known

    chain = next(_chains(dataset), [])
    crops = [part for part in chain if isinstance(part, known.RandomCrop)]
    flips = [part for part in chain if isinstance(part, known.RandomHorizontalFlip)]
    if len(crops) > 1 or len(flips) > 1 or not (crops or flips):
        return None
    padding = crops[0].padding if crops else 0
    found = Augmentation(padding if isinstance(padding, int) else 0, float(flips[0].p) if flips else 0.0)
    rest = [part for part in chain if part not in crops + flips]
    if not all(isinstance(part, _fixed()) for part in rest):  # one that hardly ever does anything is not seen below
        return None
    index = np.linspace(0, len(dataset) - 1, min(PROBED, len(dataset))).astype(int).tolist()
    plain = inputs_of(dataset, index, "eval")
    if plain.ndim != 4 or plain.dtype != torch.float32 or not found:
        return None
    pad_value = _black(rest, plain)
    if pad_value is None:
        return None
    every = _every(found)
    for number, row in zip(index, plain, strict=True):
        allowed = found.applied(row.expand(len(every), *row.shape), every, pad_value)
        for seed in TRIES:
            shown = inputs_of(dataset, [number], "train", seed)
            if shown.shape[1:] != row.shape or (allowed - shown).abs().amax(dim=(1, 2, 3)).min() > NEAR:
                return None
    return found, tuple(pad_value.flatten().tolist())


def shown_alike(datasets: Sequence[Any]) -> bool:
    """Return whether the data sets name the same training transformations, so that what holds for one holds for all."""
    return len({repr([list(map(repr, chain)) for chain in _chains(dataset)]) for dataset in datasets}) <= 1


def _fixed() -> tuple[type, ...]:
    """Return the transformations that are known to show a row always alike."""
    from torchvision import transforms as known

    return (
        known.ToTensor,
        known.PILToTensor,
        known.ConvertImageDtype,
        known.Normalize,
        known.Resize,
        known.CenterCrop,
        known.Pad,
        known.Grayscale,
    )


def _chains(dataset: Any) -> Iterator[list[Any]]:
    """Yield the training transformations of the data set and of those it is made of, each as a list."""
    groups = getattr(dataset, "_transform_groups", None)
    if groups is not None:
        whole = groups.transform_groups.get("train")
        for transform in (getattr(whole, "transforms", None) or [])[:1]:
            if transform is not None:
                yield list(_steps(transform))
    inner = getattr(dataset, "_flat_data", None)
    for part in [*([inner] if inner is not None else []), *getattr(dataset, "_datasets", [])]:
        yield from _chains(part)


def _steps(transform: Any) -> Iterator[Any]:
    """Yield what a transformation does one after the other, however deep it is composed."""
    from torchvision import transforms as known
    from torchvision.transforms import v2

    if isinstance(transform, known.Compose | v2.Compose):  # others have parts too, and do some of them
        for part in transform.transforms:
            yield from _steps(part)
    else:
        yield transform


def _black(rest: list[Any], like: Tensor) -> Tensor | None:
    """Return what the other transformations make of a black picture, ``[C, 1, 1]``; None if they do not take one."""
    from PIL import Image

    channels, height, width = like.shape[1:]
    shown: Any = Image.new("L" if channels == 1 else "RGB", (width, height))
    try:
        with drawing(0):
            for part in rest:
                shown = part(shown)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return None
    return shown[:, :1, :1] if isinstance(shown, Tensor) and shown.shape == like.shape[1:] else None


def _every(augmentation: Augmentation) -> Tensor:
    """Return all that can be drawn, ``[K, 5]``."""
    shifts, never = torch.arange(2 * augmentation.crop + 1), torch.zeros(1, dtype=torch.int64)
    return torch.cartesian_prod(shifts, shifts, torch.arange(2), never, never)
