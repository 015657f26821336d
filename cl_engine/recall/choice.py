"""From options to the codec they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cl_engine.recall.autoencoder import Shape
from cl_engine.recall.by_autoencoder import AutoencoderCodec, Choices
from cl_engine.recall.by_basis import BasisCodec
from cl_engine.recall.by_lattice import MeanCodec, QuantisedCodec
from cl_engine.recall.codec import SkillCodec
from cl_engine.recall.consolidation import Passes
from cl_engine.recall.stop import StopRule


def codec_of(
    options: Mapping[str, Any], seeds: Sequence[int], sizes: Sequence[int], device: torch.device
) -> SkillCodec:
    """Return the codec for vectors of these tensors' ``sizes``, by the options of the strategy `skill_recall`."""
    o = options
    rule = StopRule(o["stop"], o["threshold"], o["stop_on_mean"])
    if o["codec"] == "mean":
        return MeanCodec(seeds, sizes, device)
    if o["codec"] == "quantised":
        return QuantisedCodec(seeds, sizes, device, bits=o["bits"])
    if o["codec"] == "basis":
        return BasisCodec(seeds, sizes, device, rule=rule, rank=o["rank"], bits=o["decoder_bits"])
    width = min(o["chunk"] or sum(sizes), sum(sizes))
    return AutoencoderCodec(
        seeds,
        sizes,
        device,
        shape=Shape(width, tuple(o["hidden"]), o["latent"], o["activation"], o["latent_activation"], o["output"]),
        rule=rule,
        first=_passes(o, o["max_passes"], o["code_lr"]),
        later=_passes(o, o["max_passes_later"] or o["max_passes"], o["code_lr_later"] or o["code_lr"]),
        choices=Choices(
            scaled=o["scaled"],
            block=o["block"],
            rehearse=o["rehearse"],
            reference_bits=o["bits"] if o["references"] == "quantised" else 0,
            residual_bits=o["residual_bits"],
            decoder_bits=o["decoder_bits"],
            latent_bits=o["latent_bits"],
            closed_form=o["closed_form"],
        ),
    )


def _passes(o: Mapping[str, Any], most: int, lr: float) -> Passes:
    return Passes(
        most=most,
        optimizer=o["code_optimizer"],
        lr=lr,
        batch=o["code_batch"],
        contractive=o["contractive"],
        resend=o["resend"],
        hard=o["hard"],
        check_every=o["check_every"],
        gentle=o["scaled"],
        solve=o["closed_form"] and o["output"] == "linear" and o["code_batch"] == 0,
    )
