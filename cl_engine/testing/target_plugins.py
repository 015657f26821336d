"""The contract of targets: losses of rows, and a measure that is a function of sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from cl_engine.errors import UsageError
from cl_engine.nn.target import Target
from cl_engine.nn.target_trial import try_target
from cl_engine.runs import plugins

ROWS, SIDE = 6, 12
USUAL: dict[str, Any] = {"classes": 3, "numbers": 2, "channels": 3, "size": [SIDE, SIDE]}


def usual_labels(target: Target, draw: torch.Generator) -> Tensor:
    """Return labels of the first usual form that a target finds no fault with: classes, maps of them, numbers, maps, boxes."""
    corner = torch.rand(ROWS, 2, 2, generator=draw) * SIDE / 2
    forms = (
        torch.randint(2, (ROWS,), generator=draw),
        torch.randint(2, (ROWS, SIDE, SIDE), generator=draw),
        torch.randn(ROWS, getattr(target, "numbers", 1), generator=draw),
        torch.rand(ROWS, getattr(target, "channels", 1), SIDE, SIDE, generator=draw) + 0.5,
        torch.cat([corner, corner + SIDE / 3], dim=2),
    )
    return next(y for y in forms if not target.fault(y.numpy()))


class TargetContract:
    """Holds a target to all that the engine's own are held to; each failure says what is broken.

    >>> class TestMine(TargetContract):
    ...     target = "my_module:Mine"
    ...     def labels(self, target):
    ...         return torch.tensor([1, -1, 1])

    Attributes:
        target: the target's name, or ``module:Class``.
        options: its options; of usual names, such as ``classes`` or ``size``, they need not be given.
    """

    target: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    def kind(self) -> type[Target]:
        """Return the class under test."""
        found: type[Target] = plugins.load("targets", self.target)
        return found

    def make(self) -> Target:
        """Return the target under test."""
        known = self.kind().Options.model_fields
        return self.kind().of(**{**{name: value for name, value in USUAL.items() if name in known}, **self.options})

    def labels(self, target: Target) -> Tensor:
        """Return good labels of a few rows ``[N, …]``."""
        return usual_labels(target, torch.Generator().manual_seed(0))

    def outputs(self, target: Target, rows: int, more: int = 0) -> Tensor:
        """Return random outputs of a net ``[N, O, …]``, and ``more`` of them beyond those asked for."""
        maps = (3, 3) if target.places else ()
        return torch.randn(rows, target.outputs + more, *maps, generator=torch.Generator().manual_seed(1))

    def test_it_gives_what_a_target_promises(self) -> None:
        target = self.make()
        y = self.labels(target)
        try_target(target, y)
        assert target.fault(y.numpy()) == "", f"good labels have a fault: they {target.fault(y.numpy())}"
        assert len(target.answers(self.outputs(target, len(y)))) == len(y), "answers are not one a row"
        vectors = target.vectors(y)
        assert vectors.ndim == 2 and len(vectors) == len(y), f"vectors have shape {tuple(vectors.shape)}, not [rows, D]"

    def test_sums_of_parts_add_up_to_those_of_the_whole(self) -> None:
        target = self.make()
        y = self.labels(target)
        outputs = self.outputs(target, len(y))
        whole = target.sums(outputs, y)
        for cut in range(1, len(y)):
            parts = target.sums(outputs[:cut], y[:cut]) + target.sums(outputs[cut:], y[cut:])
            assert torch.allclose(parts, whole, equal_nan=True), (
                f"sums of {cut} rows and of the others do not add up to those of all: a sum is over rows, not a mean"
            )

    def test_the_sums_of_several_seeds_are_those_of_each(self) -> None:
        target = self.make()
        y = self.labels(target)
        outputs = torch.stack([self.outputs(target, len(y)), self.outputs(target, len(y)) * 2 + 1])
        labels = torch.stack([y, y.flip(0)])
        alone = torch.stack([target.sums(*own) for own in zip(outputs, labels, strict=True)])
        torch.testing.assert_close(target.sums_of_each(outputs, labels), alone, equal_nan=True)

    def test_the_loss_of_a_row_is_its_own_alone_and_beside_others_and_under_vmap(self) -> None:
        target = self.make()
        y = self.labels(target)
        outputs = self.outputs(target, len(y)).requires_grad_()
        losses = target.losses(outputs, y)
        one = torch.cat([target.losses(outputs[k : k + 1], y[k : k + 1]) for k in range(len(y))])
        torch.testing.assert_close(
            losses, one, msg=lambda text: f"the loss of a row depends on those beside it: {text}"
        )
        torch.testing.assert_close(target.loss(outputs, y), losses.mean())
        seeds = torch.stack([outputs, outputs + 1])
        together = torch.vmap(lambda own: target.losses(own, y))(seeds)
        torch.testing.assert_close(together, torch.stack([target.losses(own, y) for own in seeds]))
        [slope] = torch.autograd.grad(losses.sum(), outputs)
        assert slope.isfinite().all() and slope.any(), "the loss has no finite gradient by which it could be learned"

    def test_outputs_beyond_its_own_are_not_looked_at(self) -> None:
        target = self.make()
        y = self.labels(target)
        wide = self.outputs(target, len(y), more=2)
        own = wide[:, : target.outputs]
        assert torch.equal(target.losses(wide, y), target.losses(own, y)), "heads of a stream may have more outputs"
        assert torch.equal(target.sums(wide, y), target.sums(own, y)), "heads of a stream may have more outputs"

    def test_chances_are_of_its_own_outputs_and_sum_to_one_and_smooth_answers_pass_gradients(self) -> None:
        target = self.make()
        wide = self.outputs(target, 3, more=2).requires_grad_()
        own, read = wide[:, : target.outputs], target.smooth_answers(wide)
        assert torch.equal(read, target.smooth_answers(own)), "heads of a stream may have more outputs"
        [slope] = torch.autograd.grad((read**2).sum(), wide)
        assert slope.isfinite().all() and slope.any(), "smooth answers have no finite gradient"
        chances, narrow = target.chances(wide), target.chances(own)
        if chances is not None and narrow is not None:
            assert torch.equal(chances, narrow), "heads of a stream may have more outputs"
            torch.testing.assert_close(chances.sum(dim=1), torch.ones_like(chances[:, 0]))

    def test_a_target_of_rows_reads_maps_by_their_mean(self) -> None:
        target = self.make()
        if target.places:
            pytest.skip("it is read at places")
        y = self.labels(target)
        flat = self.outputs(target, len(y))
        maps = flat[:, :, None, None] + torch.tensor([[-1.0, 1.0], [2.0, -2.0]])
        torch.testing.assert_close(target.losses(maps, y), target.losses(flat, y))
        torch.testing.assert_close(target.sums(maps, y), target.sums(flat, y))

    def test_a_guess_has_a_score(self) -> None:
        target = self.make()
        y = self.labels(target)
        guess = target.guess(y)
        assert guess.isfinite().all(), f"a guess is {guess.tolist()}: it must be finite"
        said = guess.reshape(1, -1, *[1] * (2 * target.places)).expand(len(y), -1, *[1] * (2 * target.places)).float()
        found = target.score(target.sums(said, y).numpy())
        assert np.isfinite(found), f"the score of a guess on these labels is {found}"
        nothing = target.sums(said, y).numpy() * 0
        assert np.isnan(target.score(nothing)), (
            "where nothing was measured a score is NaN (cl_engine.metrics.sums.ratio)"
        )

    def test_every_option_says_what_it_means_and_unknown_ones_are_refused(self) -> None:
        kind = self.kind()
        silent = [name for name, info in kind.Options.model_fields.items() if not info.description]
        assert not silent, f"say what these options mean, option(default, 'meaning'): {', '.join(silent)}"
        assert kind.__doc__, "write a docstring: its first line is what `list targets` says"
        with pytest.raises(UsageError, match=r"no option named 'target\.nonsense'"):
            kind.of(**{**self.make().options(), "nonsense": 1})
