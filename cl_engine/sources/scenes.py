"""Rendered scenes: solids in a room, or vehicles from above, with everything that is true of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from cl_engine.data.source import Arrays, Labels, Source
from cl_engine.options import option
from cl_engine.scenes import aerial
from cl_engine.scenes.casting import cast
from cl_engine.scenes.drawing import draw
from cl_engine.scenes.kept import Rendered, kept
from cl_engine.scenes.shading import picture
from cl_engine.scenes.truths import CLASSES, truths

EDITION = 1  # of the renderer: pictures of another are not these
AT_ONCE = 64  # pictures
NUMBER_MAPS = {
    "depth": (1, "depth"),
    "normals": (3, "normals"),
    "curvature": (2, "plain"),
    "reshading": (1, "plain"),
    "keypoints": (1, "plain"),
}
NUMBERS = ("pose", "layout", "vanishing")


class Scenes(Source):
    """Rendered pictures with exact labels: solids in a room (``view=room``), or vehicles from above (``view=aerial``).

    Ray-cast from a seed, in seconds, and kept under the data root; training and test pictures are drawn apart. A room is
    labelled with depth, normals, curvature, reshading, keypoints, segmentation, instances, occlusion edges, boxes, count, shape,
    colour, pose, layout and vanishing points (`cl_engine.scenes.truths`), and its class is the ``asked`` one; a picture from
    above with boxes, and its class is the number of vehicles, three or more the last. The options from
    ``light`` to ``scale`` are those of a domain from above: the same seed has the same vehicles in each.

    >>> scenes = Scenes()
    >>> scenes.configure({"size": 32, "rows": 8, "test_rows": 8})
    >>> arrays = scenes.load(Path("data"))
    >>> arrays.train_x.shape, sorted(arrays.labels)[:4]
    ((8, 3, 32, 32), ['boxes', 'colour', 'count', 'curvature'])
    """

    view: Literal["room", "aerial"] = option("room", "solids in a room, or vehicles from above")
    asked: Literal["shape", "colour", "count"] = option(
        "shape", "the class of a room: of the solid that shows most, or how many"
    )
    size: int = option(64, "height and width in pixels", ge=32, le=128)
    rows: int = option(4000, "training pictures", ge=1, le=10**5)
    test_rows: int = option(1000, "test pictures", ge=1, le=10**5)
    seed: int = option(0, "what all is drawn from", ge=0)
    domain: aerial.Domain

    def load(self, root: Path) -> Arrays:
        room = self.view == "room"
        train, test = (
            self._rendered(root, half, rows) for half, rows in (("train", self.rows), ("test", self.test_rows))
        )
        images = torch.from_numpy(np.array(train["picture"][: min(self.rows, 2000)])).float()
        mean, std = images.mean(dim=(0, 2, 3)).tolist(), images.std(dim=(0, 2, 3)).tolist()
        labels = {name: self._labelled(name, train[name], test[name]) for name in train if name != "picture"}
        y = labels[self.asked if room else "count"]
        about: dict[str, str | int] = {"data": f"scenes, {self.view}, seed {self.seed}, edition {EDITION}"}
        return Arrays(
            np.array(train["picture"]),
            np.array(y.train),
            np.array(test["picture"]),
            np.array(y.test),
            y.options["classes"],
            tuple(mean),
            tuple(std),
            about,
            labels,
        )

    def _labelled(self, name: str, train: np.ndarray, test: np.ndarray) -> Labels:
        if name == "boxes":
            return Labels("boxes", {"size": [self.size, self.size]}, train, test)
        if name in NUMBER_MAPS:
            channels, kind = NUMBER_MAPS[name]
            return Labels("number_map", {"channels": channels, "kind": kind}, train, test)
        if name in NUMBERS:
            return Labels("numbers", {"numbers": train.shape[1]}, train, test)
        classes = CLASSES[name] if self.view == "room" else aerial.MANY + 1
        return Labels("class_map" if train.ndim == 3 else "classes", {"classes": classes}, train, test)

    def _rendered(self, root: Path, half: str, rows: int) -> Rendered:
        if self.view == "aerial":
            return aerial.rendered(root, self.domain, self.size, self.seed, half, rows)
        key = {"view": self.view, "size": self.size, "seed": self.seed, "half": half, "rows": rows, "edition": EDITION}
        return kept(root, key, partial(self._rooms, half, rows))

    def _rooms(self, half: str, rows: int) -> Rendered:
        drawn, parts = draw(rows, self.seed, half), []
        for start in range(0, rows, AT_ONCE):
            rooms = drawn.part(start, start + AT_ONCE)
            view = cast(rooms, self.size)
            parts.append({"picture": picture(rooms, view, self.size).numpy(), **truths(rooms, view, self.size)})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
