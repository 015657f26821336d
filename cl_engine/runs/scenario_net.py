"""The net of a scenario: built for its stream, and the code that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.nn.net import Net, Params
from cl_engine.runs import importing, plugins
from cl_engine.runs.own_code import code_of, fingerprint
from cl_engine.training.library_weights import LibraryNet
from cl_engine.training.pretraining import BackboneOptions, scaling


def built_net(
    net: Mapping[str, Any],
    backbone: BackboneOptions | None,
    stream: Stream,
    outputs: int,
    pretrained: Params | None = None,
) -> Net:
    """Return the net that fits a stream, of so many outputs, at each place where one of its targets asks for that.

    Args:
        net: its name and options.
        backbone: what it starts from, which may say how inputs are scaled.
        stream: where inputs are from.
        outputs: the number of outputs.
        pretrained: weights to start from.

    Raises:
        UsageError: if it cannot be built, or answers once a row where answers are asked for at places.
    """
    options, shape, vocabulary = dict(net), stream.input_shape, stream.vocabulary
    name, places = options.pop("name"), any(target.places for target in stream.targets)
    build = plugins.net_builder(name, options, shape, outputs, places=places, vocabulary=vocabulary)
    scaled: Any = scaling(backbone, stream, net, library_net(net, backbone))
    found = Net(build, shape, device=stream.device, pretrained=pretrained, vocabulary=vocabulary, **scaled)
    found.check_outputs(outputs)
    if places and not found.places:
        raise UsageError(
            f"net.name: '{name}' answers once a row, and tasks of this stream ask for answers at places: use unet, deeplab, "
            "or a net that ends in a 1×1 convolution"
        )
    return found


def library_net(net: Mapping[str, Any], backbone: BackboneOptions | None) -> LibraryNet | None:
    """Return the net of another library whose own weights a scenario starts from; None: it starts from none of such."""
    found: LibraryNet | None = None
    if backbone is not None and backbone.library is not None:
        found = plugins.net(net["name"])
    return found


def code_of_net(net: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what stands for the code of a net, as far as it is not the engine's own."""
    with importing.noting() as modules:
        for value in net.values():  # a net may be built of another one that is named
            if value == net["name"] or (isinstance(value, str) and ":" in value):
                plugins.net(value)
    return fingerprint(code_of(modules.values()))
