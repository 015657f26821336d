"""Options that bound what keeping skills costs."""

from __future__ import annotations

from typing import Literal

from cl_engine.options import OptionGroup, option


class Budget(OptionGroup):
    """Options that bound the cost of consolidations and the memory of codes.

    >>> Budget(block=10).block
    10
    """

    block: int = option(
        20, "skills an autoencoder serves before it is frozen and a new one begun; 0: one for all", ge=0
    )
    rehearse: int | None = option(None, "old skills rehearsed in a consolidation; left out: all of the block", ge=0)
    references: Literal["recollections", "quantised"] = option(
        "recollections", "what old skills are retrained towards: recollections, or quantised copies kept with the block"
    )
    bits: int = option(5, "bits of a weight in quantised skills and references, before entropy coding", ge=2, le=8)
    residual_bits: int = option(0, "bits of a correction after decoding, entropy-coded; 0: none", ge=0, le=8)
    decoder_bits: Literal[4, 5, 6, 7, 8, 16, 32] = option(
        8, "bits of a number of the decoder, or of a basis direction; 8 or fewer are entropy-coded as well"
    )
    latent_bits: Literal[8, 16, 32] = option(32, "bits of a latent number")
    rank: int | None = option(
        None, "directions of the basis at most; left out: as many as the threshold asks for", ge=1
    )
