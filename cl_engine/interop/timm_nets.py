"""Nets of timm by name: ``timm:vit_tiny_patch16_224``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from cl_engine.errors import UsageError, is_out_of_memory
from cl_engine.interop.library_nets import Preprocessing, check_options, image_channels, library

Size = Literal["auto", "images"] | int
RESERVED = ("num_classes", "in_chans", "pretrained", "checkpoint_path")


def named(name: str) -> TimmNet:
    """Return the net of timm's of this name.

    Raises:
        UsageError: if timm is not installed, or has no such net.
    """
    timm = library("timm", "timm")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UsageError(f"net.name: timm has no net '{name}'{hint} (timm.list_models() has all)")
    return TimmNet(name)


@dataclass(frozen=True)
class TimmNet:
    """A net of timm's: a factory of it with random weights, how it wants images, and its pre-trained weights.

    Options are those of ``timm.create_model``, and ``size``: a number of pixels that images are brought to, ``images`` (they
    stay as they come), or ``auto``: the size of the net's configuration where it is made for one alone.

    >>> named("resnet18").scaling((3, 32, 32), {})["mean"]
    (123.675, 116.28, 103.53)
    """

    name: str

    def __call__(
        self, input_shape: tuple[int, ...], num_classes: int, size: Size = "auto", **options: Any
    ) -> nn.Module:
        """Return the net for images of this shape, with random weights.

        Raises:
            UsageError: if inputs are no images, or for options that the scenario decides.
        """
        check_options(f"timm:{self.name}", options, RESERVED)
        wanted = self._wanted(input_shape, size)
        module: nn.Module = library("timm", "timm").create_model(
            self.name, num_classes=num_classes, in_chans=wanted.channels, **options
        )
        return wanted.put_before(module)

    def scaling(self, input_shape: tuple[int, ...], options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        """Return mean and deviation of the bytes of images, as the net's configuration says."""
        return self._wanted(input_shape, options.get("size", "auto")).scaling(input_shape[0])

    def weights(self, which: str, file: Path | None, options: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
        """Return pre-trained weights without their head, by the names that the net has for them, and where they are from.

        Args:
            which: ``default``, or a tag of timm's (``augreg_in21k_ft_in1k``), looked for in the library's cache.
            file: a file of weights, in their place.
            options: of the net.

        Raises:
            UsageError: if there are none of that name, they are not on this machine, or do not fit.
        """
        timm = library("timm", "timm")
        path, origin, classes = (file, f"file {file}", 0) if file is not None else self._cached(which)
        own = {key: value for key, value in options.items() if key not in ("size", "init")}
        try:
            module = timm.create_model(self.name, num_classes=classes, **own)
            timm.models.load_checkpoint(module, str(path), strict=file is None)
        except Exception as error:  # a file may be anything, and what reads it as well
            if is_out_of_memory(error):
                raise
            said = str(error) or type(error).__name__
            raise UsageError(
                f"backbone.library: {path} cannot be read as weights of 'timm:{self.name}': {said}"
            ) from None
        head = module.pretrained_cfg.get("classifier") or ()
        heads = tuple(f"{part}." for part in ([head] if isinstance(head, str) else head))
        params = {key: tensor for key, tensor in module.state_dict().items() if not key.startswith(heads)}
        return params, f"timm {self.name}, {origin}"

    def _wanted(self, input_shape: tuple[int, ...], size: Any) -> Preprocessing:
        if isinstance(size, bool) or not (size in ("auto", "images") or (isinstance(size, int) and size >= 1)):
            raise UsageError(f"net.size: found {size!r}; allowed are a number of pixels, 'auto' and 'images'")
        config = library("timm", "timm").get_pretrained_cfg(self.name)
        channels, *sides = (3, 224, 224) if config is None else config.input_size
        pixels: tuple[int, int] | None = (size, size) if isinstance(size, int) else None
        if size == "auto" and config is not None and config.fixed_input_size:
            pixels = (sides[0], sides[1])
        mean, std = ((0.5,) * channels,) * 2 if config is None else (config.mean, config.std)
        return Preprocessing(
            image_channels(f"timm:{self.name}", input_shape, channels), pixels, tuple(mean), tuple(std)
        )

    def _cached(self, tag: str) -> tuple[Path, str, int]:
        """Return the file of pre-trained weights in the library's cache, their name there, and for how many classes they are."""
        from huggingface_hub import try_to_load_from_cache

        timm, name = library("timm", "timm"), self.name
        parts = [found.partition(".") for found in timm.list_pretrained(f"{name}*")]
        known = [tag for found, _, tag in parts if found == name]
        if not known or (tag != "default" and tag not in known):
            there = ", ".join(known) or "none"
            raise UsageError(f"backbone.library: timm has no weights '{tag}' of '{name}'; there are: {there}")
        full = name if tag == "default" else f"{name}.{tag}"
        config = timm.get_pretrained_cfg(full)
        for file in ("model.safetensors", "pytorch_model.bin"):
            path = try_to_load_from_cache(config.hf_hub_id, config.hf_hub_filename or file)
            if isinstance(path, str):
                return Path(path), config.hf_hub_id, config.num_classes
        raise UsageError(
            f"backbone.library: the weights {config.hf_hub_id} are not on this machine, and nothing is fetched unasked: fetch "
            f"them with  python -c \"import timm; timm.create_model('{full}', pretrained=True)\"  or name a file"
        )
