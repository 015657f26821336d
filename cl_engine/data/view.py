"""One question about the inputs of a source: a labelling that it holds, or a label function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.augmentation import Augmentation
from cl_engine.data.images import to_shape
from cl_engine.data.label_function import LabelFunction
from cl_engine.data.rows_of_seeds import Half
from cl_engine.data.source import Arrays, Labels, Sources
from cl_engine.errors import UsageError, mistakes_told
from cl_engine.nn.target import Target
from cl_engine.nn.target_trial import made_target, try_target
from cl_engine.options import named_with_options

TRIED = 2000  # rows that a question is tried on, and numbers scaled by, at the most
SCALED = ("numbers", "number_map")  # targets whose outputs are in units of a deviation


class View:
    """A question, and the answers to it; all that may be wrong with a user's own is told in a sentence, with its name.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.testing.streams import Given
    >>> view = View("flip", "digits", images(), Given(images()))
    >>> x, y = view.asked("test", np.arange(2), torch.zeros(2, 1, 5, 5), torch.zeros(2), seed=0)
    >>> view.target((x, y), (x, y)).key
    '{"classes": 2, "target": "classes"}'

    Attributes:
        name: what the view is called.
        function: the label function that it is; None: a labelling of the source.
    """

    def __init__(self, name: str, source: str, arrays: Arrays, sources: Sources, where: str = "stream.views") -> None:
        """Find what ``name`` is of a source's ``arrays``; ``where`` is the option that names it.

        Raises:
            UsageError: if it is nothing, or has no answer for this source.
        """
        self.name, self._source = name, source
        plugin, options = (name, {}) if name in arrays.labels else named_with_options(name, "view")
        self._labels: Labels | None = arrays.labels.get(plugin)
        self.function: LabelFunction | None = None
        if self._labels is not None:
            asked: Any = self._labels.target, {**self._labels.options, **options}
        else:
            try:
                kind: type[LabelFunction] = sources.plugin("labels", plugin)
            except UsageError as error:
                held = (
                    f"holds {', '.join(sorted(arrays.labels))}" if arrays.labels else "holds no labellings of its own"
                )
                raise UsageError(f"{where}: {error}; the source {held}") from None
            with mistakes_told(f"the view '{name}'"):
                self.function = kind()
                self.function.configure(options, f"view '{plugin}'")
                asked = self.function.prepare(arrays)
        said = f"source '{source}', '{name}'" if self.function is None else f"the view '{name}'"
        if not (isinstance(asked, tuple) and [type(part) for part in asked] == [str, dict]):
            raise UsageError(
                f"{said}: its target is {asked!r}; the name of a target, and a dictionary of options, are wanted"
            )
        self._said, (self._target, self._options) = said, asked
        self._kind: type[Target] = sources.plugin("targets", self._target)
        self._made: Target | None = None

    def target(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Target:
        """Return what is asked; numbers are in units of their deviation over the first training rows.

        Args:
            train, test: inputs and labels of at most `TRIED` rows, which labels are held to; of a labelling they all are.

        Raises:
            UsageError: for labels that do not fit the target, or a target that does not work.
        """
        try:
            target = made_target(self._kind, self._target, self._options)
        except UsageError as error:
            raise UsageError(f"{self._said}: {error}") from None
        for half, (_, y) in (("train", train), ("test", test)):
            self._check(target, half, y if self._labels is None else getattr(self._labels, half))
        try_target(target, train[1][:3])
        self._made = target
        if self._target not in SCALED:
            return target
        values = train[1][:TRIED].double().transpose(0, 1).flatten(1)
        known = [row[~row.isnan()] for row in values]
        mean = [float(row.mean()) for row in known]
        std = [float(row.std()) or 1.0 if len(row) > 1 else 1.0 for row in known]
        return self._kind.of(**{**self._options, "mean": mean, "std": std})

    def asked(self, half: Half, rows: np.ndarray, x: Tensor, classes: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return inputs as they are shown, and labels, of these ``rows`` of a half.

        Raises:
            UsageError: if the label function fails, or what it returns fits the rows or the target not.
        """
        if self._labels is not None:
            own = getattr(self._labels, half)
            return x, torch.from_numpy(np.asarray(own[rows])).to(x.device)
        assert self.function is not None
        with mistakes_told(f"the view '{self.name}'"):
            shown, y = self.function.ask(x, classes, rng.arrays(seed, "view", self.name, half))
            wrong = (shown.shape, shown.dtype, len(y)) != (x.shape, x.dtype, len(x))
        if wrong:
            raise UsageError(
                f"the view '{self.name}' gives {len(y)} labels, and inputs that are {shown.dtype} of shape {tuple(shown.shape)}, "
                f"for inputs that are {x.dtype} of shape {tuple(x.shape)}; each has a label, and keeps type and shape"
            )
        if self._made is not None:
            self._check(self._made, half, y)
        return shown, y

    @property
    def free(self) -> bool:
        """Whether no person has to label anything for it."""
        return self.function is not None and self.function.free

    def check_mirrored(self, augmentation: Augmentation) -> None:
        """Raise a `UsageError` if images are to be mirrored, and a mirrored one has another answer."""
        asked = "flip" if augmentation.flip else "vertical_flip" if augmentation.vertical_flip else None
        if asked and self.function is not None and not self.function.same_mirrored:
            raise UsageError(
                f"train.{asked}: to '{self.name}' a mirrored image has another answer than the image: leave one of them out"
            )

    def _check(self, target: Target, half: str, y: np.ndarray | Tensor) -> None:
        fault = target.fault(y.cpu().numpy() if isinstance(y, Tensor) else y)
        if fault:
            whose = f"source '{self._source}'" if self.function is None else f"the view '{self.name}'"
            told = "training" if half == "train" else "test"
            raise UsageError(f"{whose}: of its {told} labels '{self.name}' {fault}")


def rule_of(
    name: str, source: str, arrays: Arrays, sources: Sources, shape: Sequence[int], seed: int
) -> tuple[View, Target]:
    """Return a label function as it is asked about images of a source that are shown in a ``shape``, and its target.

    Raises:
        UsageError: if it is none, has no answer for this source, or asks for answers at places, which would not move with images.
    """
    # in the shape that tasks have, so that what is measured in all images is measured alike
    halves = {
        "train": (to_shape(torch.from_numpy(arrays.train_x), shape), arrays.train_y),
        "test": (to_shape(torch.from_numpy(arrays.test_x), shape), arrays.test_y),
    }
    train, test = (x.numpy() for x, _ in halves.values())
    view = View(name, source, replace(arrays, train_x=train, test_x=test), sources, "stream.rules")
    if view.function is None:
        raise UsageError(f"stream.rules: '{name}' is a labelling that '{source}' holds; allowed are label functions")
    few = [
        view.asked(half, np.arange(len(x[:TRIED])), x[:TRIED], torch.from_numpy(y[:TRIED]), seed)  # type: ignore[arg-type]
        for half, (x, y) in halves.items()
    ]
    target = view.target(few[0], few[1])
    if target.places:
        raise UsageError(
            f"stream.rules: '{name}' asks for answers at places, which would not move with transformed images; allowed are "
            "rules that ask for a class or numbers"
        )
    return view, target
