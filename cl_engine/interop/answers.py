"""What one of our strategies answers at this moment, also in the middle of a fit, and the model that shows it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.core.state import State
from cl_engine.core.tree import leaves_with_path
from cl_engine.data.stream import Data
from cl_engine.errors import UsageError
from cl_engine.interop.benchmark_stream import Avalanche
from cl_engine.strategy import Strategy
from cl_engine.training.fit_observer import ObservedFit

IMPOSSIBLE = -1e9  # the logit of a class that is none of the task's


class PresentAnswers:
    """Answers of a strategy with one seed as it is now, in the benchmark's labels; while a fit runs, those of its weights.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.interop.avalanche import from_avalanche, to_avalanche
    >>> from cl_engine.testing import small
    >>> experiment = Experiment.of(small.scenario(), "finetune")
    >>> strategy = experiment.build_strategy(experiment.stream())
    >>> strategy.state = strategy.start()
    >>> answers = PresentAnswers(strategy, from_avalanche(to_avalanche(experiment.stream())))
    >>> x = experiment.stream().test(0).x[:3]
    >>> answers(x, torch.tensor([0, 0, 1])).shape
    torch.Size([3, 10])

    Attributes:
        arrived: the benchmark's tasks that were learned, or are being learned, in the order in which they came.
        learning: the task that is being learned; None: none is.
        fits: the fits under way, one, or one for each candidate that is trained beside the others.
        count: how many fits there were.
    """

    def __init__(self, strategy: Strategy, stream: Avalanche) -> None:
        """Take the strategy, its state as it begins, and the benchmark as our stream."""
        self.strategy, self.stream = strategy, stream
        self.arrived: list[int] = []
        self.learning: int | None = None
        self.fits: Sequence[ObservedFit] = ()
        self.count = 0
        self._width = 1 + max(c for own in stream.classes for c in own)

    @torch.no_grad()
    def __call__(self, x: Tensor, kinds: Tensor) -> Tensor:
        """Return logits ``[N, classes of the benchmark]`` of rows of these tasks ``[N]``, as the benchmark numbers tasks."""
        out = torch.full((len(x), self._width), IMPOSSIBLE, device=x.device)
        for kind in set(kinds.tolist()):
            rows = (kinds == kind).nonzero().flatten().to(x.device)
            labels = self.stream.labels[kind]
            theirs = torch.tensor(list(labels), device=x.device)
            out[rows.unsqueeze(1), theirs] = self._logits(x[rows].to(torch.float32), kind)[:, list(labels.values())]
        return out

    def _logits(self, x: Tensor, kind: int) -> Tensor:
        told, found = self.told(kind), None
        moved = Data(x, torch.arange(len(x), device=x.device)).shuffled(
            self.stream.seed
        )  # loaders bring rows class by class
        if self.fits and kind == self.learning:
            found = self.fits[0].logits(moved.x)
        elif self.fits:
            found = self.strategy.predict_midway(self.fits[0].whole(), moved.x, told)
        found = (self.strategy.predict(moved.x, told) if found is None else found)[0]
        logits = torch.empty_like(found)
        logits[moved.y] = found
        return logits

    def told(self, kind: int) -> int | None:
        """Return the number under which the strategy knows a task; None: it is not told."""
        if self.stream.setting != "task":
            return None
        unmet = [k for k in self.stream.kinds if k not in self.arrived]
        return [*self.arrived, *unmet].index(kind)

    def weights(self) -> State:
        """Return what the answers come from: the state, or what is being fitted; as they are, not copied."""
        if not self.fits:
            return {"state": self.strategy.state}
        return {"fit": self.count, "params": [fit.params for fit in self.fits]}

    def put(self, weights: State) -> None:
        """Go back to what `weights` returned; what was kept of a fit that is over has no place to go back to."""
        if not self.fits and "state" in weights:
            self.strategy.state = copy.deepcopy(weights["state"])
        elif self.fits and weights.get("fit") == self.count:
            for fit, params in zip(self.fits, weights["params"], strict=True):
                kept = dict(leaves_with_path(params))
                with torch.no_grad():
                    for path, leaf in leaves_with_path(fit.params):
                        leaf.copy_(kept[path])

    def frozen(self) -> PresentAnswers:
        """Return a twin that goes on answering as this one does now.

        Raises:
            UsageError: in the middle of a fit.
        """
        if self.fits:
            raise UsageError(
                "the model of one of our strategies can be copied between experiences, not in the middle of one"
            )
        twin = copy.copy(self)
        twin.strategy, twin.arrived = copy.copy(self.strategy), list(self.arrived)
        twin.strategy.state = copy.deepcopy(self.strategy.state)
        return twin


class Answers(nn.Module):
    """A model that gives the present answers, for Avalanche's plug-ins to look at; its one parameter means nothing.

    What was learned is in its ``state_dict()``, and goes back by ``load_state_dict``. A deep copy answers on as it did
    when it was made; one that was pickled holds what was learned, and answers no more.

    >>> Answers(None, lambda rows: torch.zeros(rows)).unused.shape
    torch.Size([1])
    """

    def __init__(self, present: PresentAnswers | None, kinds: Callable[[int], Tensor]) -> None:
        """Take the answers, and what says the tasks ``[N]`` of so many rows at hand."""
        super().__init__()
        self._held = (present, kinds)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, C]``."""
        return self._present(x, self._held[1](len(x)))

    @property
    def _present(self) -> PresentAnswers:
        if self._held[0] is None:
            raise UsageError("a pickled model of one of our strategies holds what was learned, and does not answer")
        return self._held[0]

    def get_extra_state(self) -> State:
        """Return what was learned, for ``state_dict()``."""
        return self._present.weights()

    def set_extra_state(self, state: State) -> None:
        """Go back to what ``state_dict()`` held."""
        self._present.put(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Answers:
        return FrozenAnswers(self._present.frozen(), self._held[1])


class FrozenAnswers(Answers):
    """A copy of the model that answers on as it did when it was made.

    >>> issubclass(FrozenAnswers, nn.Module)
    True
    """

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": (None, None), "learned": self._present.strategy.state}
