"""Align: a net learned on labelled rows is adapted to rows without labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.modules.alignment import Alignment, AlignmentLoss, renamed, some
from cl_engine.modules.unlabelled import Adapted, entropy, normalised, statistics_of
from cl_engine.nn.net import Params
from cl_engine.nn.target import Target
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import FitOptions, Rows, RowsBeside
from cl_engine.training.rehearsal import keep_rows

MEAN = "mean."  # before names of sums of weights, so that these are not taken for those of the net


class Align(Strategy):
    """Align: one net for all domains, learned on labelled rows and adapted to unlabelled ones (Koga et al. 2021).

    Labelled rows are learned as they come, and kept. Where rows come without labels (``stream.unlabelled``), ``method`` says how
    the net is adapted to them: ``judges`` learn to tell source from target by features or predictions, while the net learns
    that they cannot, and the source's labels; a mean ``teacher`` gives labels where it is sure; ``shot`` makes answers
    sure and diverse under a frozen head, without the source (Liang, Hu & Feng 2020); ``statistics`` takes the target's for batch
    normalisation (Li et al. 2016); ``none`` does nothing. Judge and net take their steps at once, where the release alternates.

    Nothing is chosen by labels of the target: what is kept is the mean of the weights at the ends of the last epochs. Net and
    head are the same for all tasks, told or not; so what the source loses is seen in R.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("align_digits", "align", **{"align": ["predictions"]})
    >>> experiment.resolved["strategy"]["method"]
    'judges'
    """

    settings = ("task", "domain")
    needs_labels = False
    partly_labelled = True
    rowwise = True

    how: Alignment
    source_rows: int | None = option(
        None,
        "labelled rows kept of each experience and counted, none of which shot, statistics and none read; left out: all for "
        "judges and teacher, else none",
        ge=0,
    )
    adapt_epochs: int | None = option(None, "epochs over rows without labels; left out: train.epochs", ge=1)
    adapt_lr: float | None = option(None, "learning rate of the net on rows without labels; left out: train.lr", gt=0)
    last: int = option(5, "last epochs of an adaptation whose mean weights are kept", ge=1)

    def start(self) -> State:
        return {"net": self.net.init(self.seeds)}

    def check_targets(self, targets: Sequence[Target]) -> None:
        self.how.check(targets)

    def check_stream(self, stream: Stream) -> None:
        if stream.withheld(stream.task_id(0)) == 1:
            raise UsageError(
                f"stream.unlabelled: task {stream.task_id(0)} comes first, and align adapts what labelled rows have taught: "
                "let a labelled task come first"
            )
        unlabelled = bool(stream.unlabelled) or stream.unlabelled_share is not None
        if unlabelled and self.how.method == "judges" and self._kept_rows == 0:
            raise UsageError(
                "strategy.source_rows: found 0, and judges hold rows of the source against those of the target: keep some, or "
                "use method = 'shot', 'teacher' or 'statistics', which do without"
            )
        if unlabelled and self.how.method == "statistics" and not normalised(self.net):
            raise UsageError(
                "strategy.method: 'statistics' are those of batch normalisation, and the net has none: use net.norm = 'batch' "
                "where it has this option, or another method"
            )

    def learn(self, experience: Experience) -> Learning:
        if experience.labelled:
            kept = self.state.get("source")
            again: Rows | None = None if kept is None else (self._spread(kept["x"]), self._spread(kept["y"]))
            fitted = yield from self.fit({"net": self.state["net"]}, self.loss, experience, rehearsal=again)
            self.state["net"] = fitted["net"]
            if self._kept_rows != 0:
                most = len(experience.train) if self._kept_rows is None else self._kept_rows
                keep_rows(self.state, "source", experience.train.spread(most), experience.task_id)
        rows = experience.unlabelled if experience.labelled else experience.train
        if rows is not None and len(rows) and self.how.method != "none":
            before = self._uncertainty(rows.x)
            yield from self._adapt(experience, rows)
            if before:
                told = {"before": before, "after": self._uncertainty(rows.x)}
                yield Adapted(step=experience.step, task_id=experience.task_id, **told)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self.net.one({**(frozen or {}), **self._loss.answering(params)}, x)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.state["net"], x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all({**self.state["net"], **self._loss.answering(params)}, x)

    @property
    def _loss(self) -> AlignmentLoss:
        return AlignmentLoss(self.net, self.target, self.how)

    @property
    def _kept_rows(self) -> int | None:
        """Return how many labelled rows of an experience are kept; None: all."""
        if self.source_rows is None and self.how.method not in ("judges", "teacher"):
            return 0
        return self.source_rows

    def _spread(self, rows: Tensor) -> Tensor:
        """Return rows ``[1, M, …]`` that all seeds share as each has them."""
        return rows.expand(len(self.seeds), *rows.shape[1:])

    def _adapt(self, experience: Experience, rows: Data) -> Learning:
        """Adapt the net to rows without labels."""
        held: Params = self.state["net"]
        if self.how.method == "statistics":
            self.state["net"] = statistics_of(self.net, held, rows.x, self.train.batch, self.seeds, experience.key)
            return
        loss, source = self._loss, None if self.how.method == "shot" else self.state.get("source")
        params, frozen = loss.start(held, rows.x, self.seeds, experience.key)
        epochs = self.adapt_epochs or self.train.epochs
        last = min(self.last, epochs)
        if last > 1:
            sums = renamed(self.net, loss.answering(params), MEAN)
            params["mean"] = {name: torch.zeros_like(leaf) for name, leaf in sums.items()}
        train = self.train.model_copy(update={"epochs": epochs, "lr": self.adapt_lr or self.train.lr})
        options: FitOptions = {
            "rows": (rows.x, rows.y),
            "frozen": frozen,
            "train": train,
            "overrides": {part: loss.train_of(part, train) for part in params if part != "net"},
            "loss_inputs": partial(self._progress, epochs),
            "each_epoch": partial(self._summed, epochs - last),
        }
        if source is not None:
            kept = (self._spread(source["x"]), self._spread(source["y"]))
            options["beside"] = [RowsBeside(kept, None, min(self.train.batch, len(rows)))]
        trained = yield from self.fit(params, loss, experience, **options)
        found = loss.answering(trained)
        for name, total in trained.get("mean", {}).items():
            found[name.removeprefix(MEAN)] = (total + found[name.removeprefix(MEAN)]) / last
        self.state["net"] = {**held, **found}
        if source is not None:
            yield from loss.scored(experience, trained, rows.x, source["x"][0])

    def _progress(self, epochs: int, epoch: int, batch: int, batches: int) -> Sequence[float]:
        return ((epoch + batch / batches) / epochs,)

    def _summed(self, first: int, epoch: int, params: Tree, frozen: Tree | None) -> Tree:
        """Return the sums of the weights at the ends of the last epochs, ``first`` being the first of them, so far."""
        if "mean" not in params or epoch <= first:
            return {}
        now = renamed(self.net, self._loss.answering(params), MEAN)
        return {"mean": {name: held + now[name] for name, held in params["mean"].items()}}

    def _uncertainty(self, x: Tensor) -> tuple[float, ...]:
        """Return the mean entropy of every seed's answers to some rows; nothing where there are no kinds of answers."""
        found = [self.target.chances(outputs) for outputs in self.net.all(self.state["net"], some(x))]
        return tuple(float(entropy(chances).mean()) for chances in found if chances is not None)
