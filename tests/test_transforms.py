"""Transforms of torchvision by name: drawn anew for every batch, by seed, and the same however seeds run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.training.optimizers import Train
from cl_engine.training.transforms import Transforms
from tests.test_fit import job_of, net_of, run

NAMES = ["random_horizontal_flip", "random_erasing?p=0.5&value=1"]


def seen(together: bool, **options: Any) -> tuple[list[torch.Tensor], Tree]:
    """Return the images of every batch of a fit of the seeds 4 and 7, where they run in turn, and what it comes to."""
    net, found = net_of(), []

    def loss(params: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not together:
            found.append(x.clone())
        return F.cross_entropy(net.one(params, x), y)

    job = job_of(net, [4, 7], loss=loss, train=Train(epochs=2, batch=16, lr=0.1, **options), side_by_side=together)
    return found, run(job)[0]


def test_a_batch_is_shown_as_torchvision_shows_it_when_seeded_with_seed_epoch_and_batch():
    shown, trained = seen(False, transforms=NAMES)
    plain, other = seen(False)
    chain = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomErasing(p=0.5, value=1)])
    own = [(epoch, batch) for epoch in range(2) for batch in range(4)]
    # the seeds take turns, and the batches of one are in their order
    by_seed = {
        seed: [x for x in shown if any(torch.equal(x, w) for w in wanted(seed, plain, own, chain))] for seed in (4, 7)
    }
    assert len(by_seed[4]) == len(by_seed[7]) == len(own)
    assert not torch.equal(trained["head.weight"], other["head.weight"])
    together = seen(True, transforms=NAMES)[1]
    for name in trained:
        torch.testing.assert_close(together[name], trained[name], rtol=1e-3, atol=1e-5)


def wanted(
    seed: int, plain: list[torch.Tensor], own: list[tuple[int, int]], chain: Callable[[torch.Tensor], torch.Tensor]
) -> list[torch.Tensor]:
    rows = job_of(net_of()).rows[0]
    found = []
    for epoch, batch in own:
        order = torch.randperm(50, generator=rng.tensors(seed, "order", 0, 0, epoch)).split(16)[batch]
        assert any(torch.equal(rows[order], x) for x in plain)
        with rng.ambient(seed, "transforms", 0, 0, epoch, batch):
            found.append(chain(rows[order]))
    return found


def test_parts_of_a_batch_are_drawn_for_one_by_one():
    x = torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 1, 2, 2).clone()
    x[..., 1] += 100  # left and right differ
    with rng.ambient(0, "parts"):
        together = Transforms(["random_horizontal_flip"])(x)
    mirrored = (together[:, 0, 0, 0] >= 100).unique()
    assert len(mirrored) == 1
    with rng.ambient(0, "parts"):
        each = Transforms(["random_horizontal_flip"], parts=8)(x)
    assert len((each[:, 0, 0, 0] >= 100).unique()) == 2
    assert torch.equal(each.amin(dim=(1, 2, 3)), x.amin(dim=(1, 2, 3)))  # rows stay in their order


def test_bytes_are_transformed_as_bytes_and_rehearsed_rows_too(tiny: Callable[..., Experiment], monkeypatch: Any):
    kinds: list[tuple[torch.dtype, int]] = []
    plain = Transforms.__call__

    def noted(self: Transforms, x: torch.Tensor) -> torch.Tensor:
        kinds.append((x.dtype, len(x)))
        return plain(self, x)

    monkeypatch.setattr(Transforms, "__call__", noted)
    changed = {"train.transforms": ["random_horizontal_flip"], "stream.n": 2, "train.epochs": 1, "samples": 20}
    experiment = tiny("replay", seeds=(0,), **changed)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    for step in range(2):
        kinds.clear()
        list(strategy.learning(stream[step]))
    assert {kind for kind, _ in kinds} == {torch.uint8}
    assert len(kinds) == 2 * strategy.train.batches(len(stream[1].train))


def test_labels_at_places_do_not_follow_and_colours_may_change(tiny: Callable[..., Experiment]):
    from cl_engine.targets.class_map import ClassMap

    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    Transforms(["color_jitter?brightness=0.5", "gaussian_blur?kernel_size=3"]).check(images, ClassMap.of(classes=2))
    with pytest.raises(
        UsageError, match=r"'random_rotation.*' may move what is in an image, and labels of 'class_map'"
    ):
        Transforms(["random_rotation?degrees=10"]).check(images, ClassMap.of(classes=2))
    with pytest.raises(UsageError, match=r"they are for images .* inputs have shape"):
        Transforms(["color_jitter"]).check(images.flatten(1), ClassMap.of(classes=2))
