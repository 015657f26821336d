"""Cognitive loop: nets by environment, replaced only by what does better on rows that can be trusted."""

from __future__ import annotations

from collections.abc import Generator
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.modules.environments import (
    NONE,
    CandidateJudged,
    Description,
    EnvironmentMatched,
    NetLibrary,
    NetReplaced,
)
from cl_engine.nn.target import quality
from cl_engine.options import option
from cl_engine.signals.statistics import LAG, STATISTICS, signal_statistics
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.candidate_fit import BestFit, CandidateFit, fit_candidates, points_of
from cl_engine.training.early_stopping import where_seeds

Candidate = Literal["keep", "tune", "new", "shared"]


class CognitiveLoop(Strategy):
    """Cognitive loop: environments are recognised, and "good money drives out bad" (an interpretation of Wu et al. 2021).

    A library holds a net for each environment met, with a description of its inputs. What arrives is described and matched: near
    an entry, or new. Candidates are the entry's net as it is (``keep``) or fitted (``tune``), a ``new`` net, and the net that all
    environments share (``shared``), as it is and fitted. Validation rows, which are to be right where training rows may not
    be, decide: the best candidate becomes the entry of a new environment, or takes the place of one that it beats. The shared net
    gives way to itself fitted where that is better. Where the task is told, its entry is its own; else a batch of rows is
    answered by the entry that it is nearest to, so that rows must be of one environment. The equations of the paper were
    not at hand.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("radio_loop", "cognitive_loop", **{"library": 2})
    >>> experiment.resolved["strategy"]["descriptor"]
    'signal'
    """

    settings = ("task", "domain")
    needs_validation = True

    descriptor: Literal["statistics", "signal"] = option(
        "statistics",
        "what inputs are described by: features of the net that all start from, or numbers of radio signals",
    )
    near: float = option(0.1, "greatest distance of an environment that is met again, in deviations of rows", ge=0)
    candidates: list[Candidate] = option(
        ["keep", "tune", "new", "shared"], "nets that are tried for an experience", min_length=1
    )
    margin: float = option(0.0, "how much better on validation rows a net must be to replace another", ge=0)
    library: int = option(16, "environments that are held at most; the least used one gives way", ge=1)

    def start(self) -> State:
        first = self.net.init(self.seeds)
        numbers = STATISTICS if self.descriptor == "signal" else 2 * self.net.width
        return {"first": first, "shared": first, **self._library.start(first, numbers, without=self.net.frozen)}

    def check_stream(self, stream: Stream) -> None:
        shape = list(stream.input_shape)
        if self.descriptor == "signal" and (len(shape) != 2 or shape[0] != 2 or shape[1] <= LAG):
            raise UsageError(
                f"strategy.descriptor: 'signal' describes inputs of shape [2, samples], of more than {LAG} samples, and the "
                f"stream's are {shape}: use statistics"
            )
        if not {"new", "shared"} & {*self.candidates}:
            raise UsageError(
                f"strategy.candidates: found {self.candidates}, and a new environment has no net yet: add new or shared"
            )

    def learn(self, experience: Experience) -> Learning:
        step, task, state, library = experience.step, experience.task_id, self.state, self._library
        told = self.setting == "task"
        rows = self._described(experience.train.x)
        entry, distance = library.nearest(state, rows, task if told else None)
        near = (entry != NONE) if told else (distance <= self.near)
        yield EnvironmentMatched(
            step=step,
            task_id=task,
            entry=tuple(entry.tolist()),
            distance=tuple(distance.tolist()),
            near=tuple(near.int().tolist()),
        )
        best, kept = yield from self._judged(experience, entry, near)
        replaced = near & (best.accuracy > kept + self.margin)
        place = torch.where(near, entry, library.free(state))
        library.put(state, torch.where(near, NONE, place), rows, best.params, task)
        library.replace(state, torch.where(replaced, entry, NONE), best.params)
        library.use(state, place)
        if bool(near.any()):
            yield NetReplaced(
                step=step,
                task_id=task,
                entry=tuple(torch.where(replaced, entry, NONE).tolist()),
                before=tuple(kept.tolist()),
                after=tuple(torch.where(replaced, best.accuracy, kept).tolist()),
            )

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        entry, _ = self._library.nearest(self.state, self._described(x), task_id)
        return self.net.all(self._library.nets(self.state, entry, self.state["shared"]), x)

    def fingerprint(self, task_id: int | None) -> int | None:
        own = (self.state["used"].rows > 0) & (self.state["tasks"].rows == task_id)
        if task_id is not None and not bool(own.any(dim=1).all()):
            return None  # some seed answers with the shared net
        written: Bank = next(iter(self.state["nets"].values()))
        return int(written.written.sum())

    @cached_property
    def _library(self) -> NetLibrary:
        return NetLibrary(self.library)

    def _described(self, x: Tensor) -> Description:
        if self.descriptor == "signal":
            return Description.of(signal_statistics(x).expand(len(self.seeds), -1, -1))
        features = self.net.all_features(self.state["first"], x)
        features = features.flatten(3).mean(dim=3) if features.ndim > 3 else features
        apart = (features - features.mean(dim=1, keepdim=True)).abs()
        return Description.of(torch.cat([features, apart], dim=2))

    def _judged(
        self, experience: Experience, entry: Tensor, near: Tensor
    ) -> Generator[Event, None, tuple[BestFit, Tensor]]:
        """Return the best candidate of each seed, and what its stored net reaches ``[S]``; −∞ of one that has none near."""
        shared, rows = self.state["shared"], experience.validation
        stored = self._library.nets(self.state, torch.where(near, entry, NONE), shared)
        ways = (  # a candidate by its name in events and as an option, what it starts from, and whether it is fitted
            ("keep", "keep", stored, False),
            ("shared", "shared", shared, False),
            ("tune", "tune", stored, True),
            ("new", "new", self.state["first"], True),
            ("shared tuned", "shared", shared, True),
        )
        best, scores = BestFit(len(self.seeds), self.net.device), dict[str, Tensor]()
        none = torch.full_like(best.accuracy, -torch.inf)
        per_epoch = self.train.batches(len(experience.train))
        for part, name, start, fitted in ways:
            of_stored, tried = name in ("keep", "tune"), name in self.candidates
            if not (tried or name == "keep") or (of_stored and not bool(near.any())):
                continue
            if part == "shared" and not len(self.state["used"]):  # nothing has trained it yet
                continue
            outcome = CandidateFit(start)
            if fitted:  # all see the rows in the same order
                fitting = self.fit(start, self.loss, experience, curve=self.curve, shuffle_group=0)
                outcome = yield from fit_candidates(fitting, 1)
            score = quality(self.target, self.net.all(outcome.params, rows.x), rows.y)
            scores[part] = score.where(near, -torch.inf) if of_stored else score
            if not tried:  # the stored net as it is: it is what others must be better than
                continue
            points = points_of(self.curve, per_epoch, self.train.epochs, outcome.moments, outcome.params)
            best.offer(outcome.params, scores[part], points)
            yield CandidateJudged(
                step=experience.step,
                task_id=experience.task_id,
                part=part,
                validation=tuple(scores[part].tolist()),
            )
            if part == "shared tuned":
                replaced = score > scores.get("shared", none) + self.margin
                self.state["shared"] = {
                    name: where_seeds(replaced, tensor, shared[name]) for name, tensor in outcome.params.items()
                }
        yield from best.curve(experience.step, per_epoch, self.net.all)
        return best, scores.get("keep", none)
