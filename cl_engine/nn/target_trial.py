"""Trial of a target on a few labels: one that is wrong is refused before the first step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cl_engine.errors import UsageError, mistakes_told
from cl_engine.nn.target import Target


def made_target(cls: type[Target], name: str, options: dict[str, Any]) -> Target:
    """Return the target with these options; ``name`` is what it is called.

    Raises:
        UsageError: for options that do not exist or are out of bounds, or a class that cannot be made.
    """
    with mistakes_told(f"the target '{name}' cannot be made: it"):
        return cls.of(**options)


def try_target(target: Target, y: Tensor) -> None:
    """Refuse a target that does not give what `Target` promises, on labels ``[N, …]`` and outputs that are 0.

    Raises:
        UsageError: naming the first thing that is wrong.
    """
    name = f"the target '{target.name()}'"

    def refuse(wrong: bool, said: str) -> None:
        if wrong:
            raise UsageError(f"{name}: {said}")

    with mistakes_told(f"{name} cannot be used: it"):
        count = target.outputs
        refuse(not isinstance(count, int) or count < 1, f"outputs is {count!r}; 1, 2, 3, … are allowed")
        outputs = torch.zeros(len(y), count, *((2, 2) if target.places else ()), device=y.device)
        losses = target.losses(outputs, y)
        shape = tuple(losses.shape)
        refuse(shape != (len(y),), f"losses of {len(y)} rows have shape {shape}; one number a row is wanted")
        refuse(not losses.isfinite().all(), f"losses of outputs that are 0 are {losses.tolist()}; they must be finite")
        torch.vmap(lambda own: target.losses(own, y))(torch.stack([outputs, outputs]))
        sums, names = target.sums(outputs, y), target.sum_names
        shape = tuple(sums.shape)
        refuse(shape != (len(names),), f"sums have shape {shape}, and {len(names)} have names in sum_names")
        scores, measured = target.scores(sums.cpu().numpy()), target.measure.name
        refuse(
            measured not in scores, f"scores are {', '.join(scores)}, and '{measured}', the measure, is not among them"
        )
        guess = target.guess(y)
        shape = tuple(guess.shape)
        refuse(shape != (count,), f"a guess has shape {shape}; a number for each of the {count} outputs is wanted")
