"""The contract of label functions: questions about inputs that are answered by computing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError
from cl_engine.nn.target import Target
from cl_engine.runs import plugins


def _pictures() -> Arrays:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8), np.arange(40) % 10
    return Arrays(x, y, x[:20], y[:20], classes=10)


class LabelFunctionContract:
    """Holds a label function to all that the engine's own are held to; each failure says what is broken.

    >>> class TestMine(LabelFunctionContract):
    ...     function = "my_module:Mine"

    Attributes:
        function: the label function's name, or ``module:Class``.
        options: its options.
        arrays: what it is asked about: small colour pictures of ten classes, unless others are given.
    """

    function: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    arrays: ClassVar[Arrays] = _pictures()

    def kind(self) -> type[LabelFunction]:
        """Return the class under test."""
        found: type[LabelFunction] = plugins.load("labels", self.function)
        return found

    def asked(self, x: np.ndarray | None = None, number: int = 1) -> tuple[Target, Tensor, Tensor]:
        """Return the target, and what is shown and asked of inputs (left out: the training rows), by draws of a ``number``."""
        function = self.kind()()
        function.configure(dict(self.options), "view")
        name, options = function.prepare(self.arrays)
        target: Target = plugins.load("targets", name).of(**options)
        given = torch.from_numpy(np.array(self.arrays.train_x if x is None else x))
        return target, *function.ask(given, torch.from_numpy(self.arrays.train_y), rng.arrays(number, "view"))

    def test_its_labels_fit_its_target_and_inputs_keep_their_form(self) -> None:
        target, x, y = self.asked()
        assert len(y) == len(x) and not target.fault(y.numpy()), f"its labels do not fit: {target.fault(y.numpy())}"
        wanted = self.arrays.train_x
        assert tuple(x.shape) == wanted.shape, f"it shows inputs of shape {tuple(x.shape)}, given {wanted.shape}"
        assert x.dtype == torch.from_numpy(wanted[:1]).dtype, f"it shows inputs that are {x.dtype}"

    def test_it_changes_no_inputs_in_place(self) -> None:
        function = self.kind()()
        function.configure(dict(self.options), "view")
        function.prepare(self.arrays)
        x, y = torch.from_numpy(self.arrays.train_x.copy()), torch.from_numpy(self.arrays.train_y.copy())
        function.ask(x, y, rng.arrays(1, "view"))
        assert np.array_equal(x.numpy(), self.arrays.train_x), (
            "it changed the inputs it was given: other tasks see them too"
        )
        assert np.array_equal(y.numpy(), self.arrays.train_y), "it changed the classes it was given"

    def test_the_same_draws_give_the_same_whatever_was_drawn_elsewhere(self) -> None:
        _, x, y = self.asked()
        torch.rand(3)
        _, again, labels = self.asked()
        assert torch.equal(x, again) and torch.equal(y, labels), "it draws from elsewhere than from `draw`"

    def test_answers_about_mirrored_images_are_the_same_if_it_says_so(self) -> None:
        target, _, y = self.asked()
        if target.places or not self.kind().same_mirrored or self.arrays.train_x.ndim != 4:
            return
        _, _, mirrored = self.asked(self.arrays.train_x[..., ::-1])
        assert torch.allclose(y, mirrored), (
            "answers about mirrored images differ: say same_mirrored = False in the class"
        )

    def test_every_option_says_what_it_means_and_unknown_ones_are_refused(self) -> None:
        kind = self.kind()
        silent = [name for name, info in kind.Options.model_fields.items() if not info.description]
        assert not silent, f"say what these options mean, option(default, 'meaning'): {', '.join(silent)}"
        assert kind.__doc__, "write a docstring: its first line is what `list labels` says"
        with pytest.raises(UsageError, match=r"no option named 'view\.nonsense'"):
            kind().configure({"nonsense": 1}, "view")
