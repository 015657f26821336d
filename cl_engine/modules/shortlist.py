"""The past tasks that a new one looks at: the latest, or those whose inputs were most like its own."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Literal

from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.modules.events import SourceRecognised
from cl_engine.modules.gaussians import Gaussians, inputs_seen
from cl_engine.modules.logged_transfers import LoggedTransfers, logged_transfers
from cl_engine.nn.net import Net
from cl_engine.options import OptionGroup, option

Looked = Literal["latest", "gaussian"]
DIMENSIONS = 20  # that inputs are projected to (Valkov et al. 2024)
RECOGNISED = 8  # tasks that are looked at unless the scenario says how many


class Scan(OptionGroup):
    """Past tasks that are asked about a new one, and how many.

    >>> Scan(sources="gaussian").scanned is None
    True
    """

    sources: Looked = option(
        "latest", "past tasks that are asked: the latest, or those whose inputs were most alike", before="latest"
    )
    scanned: int | None = option(
        None, "how many of those are asked; left out: all, or 8 whose inputs were most alike", ge=1, before=None
    )


class Shortlist:
    """Choice of past tasks whose nets are asked about a new task, so that how many are does not grow with the tasks met.

    ``gaussian`` keeps a Gaussian of each task's inputs, which the seeds share, and takes those that explain the new task's
    best: a product with a thousand rows, and no past net is run.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> Shortlist(net, "latest", 3).latest(range(10))
    [7, 8, 9]
    """

    def __init__(self, net: Net, looked: Looked, scanned: int | None) -> None:
        """Look at so many; None: at all, or at eight that are recognised."""
        self._net, self._looked, self._scanned = net, looked, scanned
        self._gaussians = Gaussians(net.example(1).numel(), DIMENSIONS)

    @property
    def bounded(self) -> bool:
        """Whether no more tasks are looked at however many there are."""
        return self._looked == "gaussian" or self._scanned is not None

    def start(self) -> State:
        """Return the part of a state that holds Gaussians, empty where none are kept."""
        if self._looked != "gaussian":
            return {}
        return {"inputs": Bank.empty(1, (self._gaussians.size,), device=self._net.device)}

    def tasks(
        self, state: State, known: Sequence[int], experience: Experience, rows: int
    ) -> Generator[Event, None, list[int]]:
        """Return which of the tasks known are looked at, in their order; at most ``rows`` training rows tell."""
        if self._looked != "gaussian":
            return self.latest(known)
        if not len(known):
            return []
        likely = self._gaussians.log_density(state["inputs"].rows[:, : len(known)], self._seen(experience, rows))[0]
        count = min(self._scanned or RECOGNISED, len(known))
        best = likely.argsort(descending=True, stable=True)[:count].tolist()
        for task in best:
            yield SourceRecognised(
                step=experience.step,
                task_id=experience.task_id,
                source=known[task],
                log_density=float(likely[task]),
            )
        return sorted(known[task] for task in best)

    def latest(self, known: Sequence[int]) -> list[int]:
        """Return the latest of the tasks known."""
        return list(known)[-(self._scanned or len(known) or 1) :]

    def keep(self, state: State, experience: Experience, rows: int) -> None:
        """Keep the Gaussian of a task that has none yet."""
        if self._looked == "gaussian" and experience.task_id == len(state["inputs"]):
            state["inputs"].put(experience.task_id, self._gaussians.row(self._seen(experience, rows)))

    def _seen(self, experience: Experience, rows: int) -> Tensor:
        return inputs_seen(self._net, self._gaussians, experience.train.spread(rows).x).unsqueeze(0)


def ranking_log(recognised: bool, run: str | None, stream: Stream) -> LoggedTransfers | None:
    """Return what the run that ``strategy.sources_from`` names says of the tasks of a stream, None of no run.

    Raises:
        UsageError: if there is no such run, it is about other tasks, or inputs are to say which past tasks are looked at too.
    """
    if recognised and run is not None:
        raise UsageError(
            "strategy.sources_from: the log of a taxonomy says which past tasks are looked at, and so does "
            "strategy.sources = gaussian: leave one of them out"
        )
    return logged_transfers(run, stream, "strategy.sources_from")
