"""Images shown a little differently in every batch, by the transforms of torchvision."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from typing import Any

import torch
from torch import Tensor

from cl_engine.errors import UsageError, unknown
from cl_engine.nn.target import Target
from cl_engine.options import named_with_options
from cl_engine.training.optimizers import Train

UNUSABLE = {
    "Compose": "is made of other transforms: name them in their order",
    "Lambda": "takes a function",
    "MixUp": "mixes labels",
    "CutMix": "mixes labels",
    "RandomApply": "is made of other transforms",
    "RandomChoice": "is made of other transforms",
    "RandomOrder": "is made of other transforms",
    "Transform": "is the base of the others",
    "LinearTransformation": "takes tensors",
}
PHOTOMETRIC = ("_color", "_misc")  # modules of transforms that leave everything where it is


class Transforms:
    """A chain of transforms of images ``[B, C, H, W]``, as the stream holds them: bytes are bytes.

    What a transform draws is the same for all images of a part. Numbers come from the global generators.

    >>> flip = Transforms(["random_horizontal_flip?p=1.0"])
    >>> flip(torch.tensor([[[[1, 2, 3]]]])).flatten().tolist()
    [3, 2, 1]

    Attributes:
        names: what was asked for.
    """

    def __init__(self, names: Sequence[str], parts: int = 1) -> None:
        """Make the transforms, drawn for each of so many parts of a batch by itself.

        Raises:
            UsageError: if torchvision has none of that name, or it does not take the options.
        """
        self.names, self._parts = list(names), parts
        self._each: list[Callable[[Tensor], Tensor]] = [_made(name) for name in names]

    def __call__(self, x: Tensor) -> Tensor:
        """Return images ``[…, C, H, W]`` as they are shown this time."""
        images = x.reshape(-1, *x.shape[-3:])
        parts = images.tensor_split(min(self._parts, len(images)))
        shown = [reduce(lambda now, transform: transform(now), self._each, part) for part in parts]
        return torch.cat(shown).reshape(x.shape)

    def check(self, x: Tensor, target: Target) -> None:
        """Refuse what cannot be done to inputs ``x [N, …]`` whose labels are ``target``'s, tried out on them.

        Raises:
            UsageError: naming the transform, and why.
        """
        if x.ndim != 4:
            raise UsageError(
                f"train.transforms: they are for images [channels, height, width]; inputs have shape {tuple(x.shape[1:])}"
            )
        for name, transform in zip(self.names, self._each, strict=True):
            moves = type(transform).__module__.rpartition(".")[2] not in PHOTOMETRIC
            if moves and (target.measured_at_places or target.follows_images):
                raise UsageError(
                    f"train.transforms: '{name}' may move what is in an image, and labels of '{target.name()}', which are at "
                    "places, would not follow: choose those that change colours alone, or train.crop, flip and zoom"
                )
            try:
                found = transform(x)
            except Exception as error:  # torchvision may refuse inputs in any way
                said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                raise UsageError(
                    f"train.transforms: '{name}' cannot be applied to {x.dtype} of shape {tuple(x.shape[1:])}: {said}"
                ) from None
            if not isinstance(found, Tensor) or found.shape != x.shape or found.dtype != x.dtype:
                what = (
                    f"{found.dtype} of shape {tuple(found.shape[1:])}"
                    if isinstance(found, Tensor)
                    else type(found).__name__
                )
                raise UsageError(
                    f"train.transforms: '{name}' makes {what} of {x.dtype} of shape {tuple(x.shape[1:])}: choose transforms that "
                    "keep type and shape; nets scale images themselves"
                )


def transforms_of(train: Train) -> Transforms | None:
    """Return the transforms that training options ask for; None: none."""
    return _known(tuple(train.transforms), train.transform_parts) if train.transforms else None


@lru_cache(maxsize=8)
def _known(names: tuple[str, ...], parts: int) -> Transforms:
    return Transforms(names, parts)


def _made(text: str) -> Any:
    from torchvision.transforms import v2  # takes long to import, and few ask for it

    name, options = named_with_options(text, "train.transforms")
    every = {
        key: kind
        for key, kind in vars(v2).items()
        if inspect.isclass(kind) and issubclass(kind, torch.nn.Module) and kind.__module__.startswith("torchvision")
    }
    wanted = name.replace("_", "").lower()
    found = next((key for key in every if key.lower() == wanted), "")
    if found in UNUSABLE:
        raise UsageError(f"train.transforms: '{name}' {UNUSABLE[found]}")
    if not found:
        raise unknown("transform of torchvision.transforms.v2", name, sorted(every.keys() - UNUSABLE.keys()))
    known = inspect.signature(every[found]).parameters
    odd = next((key for key in options if key not in known), None)
    if odd is not None:
        raise UsageError(f"train.transforms: '{name}' has no option '{odd}'; there are: {', '.join(known) or 'none'}")
    try:
        return every[found](**{key: _as_asked(known[key].default, value) for key, value in options.items()})
    except Exception as error:  # torchvision may refuse options in any way
        raise UsageError(f"train.transforms: '{name}' does not take its options: {error}") from None


def _as_asked(default: Any, value: Any) -> Any:
    """Return a value as the type of an option's default, where that is an enumeration."""
    kind = type(default)
    return kind(value) if hasattr(kind, "__members__") and isinstance(value, str) else value
