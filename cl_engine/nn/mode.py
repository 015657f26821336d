"""Training mode and evaluation mode of a module, switched where they must be."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from cl_engine.errors import UsageError


class Mode:
    """The mode a module is in. Switching walks through all its parts, so it is done on a change alone."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._now: tuple[bool, bool | frozenset[str]] | None = None

    def put(self, training: bool, statistics: bool | Collection[str]) -> None:
        """Put the module in training or evaluation mode.

        ``statistics`` says which normalisations use and update the statistics of the batch while training: all, none,
        or those in layers of these names.
        """
        mode = (training, statistics if isinstance(statistics, bool) else frozenset(statistics))
        if mode == self._now:
            return
        self._now = mode
        self._module.train(training)
        if training and statistics is not True:
            tracking = statistics or ()
            for name, part in self._module.named_modules():
                if isinstance(part, nn.modules.batchnorm._NormBase) and name not in tracking:
                    part.eval()


def explained(error: ValueError, rows: int) -> Exception:
    """Return what a module says of a batch of so many rows in words that say what to do, where it is known."""
    if "more than 1 value per channel" not in str(error):
        return error
    return UsageError(
        f"train.batch: batch normalisation cannot learn from {rows} row in a batch; choose a number that leaves none over, "
        "or another norm for the net"
    )
