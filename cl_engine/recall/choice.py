"""The choice of a codec by its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from cl_engine.options import OptionGroup, option
from cl_engine.recall.autoencoder import Layers
from cl_engine.recall.budget import Budget
from cl_engine.recall.by_autoencoder import AutoencoderCodec
from cl_engine.recall.by_basis import BasisCodec
from cl_engine.recall.by_lattice import MeanCodec, QuantisedCodec
from cl_engine.recall.codec import SkillCodec
from cl_engine.recall.consolidation import Consolidation
from cl_engine.recall.stop import StopRule


class CodecOptions(OptionGroup):
    """All options of the codec that keeps skills.

    >>> CodecOptions.of({"codec": "basis", "latent": 4}).layers.latent
    4
    """

    codec: Literal["autoencoder", "basis", "quantised", "mean"] = option(
        "autoencoder",
        "what keeps the skills: autoencoder, growing basis, quantised differences, or their mean (control)",
    )
    layers: Layers
    consolidation: Consolidation
    rule: StopRule
    budget: Budget


def codec_of(options: CodecOptions, seeds: Sequence[int], sizes: Sequence[int], device: torch.device) -> SkillCodec:
    """Return the codec for skills whose tensors have these ``sizes``."""
    budget = options.budget
    match options.codec:
        case "mean":
            return MeanCodec(seeds, sizes, device)
        case "quantised":
            return QuantisedCodec(seeds, sizes, device, bits=budget.bits)
        case "basis":
            return BasisCodec(seeds, sizes, device, rule=options.rule, rank=budget.rank, bits=budget.decoder_bits)
        case "autoencoder":
            return AutoencoderCodec(
                seeds,
                sizes,
                device,
                layers=options.layers,
                rule=options.rule,
                consolidation=options.consolidation,
                budget=budget,
            )
