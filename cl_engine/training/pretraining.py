"""Backbones: nets pre-trained on a source, from a file of weights, or from torchvision's weights."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cl_engine.core.files import kept_in, replace, user_cache
from cl_engine.data.images import to_shape
from cl_engine.data.source import Arrays
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.events import EpochEnded
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net, Params
from cl_engine.nn.target import of_rows
from cl_engine.options import STRICT, named_with_options, option
from cl_engine.targets.classes import Classes
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob
from cl_engine.training.library_weights import IMAGENET, LIBRARIES, LibraryNet, of_torchvision, of_zoo
from cl_engine.training.optimizer_steps import check_training
from cl_engine.training.optimizers import Train
from cl_engine.training.rates import follows_validation
from cl_engine.training.transforms import transforms_of

LOG = logging.getLogger("cl_engine")
VERSION = 1  # of what pre-training does: another number, other files


class BackboneOptions(BaseModel):
    """The table ``[backbone]`` of a scenario: the weights that all strategies start from, except for the head.

    >>> BackboneOptions(source="mnist").source
    'mnist'
    """

    model_config = STRICT
    source: str | None = option(None, "pre-train on this source, a name of `list sources`")
    classes: list[int] | None = option(None, "only on these classes of the source; left out: all")
    samples_per_class: int | None = option(None, "most training rows of a class to use; left out: all", ge=1)
    seed: int = option(0, "seed of the pre-training; all seeds of a run start from the same backbone", ge=0)
    file: str | None = option(
        None, "a safetensors file of weights, named as in the net's state_dict, or a net of a zoo: zoo.h5?row=3"
    )
    torchvision: str | None = option(
        None, "weights of torchvision for net.name = 'torchvision.models:…': IMAGENET1K_V1"
    )
    library: str | None = option(
        None,
        "weights of the library that net.name = 'timm:…' or 'transformers:…' names: 'default', its own name of others, or a file",
        before=None,
    )
    train: Train = option(Train(), "how to pre-train; what is left out is taken from [train]")


@dataclass(frozen=True)
class Backbone:
    """Weights and buffers to start from, ``{name: […]}``, and what the log says about them.

    >>> Backbone().params
    {}
    """

    params: Params = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def checked_backbone(options: BackboneOptions, net: str) -> None:
    """Refuse options that contradict each other.

    Raises:
        UsageError: if not exactly one origin is named, or it does not fit the net.
    """
    named = [key for key in ("source", "file", "torchvision", "library") if getattr(options, key) is not None]
    if len(named) != 1:
        found = ", ".join(named) or "none"
        raise UsageError(f"backbone: name one of source, file, torchvision and library; found {found}")
    check_training(options.train)
    if options.source is not None and follows_validation(options.train):
        raise UsageError(
            "backbone.train.schedule: pre-training has no validation rows that 'plateau' could follow: say another one under "
            "[backbone.train], such as cosine"
        )
    if named[0] != "source" and (options.classes or options.samples_per_class):
        raise UsageError("backbone: classes and samples_per_class go with backbone.source only")
    if options.torchvision is not None and not net.startswith("torchvision.models:"):
        raise UsageError(f"backbone.torchvision needs net.name = 'torchvision.models:…', found '{net}'")
    if options.library is not None and net.partition(":")[0] not in LIBRARIES:
        wanted = " or ".join(f"'{name}:…'" for name in LIBRARIES)
        raise UsageError(f"backbone.library needs net.name = {wanted}, found '{net}'")


def backbone_of(
    options: BackboneOptions,
    stream: Stream,
    build: Callable[[int], Net],
    net: Mapping[str, Any],
    load: Callable[[str], Arrays],
    code: Mapping[str, Any] | None = None,
    library: Callable[[str], tuple[Params, dict[str, Any]]] | None = None,
) -> Backbone:
    """Return the backbone that options ask for; trains it if that has not been done before.

    Args:
        options: the table ``[backbone]``.
        stream: what the nets are for: shape and scaling of inputs, device.
        build: given a number of outputs, returns the net.
        net: name and options of the net.
        load: returns the arrays of a source.
        code: what stands for the net's code, where that is not the engine's own: other code, another backbone.
        library: returns weights of the library that the net is of, and what the log says of them.

    Raises:
        UsageError: if a file, its tensors, or classes of the source are not there.
    """
    if options.source is not None:
        return _pretrained(options, stream, build, net, load(options.source), code or {})
    if options.torchvision is not None:
        return Backbone(*of_torchvision(options.torchvision, str(net["name"])))
    if options.library is not None and library is not None:
        return Backbone(*library(options.library))
    if named_with_options(str(options.file), "backbone.file")[0].endswith(".h5"):
        return Backbone(*of_zoo(str(options.file)))
    path = Path(str(options.file))
    try:
        path = path.expanduser()
        with safe_open(path, "pt") as file:
            params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # no such user's ~, a name with a zero in it
        raise UsageError(f"backbone.file: {path} is not a safetensors file that can be read: {error}") from None
    return Backbone(params, {"origin": f"file {path}", "digest": content})


def scaling(
    options: BackboneOptions | None, stream: Stream, net: Mapping[str, Any], factory: object
) -> dict[str, tuple[float, ...]]:
    """Return how inputs are scaled: as the stream says, or as those were that the weights of a library were trained with.

    Args:
        options: the table ``[backbone]``, if there is one.
        stream: where inputs are from.
        net: name and options of the net.
        factory: what builds the net.
    """
    found = {"mean": stream.mean, "std": stream.std, "pad_value": stream.pad_value}
    if options is None:
        return found
    if options.torchvision is not None:
        return {**found, **IMAGENET}
    if options.library is not None and isinstance(factory, LibraryNet):
        return {**found, **factory.scaling(stream.input_shape, {key: net[key] for key in net if key != "name"})}
    return found


def cache() -> Path:
    """Return where pre-trained backbones are kept: under ``CL_CACHE``, or in a folder of the user's cache."""
    found = os.environ.get("CL_CACHE")
    return (Path(found) if found else user_cache()) / "backbones"


def _pretrained(
    options: BackboneOptions,
    stream: Stream,
    build: Callable[[int], Net],
    net: Mapping[str, Any],
    arrays: Arrays,
    code: Mapping[str, Any],
) -> Backbone:
    classes = options.classes or list(range(arrays.classes))
    odd = [label for label in classes if not 0 <= label < arrays.classes]
    if odd or len(set(classes)) != len(classes):
        raise UsageError(
            f"backbone.classes must be different classes of '{options.source}', 0 to {arrays.classes - 1}, found {classes}"
        )
    if arrays.vocabulary != stream.vocabulary:
        found, wanted = (f"{count or 'no'} tokens" for count in (arrays.vocabulary, stream.vocabulary))
        raise UsageError(f"backbone.source: the inputs of '{options.source}' are of {found}, the stream's of {wanted}")
    train_x, train_y = _rows(arrays.train_x, arrays.train_y, classes, options.samples_per_class, stream)
    test_x, test_y = _rows(arrays.test_x, arrays.test_y, classes, None, stream)
    content = hashlib.blake2b(train_x.cpu().numpy().tobytes() + train_y.cpu().numpy().tobytes(), digest_size=16)
    asked = {
        "version": VERSION,
        # files from before there was this option are found
        "net": {name: value for name, value in net.items() if (name, value) != ("init", "default")},
        "outputs": len(classes),
        "seed": options.seed,
        "train": options.train.model_dump(exclude={"not_finite", "patience"}),
        "inputs": [*stream.input_shape, *stream.mean, *stream.std],
        "data": content.hexdigest(),
    }
    if any(target.places for target in stream.targets):  # such a net may be another
        asked["places"] = True
    if stream.vocabulary is not None:
        asked["vocabulary"] = stream.vocabulary
    key = _key(asked)  # the code is known to the run by itself, and was not always part of this
    path = cache() / f"{_key({**asked, 'code': code}) if code else key}.safetensors"
    if not path.exists():  # a cache that others fill may be one that can only be read
        # whoever comes second finds it trained
        with kept_in(path.parent, "CL_CACHE"), FileLock(path.with_suffix(".lock")):
            if not path.exists():
                whole = build(len(classes))
                params = _trained(whole, options, train_x, train_y)
                right = of_rows(whole.all(params, test_x)[0], whole.outputs).argmax(-1) == test_y
                about = {"accuracy": f"{right.double().mean().item():.4f}", "rows": str(len(train_y))}
                tensors = {name: tensor[0].cpu().contiguous() for name, tensor in params.items()}
                part = path.with_suffix(".part")
                save_file(tensors, part, metadata=about)
                replace(part, path)
    try:
        path.open("rb").close()  # safetensors says of a file that may not be read that it is not there
        with safe_open(path, "pt", device=str(stream.device)) as file:
            params = {name: file.get_tensor(name) for name in file.keys() if name not in (HEAD_WEIGHT, HEAD_BIAS)}  # noqa: SIM118
            about = dict(file.metadata())
    except (OSError, SafetensorError) as error:
        raise UsageError(f"the backbone {path} cannot be read: {error}; remove it, or set CL_CACHE") from None
    origin = f"{options.source}" + (f", classes {', '.join(map(str, classes))}" if options.classes else "")
    return Backbone(
        params,
        {
            "origin": f"pre-trained on {origin}",
            "rows": int(about["rows"]),
            "accuracy": float(about["accuracy"]),
            "digest": key,
        },
    )


def _key(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _rows(x: np.ndarray, y: np.ndarray, classes: list[int], limit: int | None, stream: Stream) -> tuple[Tensor, Tensor]:
    """Return inputs in the stream's shape and labels from 0 of these classes, the first ``limit`` rows of each."""
    rows = [np.flatnonzero(y == label)[:limit] for label in classes]
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in rows])
    images = torch.from_numpy(x[np.concatenate(rows)])
    if images.dtype == torch.uint8 and images.ndim == 4:
        images = to_shape(images, stream.input_shape)
    if tuple(images.shape[1:]) != tuple(stream.input_shape):
        raise UsageError(
            f"backbone.source: its inputs have shape {tuple(images.shape[1:])}, the stream's {tuple(stream.input_shape)}; "
            "only images can be brought to another shape"
        )
    return images.to(stream.device), torch.from_numpy(labels).to(stream.device)


def _trained(net: Net, options: BackboneOptions, x: Tensor, y: Tensor) -> Params:
    def loss(params: Params, frozen: None, x: Tensor, y: Tensor) -> Tensor:
        own = of_rows(net.one(params, x), net.outputs)
        return F.cross_entropy(own, y, label_smoothing=options.train.label_smoothing)

    shown = transforms_of(options.train)
    if shown is not None:
        shown.check(x[:2], Classes.of(classes=net.outputs))
    params = net.init([options.seed])
    job = FitJob(
        net=net, params=params, loss=loss, rows=(x, y), train=options.train, seeds=[options.seed], step=-1, task_id=-1
    )
    walk = fit(job)
    while True:
        try:
            event = next(walk)
        except StopIteration as end:
            trained: Params = end.value
            return trained
        if isinstance(event, EpochEnded):
            LOG.info(
                "pre-training the backbone on %s: epoch %d of %d, loss %.3f, %.0f s",
                options.source,
                event.epoch + 1,
                event.epochs,
                event.loss[0],
                event.seconds,
            )
