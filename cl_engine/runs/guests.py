"""Other libraries whose own strategies, streams and nets can be named here."""

from __future__ import annotations

# names that stand for another library's own, each with the function that is given what follows the colon
GUESTS: dict[str, dict[str, tuple[str, str]]] = {
    "strategies": {
        "avalanche": (
            "cl_engine.interop.avalanche_adapter:named",
            "any of Avalanche's: avalanche:EWC, avalanche:Replay, …",
        )
    },
    "nets": {
        "timm": ("cl_engine.interop.timm_nets:named", "any net of timm: timm:vit_tiny_patch16_224, …"),
        "transformers": (
            "cl_engine.interop.transformers_nets:named",
            "any classifier of images or tokens of transformers: transformers:vit, transformers:bert, a folder, …",
        ),
    },
    "streams": {"avalanche": ("cl_engine.interop.benchmark_stream:named", "any benchmark of Avalanche: SplitMNIST, …")},
}
