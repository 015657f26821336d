"""Weights trained elsewhere: by torchvision, by libraries whose nets know where theirs are, in other runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cl_engine.data.digest import checksum
from cl_engine.errors import UsageError
from cl_engine.nn.net import Params
from cl_engine.options import named_with_options
from cl_engine.results.zoo import open_zoo

IMAGENET: dict[str, tuple[float, ...]] = {
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
}  # of torchvision's weights, times 255
LIBRARIES = ("timm", "transformers")  # that a net may be named of, with what it is called there behind a colon


@runtime_checkable
class LibraryNet(Protocol):
    """A factory of nets that knows how they want inputs, and where their pre-trained weights are.

    >>> class Ours:
    ...     def scaling(self, input_shape, options):
    ...         return {"mean": (127.5,), "std": (127.5,)}
    ...     def weights(self, which, file, options):
    ...         return {}, f"ours, {which}"
    >>> isinstance(Ours(), LibraryNet)
    True
    """

    def scaling(self, input_shape: tuple[int, ...], options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        """Return ``mean`` and ``std`` of the bytes of images; nothing for other inputs."""

    def weights(self, which: str, file: Path | None, options: Mapping[str, Any]) -> tuple[Params, str]:
        """Return pre-trained weights without their head, of a name or a file, and where they are from."""


def of_library(
    which: str, net: Mapping[str, Any], factory: LibraryNet, root: Path
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return pre-trained weights of a net of another library, and what the log says of them.

    ``which`` is what the library calls them, or a file or folder, looked for in the current folder and under ``root``.

    Raises:
        UsageError: if they are not on this machine, or do not fit.
    """
    path = Path(which).expanduser()
    file = next((found for found in (path, root / path) if found.exists()), None)
    params, origin = factory.weights(which, file, {key: value for key, value in net.items() if key != "name"})
    digest = checksum(params[name].cpu().numpy() for name in sorted(params))
    return params, {"origin": origin, "digest": digest}


def of_torchvision(weights: str, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return torchvision's weights of a model of its own, and what the log says of them.

    Raises:
        UsageError: if there are none of that name, or they can neither be found nor downloaded.
    """
    from torchvision.models import get_model_weights

    model = name.partition(":")[2]
    try:
        known = get_model_weights(model)
    except ValueError:
        raise UsageError(f"backbone.torchvision: torchvision has no pre-trained '{model}'") from None
    if weights not in known.__members__:
        raise UsageError(
            f"backbone.torchvision: '{model}' has no weights '{weights}'; there are: {', '.join(known.__members__)}"
        )
    chosen = known[weights]
    try:
        found: dict[str, Tensor] = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"backbone.torchvision: {chosen.url} could not be downloaded to {torch.hub.get_dir()}/checkpoints ({error}); "
            "put the file there yourself"
        ) from None
    # densenet's files name parts as torchvision once did
    old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
    metrics = chosen.meta.get("_metrics", {}).get("ImageNet-1K", {})
    about: dict[str, Any] = {"origin": f"torchvision {model} {weights}", "url": chosen.url}
    about["digest"] = checksum(tensor.numpy() for _, tensor in sorted(found.items()))
    if "acc@1" in metrics:
        about["accuracy"] = round(metrics["acc@1"] / 100, 5)
    return {old.sub(r"\1\2", key): tensor for key, tensor in found.items()}, about


def of_zoo(named: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a net of a zoo, named as in ``zoo.h5?row=3``, and what the log says of it.

    Raises:
        UsageError: if no row is named, there is none, or the file is no zoo.
    """
    file, options = named_with_options(named, "backbone.file")
    row = options.get("row")
    if set(options) != {"row"} or isinstance(row, bool) or not isinstance(row, int):
        raise UsageError(f"backbone.file: '{named}' is a zoo of many nets: say which, as in {file}?row=3")
    found = open_zoo(Path(file).expanduser()).state_dict(row)
    digest = checksum(found[name] for name in sorted(found))
    tensors = {name: torch.from_numpy(tensor) for name, tensor in found.items()}
    return tensors, {"origin": f"zoo {file}, row {row}", "digest": digest}
