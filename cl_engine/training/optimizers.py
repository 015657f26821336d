"""Training options."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any, Literal

import torch
from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from cl_engine.data.augmentation import Augmentation
from cl_engine.errors import UsageError
from cl_engine.options import STRICT, option, unsaid


class Train(BaseModel):
    """The table ``[train]`` of a scenario: the options of training.

    >>> Train(epochs=5, lr=0.05).optimizer
    'sgd'
    """

    model_config = STRICT
    epochs: int = option(1, "passes over the training rows of an experience", ge=1)
    batch: int = option(128, "rows a step", ge=1)
    optimizer: str = option("sgd", "the name of an optimiser of torch.optim, in lower case")
    lr: float = option(0.05, "learning rate", gt=0)
    momentum: float = option(0.0, "momentum, for the optimisers that have it", ge=0, lt=1)
    weight_decay: float = option(0.0, "weight decay", ge=0)
    nesterov: bool = option(False, "Nesterov's momentum, for the optimisers that have it", before=False)
    betas: list[float] | None = option(
        None, "decay of the means of gradients and of their squares, for the optimisers that have it", before=None
    )
    eps: float | None = option(
        None, "what is added to a divisor, for the optimisers that have it; left out: torch's", gt=0, before=None
    )
    schedule: str = option(
        "constant",
        "learning rate, but for milestones: constant, along a cosine from lr to 0, or any of torch.optim.lr_scheduler, with "
        "options behind it: one_cycle, step?step_size=3, plateau?patience=2 (on validation rows)",
        before="constant",
    )
    schedule_by: Literal["epoch", "step"] | None = option(
        None, "what the schedule counts; left out: steps for one_cycle and cyclic, epochs for the others", before=None
    )
    warmup: float = option(
        0.0, "epochs, or a share of one, in which the rate rises step by step to that of the schedule", ge=0, before=0.0
    )
    milestones: list[int] = option([], "epochs after which the learning rate is multiplied by gamma")
    gamma: float = option(0.1, "factor of the learning rate at each milestone", gt=0, le=1)
    clip_norm: float | None = option(
        None, "greatest norm of a seed's gradients of all that is trained, together", gt=0, before=None
    )
    clip_value: float | None = option(None, "greatest size of each number of a gradient", gt=0, before=None)
    label_smoothing: float = option(
        0.0, "share of a label that is spread over all classes, where a task asks for classes", ge=0, lt=1, before=0.0
    )
    ema: float = option(
        0.0,
        "decay of a moving average of the weights, which then answers and is kept; 0: the weights do",
        ge=0,
        lt=1,
        before=0.0,
    )
    patience: int | None = option(
        None,
        "epochs without a better score on the validation rows (stream.validation) after which a seed's fit ends; the best "
        "epoch's weights are kept",
        ge=0,
        before=None,
    )
    crop: int = option(
        0, "images: pixels of black around, before a part of the old size is cut out at random", ge=0, le=256
    )
    flip: float = option(
        0.0, "images: probability that left and right change places, drawn anew every time", ge=0, le=1
    )
    vertical_flip: float = option(
        0.0, "images: probability that top and bottom change places, drawn anew every time", ge=0, le=1, before=0.0
    )
    zoom: float = option(
        0.0, "images: share by which they are shown larger or smaller at the most, drawn anew", ge=0, le=3, before=0.0
    )
    transforms: list[str] = option(
        [],
        "images: names in torchvision.transforms.v2, with options behind them, as random_rotation?degrees=10; what they draw is "
        "drawn for a whole batch",
        before=[],
    )
    transform_parts: int = option(
        1, "parts of a batch, as equal as can be, that `transforms` draws for one by one", ge=1, before=1
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "what products of training steps are computed in; weights, updates and tests stay float32"
    )
    leftover: Literal["keep", "drop", "merge"] = option(
        "keep",
        "rows of an experience that batches leave over: a smaller last batch (keep), left out, others in every epoch "
        "(drop), or part of the batch before (merge); where there is one batch alone, it is kept",
        before="keep",
    )
    upkeep: str = option(
        "",
        "what keeps the net able to learn: a name of `list upkeep`, with options behind it, as l2_init?strength=0.01",
        before="",
    )
    keep_optimizer: bool = option(
        False,
        "go on with what the optimiser remembers of the weights that an experience finds as the one before left them",
        before=False,
    )
    reset_head: Literal["never", "zero", "draw"] = option(
        "never",
        "what a head that all tasks share begins every experience with: with what it has (never), zeros, or new weights",
        before="never",
    )
    task_heads: Literal["alike", "drawn"] = option(
        "alike",
        "what the head of a new task begins with, where the task is told: the same weights for every task, or new ones for each",
        before="alike",
    )
    not_finite: Literal["stop_run", "stop_seed"] = option(
        "stop_run", "what a loss that is NaN or infinite stops: the run, or its seed, while the others go on"
    )

    @model_serializer(mode="wrap")
    def _without_news(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is newer than experiments that are on disk, where it is as it was before: they stay the same."""
        found: dict[str, Any] = dump(self)
        known = unsaid(type(self), found)
        return {name: value for name, value in found.items() if name not in known}

    def by(self, optimizer: str, **options: Any) -> Train:
        """Return the same options for a part that another optimiser trains, with none of what is said of the scenario's."""
        own = {"momentum": 0.0, "nesterov": False, "betas": None, "eps": None}
        return self.model_copy(update={"optimizer": optimizer, **own, **options})

    @property
    def plain(self) -> Train:
        """The same options for rows that are no images: they are shown as they are."""
        return self.model_copy(update={**asdict(Augmentation()), "transforms": []})

    def batches(self, rows: int) -> int:
        """Return how many batches an epoch of this many rows has."""
        whole, over = divmod(rows, self.batch)
        return whole + (over > 0 and (self.leftover == "keep" or not whole))

    def learned(self, rows: int) -> int:
        """Return how many of this many rows an epoch learns from."""
        return min(rows, self.batches(rows) * self.batch) if self.leftover == "drop" else rows

    def places(self, batch: int, rows: int) -> slice:
        """Return where, in the order of an epoch of this many rows, those of a batch are."""
        begin, last = batch * self.batch, batch + 1 == self.batches(rows)
        return slice(begin, rows if last and self.leftover != "drop" else min(begin + self.batch, rows))

    def shown(self, augmentation: Augmentation) -> Train:
        """Return the same options with a stream's own augmentation where they have none."""
        return self if self.augmentation else self.model_copy(update=asdict(augmentation))

    @property
    def augmentation(self) -> Augmentation:
        """What happens to images before every step."""
        return Augmentation(self.crop, self.flip, self.vertical_flip, self.zoom)


NOT_ELEMENTWISE = ("adafactor",)  # a step of one number of a tensor depends on the others
UNUSABLE = {
    "lbfgs": "asks for the loss several times a step",
    "muon": "trains matrices alone, and nets have biases",
    "sparseadam": "takes sparse gradients alone",
}


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Return the class of ``torch.optim`` whose name in lower case is ``name``; a `UsageError` if there is none."""
    found = {
        kind.lower(): cls
        for kind, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
    }
    usable = {kind: cls for kind, cls in found.items() if kind not in UNUSABLE}
    if name not in usable:
        why = f"'{name}' {UNUSABLE[name]}" if name in UNUSABLE else f"no optimiser '{name}' in torch.optim"
        raise UsageError(f"train.optimizer: {why}; there are: {', '.join(sorted(usable))}")
    return usable[name]
