"""The frontier of compression against accuracy as a picture, from what `skill_recall_frontier.py` wrote.

PYTHONPATH=. python benchmarks/skill_recall_picture.py docs/skill_recall.png benchmarks/output/skill_recall_frontier_*.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

FAMILIES = {  # colour-blind safe (Okabe & Ito), and a marker each
    "blocks": ("autoencoders of 20 skills", "#0072B2", "o"),
    "one": ("one autoencoder for all", "#56B4E9", "s"),
    "basis": ("growing basis", "#009E73", "^"),
    "quantised": ("quantised differences", "#D55E00", "D"),
    "mean": ("mean of all nets", "#999999", "x"),
}


LEAST = 3e-4
SHORT = re.compile("^(default: blocks of|blocks of|one autoencoder|one|quantised,|basis,) ?")


def lost(accuracy: list[float], original: float) -> float:
    """Return the mean accuracy lost, not below what the picture shows."""
    return max(LEAST, original - float(np.mean(accuracy)))


def family(name: str) -> str:
    first = re.split("[ ,:]", name, maxsplit=1)[0]
    return "blocks" if first == "default" else first


def main() -> None:
    out, files = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    figure, axes = plt.subplots(2, len(files), figsize=(5.6 * len(files), 8.2), squeeze=False, layout="constrained")
    for column, file in enumerate(files):
        found = json.loads(file.read_text())
        top, bottom = axes[:, column]
        original = float(np.mean(found["original"]))
        seen = set()
        for name, got in found["rows"].items():
            label, colour, marker = FAMILIES[family(name)]
            compression = got["whole"] / got["in_all"]
            top.plot(
                compression,
                lost(got["accuracy"], original),
                marker,
                color=colour,
                label=None if label in seen else label,
            )
            seen.add(label)
            top.annotate(
                SHORT.sub("", name).replace(" bits", " b"),
                (compression, lost(got["accuracy"], original)),
                fontsize=6,
                xytext=(3, 3),
                textcoords="offset points",
            )
            skills = 5 * np.arange(1, len(got["curve"]) + 1)
            if name in (
                "default: blocks of 20, 8 bits",
                "one autoencoder 20, 6 bits",
                "basis, residual .9, 5 bits",
                "quantised, 4 bits",
                "quantised, 3 bits",
            ):
                bottom.plot(
                    skills, got["curve"], color=colour, label=name, linestyle="--" if name.endswith("3 bits") else "-"
                )
        top.axhline(0.02, color="black", linewidth=0.8, linestyle=":", label="two points lost")
        top.invert_yaxis()
        top.set(
            xscale="log",
            xlabel="nets kept whole ÷ bytes in all, at the end",
            yscale="log",
            ylabel=f"accuracy lost by recall ({LEAST} or less: at the top)",
            title=f"{file.stem.removeprefix('skill_recall_frontier_')}: {len(found['original'])} nets",
        )
        top.legend(fontsize=7, loc="lower left")
        bottom.axhline(1, color="black", linewidth=0.8)
        bottom.set(yscale="log", xlabel="skills held", ylabel="nets kept whole ÷ bytes in all")
        bottom.legend(fontsize=7)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
