"""Vehicles: finding them in pictures from above, in one domain after another."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from cl_engine.core import rng
from cl_engine.data.rows_of_seeds import Half
from cl_engine.data.source import Sources
from cl_engine.data.source_stream import ordered, sequence
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.options import option
from cl_engine.scenes.aerial import Domain, rendered
from cl_engine.scenes.kept import Rendered
from cl_engine.targets.boxes import Boxes

Shift = Literal["clear", "mild", "moderate", "severe"]
SHIFTS: dict[str, Domain] = {
    "clear": Domain(),
    "mild": Domain(ground="sand", light=0.8, clutter=2),
    "moderate": Domain(ground="asphalt", light=0.6, contrast=0.7, warmth=0.2, shadow=-1.5, clutter=4, noise=0.04),
    "severe": Domain(
        ground="snow", light=0.7, contrast=0.8, warmth=-0.2, shadow=-2.0, clutter=6, noise=0.05, coarse=2.0, scale=0.85
    ),
}
MEAN, STD = (78.0, 98.0, 62.0), (24.0, 25.0, 27.0)  # of clear pictures, a channel each: nets are told no other domain's


class Vehicles(Stream):
    """Vehicles: oriented vehicles with shadows, on roads and beside them, to be found from above in domains that differ.

    A task is a domain: ``clear``, the same place in a ``mild``, a ``moderate`` and a ``severe`` shift, or a table of what
    differs from clear (`cl_engine.scenes.aerial.Domain`). Each has scenes of its own: no two tasks show the same vehicles.
    Labels are boxes, measured by average precision. Pictures are rendered from the seed when a task is first asked for, and
    kept under the data root.

    >>> stream = Vehicles(size=32, rows=8, test_rows=8, domains=["clear", {"ground": "snow", "light": 0.5}])
    >>> [stream.name_of(task) for task in range(2)], stream[1].train.x.shape, stream.target(0).measure.name
    (['clear', 'light 0.5, ground snow'], torch.Size([8, 3, 32, 32]), 'ap_50')
    """

    domains: list[Shift | Domain] = option(
        ["clear", "mild", "moderate", "severe"],
        "a task each: clear, mild, moderate, severe, or a table of what differs from clear (light, ground, noise, …)",
        min_length=1,
    )
    size: int = option(64, "height and width in pixels", ge=32, le=128)
    rows: int = option(1000, "training pictures of a domain", ge=1, le=10**5)
    test_rows: int = option(300, "test pictures of a domain", ge=1, le=10**5)
    validation: float = option(0.0, "share of the training pictures set aside for choices", ge=0, lt=1)
    revisit: int | list[int] = option(
        0, "how often all tasks come back, in order, or a list of the tasks that come back"
    )
    task_order: int | list[int] = option(
        0, "0: the order of `domains`; k > 0: the k-th seeded shuffle; a list of all tasks: that order"
    )
    seed: int = option(0, "what all scenes are drawn from; the learners' seeds do not change the stream", ge=0)

    def __init__(self, /, device: torch.device | str = "cpu", root: Path | None = None, **options: Any) -> None:
        """Build the stream, its tensors on ``device``; pictures are kept under ``root``, if there is one.

        Raises:
            UsageError: for options that do not exist or do not fit each other.
        """
        self.configure(options, "stream")
        if self.setting == "class":
            raise UsageError("stream.setting: domains share what is looked for, vehicles; use 'task' or 'domain'")
        known = [SHIFTS[one] if isinstance(one, str) else Domain(**dict(one)) for one in self.domains]
        if self.n is not None and self.n > len(known):
            raise UsageError(f"stream.n: {self.n} tasks, and stream.domains has {len(known)}")
        self.device, self._root = torch.device(device), root
        self.n_tasks = self.n or len(known)
        self._known = known[: self.n_tasks]
        self._kinds = ordered(self.task_order, self.n_tasks, self.seed) or list(range(self.n_tasks))
        self._order = sequence(self.revisit, self.n_tasks) or list(range(self.n_tasks))
        self.n_steps = len(self._order)
        self._target = Boxes.of(size=[self.size, self.size])
        self.input_shape, self.outputs, self.mean, self.std = (3, self.size, self.size), self._target.outputs, MEAN, STD
        self._held = lru_cache(2 * self.n_tasks)(self._drawn)

    @classmethod
    def build(cls, options: Mapping[str, Any], sources: Sources, device: torch.device | str) -> Self:
        return cls(device=device, root=sources.root, **options)

    def target(self, task_id: int) -> Boxes:
        return self._target

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return self._order[step]

    def __getitem__(self, step: int) -> Experience:
        task = self.task_id(step)
        found, aside = self._held(self._kinds[task], "train"), round(self.rows * self.validation)
        return Experience(
            step=step,
            task_id=task,
            train=self._data(found, slice(aside, None)),
            validation=self._data(found, slice(aside)),
            classes=0,
            rng_key=step if step >= len(self._kinds) else self._kinds[task],
            target=self._target,
        )

    def train_rows(self, step: int) -> int:
        return self.rows - round(self.rows * self.validation)

    def test(self, task_id: int) -> Data:
        return self._data(self._held(self._kinds[task_id], "test"), slice(None))

    def name_of(self, task_id: int) -> str:
        named = self.domains[self._kinds[task_id]]
        if isinstance(named, str):
            return named
        clear = SHIFTS["clear"].values()
        other = {name: value for name, value in dict(named).items() if value != clear[name]}
        return ", ".join(f"{name} {value if isinstance(value, str) else f'{value:g}'}" for name, value in other.items())

    def _drawn(self, kind: int, half: Half) -> Rendered:
        seed = rng.derive(self.seed, "vehicles", kind)
        return rendered(
            self._root, self._known[kind], self.size, seed, half, self.rows if half == "train" else self.test_rows
        )

    def _data(self, found: Rendered, rows: slice) -> Data:
        x, y = (torch.from_numpy(np.array(found[name][rows])) for name in ("picture", "boxes"))
        return Data(x.to(self.device), y.to(self.device))
