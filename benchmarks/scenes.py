"""Time the rendering of the source `scenes`, and draw the gallery of docs/views.md.

PYTHONPATH=. python benchmarks/scenes.py > benchmarks/output/scenes.txt
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np

from cl_engine.runs.data_root import DataRoot

mpl.use("Agg")
GALLERY = Path(__file__).parents[1] / "docs" / "scenes.png"
MAPS = ["depth", "normals", "curvature", "reshading", "keypoints", "segmentation", "instances", "occlusion"]
DOMAINS = ["", "&light=0.4&ground=asphalt", "&contrast=0.6&blur=1.0&ground=sand", "&ground=snow"]
TIMED = ["scenes", "scenes?view=aerial", "scenes?size=128&rows=1000&test_rows=250"]
REPEATS = 3


def main() -> None:
    print(
        "# seconds to render and keep training and test pictures with all labels, then to load them; median of", REPEATS
    )
    for name in TIMED:
        rendered, loaded = [], []
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                for times in (rendered, loaded):
                    started = time.perf_counter()
                    found = DataRoot(Path(folder)).load(name)
                    times.append(time.perf_counter() - started)
        pictures = len(found.train_x) + len(found.test_x)
        print(
            f"{name:45} {pictures:5} pictures  {statistics.median(rendered):6.2f} s  {statistics.median(loaded):5.2f} s"
        )
    draw()


def draw() -> None:
    """Draw rooms with their maps and boxes, and vehicles from above in four domains."""
    from matplotlib import pyplot as plt

    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot(Path(folder))
        rooms = root.load("scenes?size=96&rows=40&test_rows=40&seed=2")
        above = [root.load(f"scenes?view=aerial&size=96&rows=60&test_rows=60{domain}") for domain in DOMAINS]
    figure, axes = plt.subplots(5, 9, figsize=(13.5, 7.9), dpi=80)
    for row in range(3):
        shown = [rooms.train_x[row].transpose(1, 2, 0), *(_map(name, rooms.labels[name].train[row]) for name in MAPS)]
        for axis, image, title in zip(axes[row], shown, ["picture, boxes", *MAPS], strict=True):
            axis.imshow(image, interpolation="nearest")
            axis.set_title(title if row == 0 else "", fontsize=9)
        _boxes(axes[row][0], rooms.labels["boxes"].train[row])
    for domain, found in enumerate(above):
        row, first = 3 + domain // 2, 5 * (domain % 2)
        for number in range(4):
            axis = axes[row][first + number]
            axis.imshow(found.train_x[number].transpose(1, 2, 0), interpolation="nearest")
            _boxes(axis, found.labels["boxes"].train[number])
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(GALLERY)


def _map(name: str, label: np.ndarray) -> np.ndarray:
    label = label.astype(np.float32)
    if name == "normals":
        return (label.transpose(1, 2, 0) + 1) / 2
    return label[0] if label.ndim == 3 else label


def _boxes(axis: object, boxes: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    for left, top, right, bottom, _ in boxes[boxes[:, 0] >= 0]:
        place = (left - 0.5, top - 0.5)
        axis.add_patch(Rectangle(place, right - left, bottom - top, fill=False, color="white", linewidth=0.8))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
