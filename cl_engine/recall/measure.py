"""Distances between recollections and their targets, as numbers for the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cl_engine.data.stream import Experience
from cl_engine.nn.net import Params
from cl_engine.nn.target import Target, quality
from cl_engine.recall.manifest import Manifest
from cl_engine.recall.sketch import Sketches
from cl_engine.recall.stop import Probe, agreement

# given places of seeds, what was learned by these, ``{name: [G, …]}``, and rows: logits ``[G, N, …]``
Answers = Callable[[Sequence[int], Params, Tensor], Tensor]
PROBE_ROWS = 512  # rows at most that the newest skill is tested on


def mean_and_worst(cosines: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and least of cosines ``[S, n]`` over the skills, by seed; NaN where there are none."""
    if not cosines.shape[1]:
        nothing = (float("nan"),) * len(cosines)
        return nothing, nothing
    return tuple(cosines.mean(dim=1).tolist()), tuple(cosines.amin(dim=1).tolist())


def nearness(recalled: Tensor, targets: Tensor, centre: Tensor, old: int) -> dict[str, tuple[float, ...]]:
    """Return the cosines of recollections ``[S, n, P]`` with their targets, the first ``old`` of which were kept before."""
    whole, aims = recalled + centre.unsqueeze(1), targets + centre.unsqueeze(1)
    numbers: dict[str, tuple[float, ...]] = {}
    for name, cosines in (
        ("cosine", agreement(whole, aims)),
        ("residual", agreement(recalled, targets)),
        ("previous", agreement(whole[:, :old], aims[:, :old])),
    ):
        numbers[name], numbers[f"{name}_worst"] = mean_and_worst(cosines)
    return numbers


def nearness_to_originals(
    sketches: Sketches | None, kept: list[Tensor], recalled: Tensor, centre: Tensor
) -> dict[str, tuple[float, ...]]:
    """Return the estimated cosines with the originals, by the sketches ``kept`` of each; NaN without sketches."""
    found = torch.full((2, *recalled.shape[:2]), float("nan"), device=recalled.device)
    for place, sketch in enumerate(kept if sketches is not None else []):
        assert sketches is not None
        found[0, :, place], found[1, :, place] = sketches.cosines(sketch, recalled[:, place], centre)
    numbers: dict[str, tuple[float, ...]] = {}
    for name, cosines in (("original", found[0]), ("original_residual", found[1])):
        numbers[name], numbers[f"{name}_worst"] = mean_and_worst(cosines)
    return numbers


def probing(answers: Answers, manifest: Manifest, rest: Params, experience: Experience, target: Target) -> Probe:
    """Return a function that scores weights ``[G, P]`` on rows of an experience, with ``rest`` beside them; more is better.

    Validation rows, or training rows (evenly from all classes) where the scenario sets none aside.
    """
    data = experience.validation if len(experience.validation) else experience.train
    rows = data.spread(PROBE_ROWS)

    def score(members: Sequence[int], vector: Tensor) -> Tensor:
        own = {name: tensor[list(members)] for name, tensor in rest.items()}
        return quality(target, answers(members, manifest.params(vector, own), rows.x), rows.y)

    return score
