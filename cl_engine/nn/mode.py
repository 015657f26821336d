"""Training and evaluation mode of a module, switched only when it changes."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from cl_engine.errors import UsageError


class TooFewRows(UsageError):
    """A batch of so few rows that a layer cannot be trained on it.

    >>> issubclass(TooFewRows, UsageError)
    True
    """


class Mode:
    """Keeps the mode that a module is in, so that it is switched on a change alone: switching walks through all its parts.

    >>> module = nn.Dropout()
    >>> Mode(module).put(training=False, statistics=True); module.training
    False
    """

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
    """Return a module's error about a batch of ``rows`` rows with the advice that is known for it."""
    if "more than 1 value per channel" not in str(error):
        return error
    return TooFewRows(
        f"train.batch: batch normalisation cannot learn from {rows} row in a batch; set train.leftover = 'merge' or 'drop', "
        "choose a number that leaves none over, or another norm for the net"
    )
