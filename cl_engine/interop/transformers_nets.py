"""Nets of Hugging Face's transformers by name: ``transformers:vit`` with options, or ``transformers:FOLDER``."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cl_engine.errors import UsageError, is_out_of_memory
from cl_engine.interop.library_nets import Preprocessing, check_options, image_channels, library

PADDING = 0  # the token that stands where a row has no more, as in `cl_engine.nets.transformer`
RESERVED = ("num_labels", "vocab_size", "num_channels", "id2label", "label2id")


def named(name: str) -> TransformersNet:
    """Return the model of this name: a kind (``vit``, ``bert``), a folder, or a model in the library's cache.

    Raises:
        UsageError: if transformers is not installed, or has no such model.
    """
    found = TransformersNet(name)
    found.config({})
    return found


@dataclass(frozen=True)
class TransformersNet:
    """A model of transformers: a factory of a classifier with random weights, how it wants images, its pre-trained weights.

    Options are those of its configuration. Where the stream's inputs are tokens it is a classifier of these, else of images.

    >>> import torch
    >>> named("vit")((1, 28, 28), 10, patch_size=7, num_hidden_layers=1)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    name: str

    def __call__(
        self, input_shape: tuple[int, ...], num_classes: int, vocabulary: int | None = None, **options: Any
    ) -> nn.Module:
        """Return a classifier with random weights.

        Raises:
            UsageError: if inputs are neither images nor tokens, or options are unknown, or decided by the scenario.
        """
        check_options(f"transformers:{self.name}", options, RESERVED)
        if vocabulary is not None:
            config = self.config({**options, "num_labels": num_classes, "vocab_size": vocabulary})
            return _reading_tokens(self._made("Sequence", config))
        own = {"image_size": input_shape[-1]} if self._is_kind and "image_size" not in options else {}
        config = self.config({**own, **options, "num_labels": num_classes})
        wanted = self._wanted(config, input_shape)
        config.num_channels = wanted.channels
        return wanted.put_before(_giving_logits(self._made("Image", config)))

    def scaling(self, input_shape: tuple[int, ...], options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        """Return mean and deviation of the bytes of images, as the model's processor is configured; of tokens nothing."""
        if len(input_shape) != 3:
            return {}
        return self._wanted(self.config(options), input_shape).scaling(input_shape[0])

    def weights(self, which: str, file: Path | None, options: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
        """Return pre-trained weights without their head, by the names that the net has for them, and where they are from.

        Args:
            which: ``default``: those of the folder or cached model that was named; or another cached model.
            file: a folder with a model, in its place.
            options: of the net.

        Raises:
            UsageError: if they are not on this machine, or do not fit.
        """
        if which == "default" and file is None and self._is_kind:
            raise UsageError(
                f"backbone.library: 'transformers:{self.name}' is a kind of model and has no weights of its own: name a folder, "
                "or a model in the library's cache"
            )
        where = str(file) if file is not None else self.name if which == "default" else which
        config = self.config(options)
        kind = "Sequence" if hasattr(config, "vocab_size") else "Image"
        maker = getattr(library("transformers", "hf"), f"AutoModelFor{kind}Classification")
        try:
            module = maker.from_pretrained(where, config=config, local_files_only=True, ignore_mismatched_sizes=True)
        except Exception as error:  # a folder may hold anything, and what reads it as well
            if is_out_of_memory(error):
                raise
            raise UsageError(f"backbone.library: {_missing(where)}") from None
        body = f"{module.base_model_prefix}."
        params = {key: tensor.detach() for key, tensor in module.state_dict().items() if key.startswith(body)}
        return params, f"transformers {where}"

    def config(self, options: Mapping[str, Any]) -> Any:
        """Return the configuration with these options in it; nothing is fetched.

        Raises:
            UsageError: if there is no such model, or it has no such option.
        """
        transformers = library("transformers", "hf")
        if self._is_kind:
            config = transformers.AutoConfig.for_model(self.name)
        elif "/" not in self.name and not Path(self.name).is_dir():
            near = difflib.get_close_matches(self.name, list(transformers.CONFIG_MAPPING), n=3)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UsageError(
                f"net.name: transformers has no kind of model '{self.name}', and there is no such folder{hint}"
            )
        else:
            try:
                config = transformers.AutoConfig.from_pretrained(self.name, local_files_only=True)
            except (OSError, ValueError):
                raise UsageError(f"net.name: {_missing(self.name)}") from None
        for key, value in options.items():
            if key == "init":
                continue
            if not hasattr(config, key):
                near = difflib.get_close_matches(key, sorted(config.to_dict()), n=1)
                hint = f" (did you mean '{near[0]}'?)" if near else ""
                raise UsageError(f"net.{key}: {type(config).__name__} has no such option{hint}")
            setattr(config, key, value)
        return config

    @property
    def _is_kind(self) -> bool:
        return self.name in library("transformers", "hf").CONFIG_MAPPING

    def _made(self, kind: str, config: Any) -> nn.Module:
        maker = getattr(library("transformers", "hf"), f"AutoModelFor{kind}Classification")
        try:
            module: nn.Module = maker.from_config(config)
        except ValueError as error:  # no classifier of that kind
            said = str(error).partition("\n")[0]
            raise UsageError(f"net.name: 'transformers:{self.name}' cannot be built: {said}") from None
        return module

    def _wanted(self, config: Any, input_shape: tuple[int, ...]) -> Preprocessing:
        name = f"transformers:{self.name}"
        channels, side = (
            image_channels(name, input_shape, getattr(config, "num_channels", 3)),
            getattr(config, "image_size", None),
        )
        size = None if side is None else (side, side) if isinstance(side, int) else (side[0], side[1])
        said = self._processor()
        mean, std = (tuple(said.get(f"image_{what}", (0.5,) * channels)) for what in ("mean", "std"))
        return Preprocessing(channels, size, mean, std)

    def _processor(self) -> dict[str, Any]:
        """Return what a folder or a cached model says of how images are processed; nothing: {}."""
        if self._is_kind:
            return {}
        utils: Any = library("transformers.utils", "hf")
        path = utils.cached_file(
            self.name,
            "preprocessor_config.json",
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
        return found


def _missing(name: str) -> str:
    return (
        f"'{name}' is neither a folder with a model nor in the library's cache, and nothing is fetched unasked: fetch it with  "
        f"hf download {name}"
    )


def _giving_logits(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda _, inputs, output: output.logits)
    return module


def _reading_tokens(module: nn.Module) -> nn.Module:
    """Return a classifier of tokens that is given int64 ``[N, L]``, and told which of them are padding."""

    def told(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tokens = inputs[0].long()
        return (tokens,), {**named, "attention_mask": (tokens != PADDING).long()}

    module.register_forward_pre_hook(told, with_kwargs=True)
    return _giving_logits(module)
