"""Pictures of answers beside the truth, for tasks of every kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cl_engine.analysis.plots.style import figure, styled

SIDE = 1.05  # inches of one picture
UNLABELLED = 255  # in maps of classes, `cl_engine.targets.class_map` says so too, which needs torch
SURE, OVERLAP = 0.5, 0.5  # confidence from which a box is drawn, and overlap from which it has found one
WRITTEN = 4  # numbers of a row that are written at most


@styled
def predictions(
    inputs: np.ndarray, truth: np.ndarray, answers: np.ndarray, target: str, title: str, note: str
) -> Figure:
    """Return a column for each row of a task: what was shown, and the answer beside the truth.

    Args:
        inputs: ``[n, …]``; images as ``[n, channels, height, width]``.
        truth: labels ``[n, …]`` in the form of the target.
        answers: what was answered, in the same form; of boxes ``[n, K, 5]``, the confidence last.
        target: name of the target.
        title: what the picture is of.
        note: what stands beneath the title.
    """
    maps = target in ("class_map", "number_map")
    if target == "class_map":
        truth = np.where(truth == UNLABELLED, np.nan, truth)
    rows = 3 if maps else 1
    fig, _ = figure(max(3.0, SIDE * len(inputs) + 0.5), SIDE * rows + 0.75 + 0.3 * (not maps))
    fig.clear()
    axes = fig.subplots(rows, len(inputs), squeeze=False)
    low, high = _range(truth) if maps else (0.0, 1.0)
    for column, (x, wanted, found) in enumerate(zip(inputs, truth, answers, strict=True)):
        _shown(axes[0, column], x)
        if maps:
            for axis, values in ((axes[1, column], wanted), (axes[2, column], found)):
                axis.imshow(_drawable(values, low, high), vmin=low, vmax=high, interpolation="nearest")
        elif target == "boxes":
            detections(axes[0, column], wanted, found)
        else:
            axes[0, column].set_xlabel(f"{_words(wanted)}\n{_words(found)}", fontsize="small")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[:, 0], ("shown", "truth", "answer"), strict=False):
        axis.set_ylabel("truth\nanswer" if target in ("classes", "numbers") else name, fontsize="small")
    fig.suptitle(f"{title}\n{note}", x=0.01, ha="left", fontsize="medium")
    return fig


def _shown(axis: Axes, x: np.ndarray) -> None:
    """Show an input: an image, or whatever it is as rows of numbers."""
    if x.ndim == 3 and x.shape[0] in (1, 3):
        image = x.transpose(1, 2, 0).astype(float)
        low, high = (0.0, 255.0) if x.dtype == np.uint8 else (float(image.min()), float(image.max()))
        scaled = (image - low) / max(high - low, 1e-9)
        axis.imshow(scaled.squeeze(), cmap="gray" if x.shape[0] == 1 else None, vmin=0, vmax=1, interpolation="nearest")
    elif x.ndim == 1:
        axis.plot(x)
    else:
        axis.imshow(x.reshape(x.shape[0], -1), aspect="auto", interpolation="nearest")


def _range(truth: np.ndarray) -> tuple[float, float]:
    known = truth[np.isfinite(truth)].astype(float)
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _drawable(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a map as one channel, or, of three, as colours."""
    if values.ndim == 3 and len(values) == 3:
        return np.clip((values.transpose(1, 2, 0).astype(float) - low) / max(high - low, 1e-9), 0, 1)
    return values[0].astype(float) if values.ndim == 3 else values


def detections(axis: Axes, wanted: np.ndarray, found: np.ndarray) -> None:
    """Draw boxes to be found ``[K, 4]`` in white, answers ``[K, 5]`` that found one dashed, and those that found none dotted.

    Only answers of at least an even chance are drawn; as in the measure, the surest come first and each box is found once.
    """
    there, free = wanted[wanted[:, 0] >= 0, :4], set(range(len(wanted)))
    _boxes(axis, there, "white", "-")
    for answer in found[found[:, 4] >= SURE][:, :4]:  # they come by falling confidence
        overlaps = {k: _overlap(answer, box) for k, box in enumerate(there) if k in free}
        best = max(overlaps, key=lambda k: overlaps[k], default=None)
        right = best is not None and overlaps[best] >= OVERLAP
        free -= {best} if right else set()
        _boxes(axis, answer[None], "C0" if right else "C1", "--" if right else ":")


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0)
    areas = [float((box[2:] - box[:2]).prod()) for box in (a, b)]
    return float(sides.prod()) / max(sum(areas) - float(sides.prod()), 1e-9)


def _boxes(axis: Axes, boxes: np.ndarray, colour: str, line: str) -> None:
    for left, top, right, bottom in boxes[:, :4]:
        place = (left - 0.5, top - 0.5)
        axis.add_patch(
            Rectangle(place, right - left, bottom - top, fill=False, edgecolor=colour, linestyle=line, linewidth=1)
        )


def _words(values: np.ndarray) -> str:
    found: Sequence[float] = np.atleast_1d(values).tolist()
    said = [f"{value:.2g}" if isinstance(value, float) else f"{value}" for value in found[:WRITTEN]]
    return " ".join(said) + (" …" if len(found) > WRITTEN else "")
