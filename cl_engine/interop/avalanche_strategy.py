"""Our strategies inside Avalanche: an object that trains and evaluates as its strategies do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.checkpoints import file as checkpoint
from cl_engine.core.state import check_state
from cl_engine.errors import UsageError, unknown
from cl_engine.events import EpochEnded, Event
from cl_engine.interop.answers import Answers, PresentAnswers
from cl_engine.interop.benchmark_stream import Avalanche
from cl_engine.interop.benchmarks import Part
from cl_engine.interop.foreign_plugins import check_experiences, check_plugin
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.online_stream import index_of, is_piece
from cl_engine.strategy import Strategy
from cl_engine.training.fit_observer import FitEnded, ObservedFit

with quietly():
    from avalanche.training.templates import SupervisedTemplate

CLOCK = ("train_iterations", "train_exp_counter", "total_iterations")
# what a data loader takes that changes nothing of what is learned; the others may be as our loop does it
LOADING = ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor", "verbose")
AS_OURS = {"shuffle": True, "drop_last": False}


class AvalancheStrategy(SupervisedTemplate):  # type: ignore[misc]
    """One of our strategies as Avalanche's: ``train(experience or stream)``, ``eval(stream)``, metrics, plug-ins.

    Plug-ins are called at Avalanche's own points, with ``mbatch``, ``mb_output`` and ``loss`` set: those of training in
    the labels of our stream, those of evaluation in the benchmark's. What ``optimizer`` has as learning rate, in relation
    to what it began with, is what every learning rate of the strategy is multiplied by; loss, gradients and batches are
    the strategy's own, and a plug-in that would change them is refused.

    >>> from cl_engine.interop.avalanche import as_avalanche, to_avalanche
    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> benchmark = to_avalanche(Experiment.of(small.scenario(), "finetune").stream())
    >>> strategy = as_avalanche("finetune", benchmark=benchmark, net={"name": "mlp", "hidden": [8]})
    >>> type(strategy).__name__
    'AvalancheStrategy'

    Attributes:
        strategy: our strategy; its ``state`` is all it has learned.
        stream: the benchmark as our stream.
    """

    def __init__(
        self, strategy: Strategy, stream: Avalanche, *, evaluator: Any, plugins: Sequence[Any] = (), **template: Any
    ) -> None:
        """Take a strategy with one seed and the stream it is to learn; `as_avalanche` makes both.

        Raises:
            UsageError: for a plug-in that has no effect here.
        """
        for plugin in plugins:
            check_plugin(plugin, None)
        self._present = PresentAnswers(strategy, stream)
        model = Answers(self._present, self._kinds)
        super().__init__(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=strategy.train.lr),
            train_mb_size=strategy.train.batch,
            train_epochs=strategy.train.epochs,
            device=strategy.net.device,
            plugins=list(plugins),
            evaluator=evaluator,
            **template,
        )
        self.strategy, self.stream = strategy, stream
        strategy.n_tasks = stream.n_tasks
        strategy.state = strategy.start()
        check_state(strategy.state, len(strategy.seeds), strategy.name())
        self._in_epoch = False
        self._first_rate = strategy.train.lr
        self._looked_at: tuple[Any, int] = (None, 0)  # an experience, and its task

    # Training

    def train(self, experiences: Any, eval_streams: Any = None, **more: Any) -> Any:
        """Train on an experience, or on one after the other, as Avalanche does, and return the last metrics.

        Raises:
            UsageError: for what is no experience, a plug-in that has no effect here, or an option of Avalanche's data loader
                that our loop lacks.
        """
        check_experiences("train", experiences)
        for plugin in self.plugins:
            check_plugin(plugin, self.optimizer)
        for name, value in more.items():
            if name not in (*LOADING, *AS_OURS):
                raise unknown("option of train", name, [*LOADING, *AS_OURS])
            if AS_OURS.get(name, value) != value:
                raise UsageError(
                    f"train({name}={value}): our strategies draw their own batches, as with {AS_OURS[name]}"
                )
        return super().train(experiences, eval_streams, **more)

    def eval(self, exp_list: Any, **more: Any) -> Any:
        """Evaluate on an experience, or on one after the other, as Avalanche does, and return the last metrics.

        Raises:
            UsageError: for what is no experience.
        """
        check_experiences("eval", exp_list)
        return super().eval(exp_list, **more)

    def make_train_dataloader(self, **more: Any) -> None:
        """Leave the rows to our own loop, which draws its batches itself."""
        self.dataloader: Any = []

    def check_model_and_optimizer(self, **more: Any) -> None:
        """Leave model and optimiser to our own loop."""

    def model_adaptation(self, model: nn.Module | None = None) -> nn.Module:
        """Return the model as it is: our strategies grow by themselves."""
        return self.model if model is None else model

    def _train_exp(self, experience: Any, eval_streams: Any = None, **more: Any) -> None:
        if self.dataloader:
            raise UsageError("a plug-in gave train a data loader of its own, and our strategies draw their own batches")
        self._stop_training = False
        learning = self._learning(experience)
        try:
            self.strategy.observer = self
            for event in learning:
                if isinstance(event, EpochEnded):
                    self._end_epoch(event.loss[0])
            if self._in_epoch:
                self._end_epoch(math.nan)
        except BaseException:
            self._in_epoch = False
            raise
        finally:
            self.strategy.observer, self._present.learning = None, None
        check_state(self.strategy.state, len(self.strategy.seeds), self.strategy.name())

    def _learning(self, experience: Any) -> Iterator[Event]:
        """Learn the experience; where a plug-in has asked to stop by the end of an epoch, the fit ends there."""
        # what it holds now, for scripts and plug-ins may put other rows in; a piece of an experience is numbered by
        # arrival, as its own number may start over with every experience
        part = Part(self.adapted_dataset)
        step = self.clock.train_exp_counter if is_piece(experience) else experience.logging().current_experience
        ours = self.stream.handed(part, index_of(experience), step)
        kind, arrived, self._task_label = ours.task_id, self._present.arrived, min(part.tasks)
        if kind not in arrived:
            arrived.append(kind)
        self._present.learning = kind
        events = self.strategy.learning(replace(ours, task_id=arrived.index(kind)))
        event = next(events, None)
        while event is not None:
            yield event
            ended = isinstance(event, EpochEnded) and self._stopped()
            try:
                event = events.throw(FitEnded()) if ended else next(events)
            except StopIteration:
                return

    def _stopped(self) -> bool:
        """Return whether a plug-in has asked to stop; asked once, it is told once."""
        asked, self._stop_training = self._stop_training, False
        return asked

    def _end_epoch(self, loss: float) -> None:
        self._begin_epoch()
        self.loss = torch.tensor(loss)
        self._in_epoch = False
        self._after_training_epoch()

    def _begin_epoch(self) -> None:
        if not self._in_epoch:
            self._in_epoch = True
            self._before_training_epoch()

    def fit_begins(self, fits: Sequence[ObservedFit]) -> None:
        """Let the model answer with what is being fitted, and its steps have the learning rate of ``optimizer``."""
        self._present.fits, self._present.count = fits, self._present.count + 1
        for optimizer in (optimizer for fit in fits for optimizer in fit.optimizers):
            optimizer.register_step_pre_hook(self._scale_rates)
            optimizer.register_step_post_hook(self._restore_rates)

    def fit_ends(self) -> None:
        """Let the model answer with what was learned."""
        self._present.fits = ()

    def batch_begins(self, x: Tensor, y: Tensor) -> None:
        """Call Avalanche's points before the forward pass; end the fit where a plug-in has asked to stop."""
        if self._in_epoch and self._stopped():
            self._end_epoch(float(self.loss))
            raise FitEnded
        self._begin_epoch()
        if self._stopped():  # before the epoch's first batch
            self._in_epoch = False
            raise FitEnded
        self.mbatch = [x, y, torch.full_like(y, self._task_label)]
        self._before_training_iteration()
        if self._stopped():
            self._end_epoch(float(self.loss))
            raise FitEnded
        self._before_forward()

    def batch_answered(self, logits: Tensor, loss: Tensor) -> None:
        """Call its points around the loss."""
        self.mb_output, self.loss = logits, loss
        version = loss._version
        self._after_forward()
        self._before_backward()
        if self.loss is not loss or loss._version != version:
            raise UsageError("a plug-in changed the loss, and our strategies learn by their own")

    def gradients_known(self) -> None:
        """Call its points before the step."""
        self._after_backward()
        self._before_update()

    def batch_ends(self) -> None:
        """Call its points after the step."""
        self.optimizer.step()  # of nothing: schedules of the learning rate want to see one
        self._after_update()
        self._after_training_iteration()

    def _scale_rates(self, optimizer: torch.optim.Optimizer, *more: Any) -> None:
        factor = self.optimizer.param_groups[0]["lr"] / self._first_rate
        self._rates = [group["lr"] for group in optimizer.param_groups]
        if factor != 1:
            for group in optimizer.param_groups:
                group["lr"] *= factor

    def _restore_rates(self, optimizer: torch.optim.Optimizer, *more: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate

    # Answering

    def forward(self) -> Tensor:
        """Return the answers ``[N, classes of the benchmark]`` to the rows at hand."""
        return self.model(self.mb_x)  # type: ignore[no-any-return]

    def _kinds(self, rows: int) -> Tensor:
        """Return the benchmark's task of each row at hand."""
        if self.stream.label_kinds and self.mbatch is not None:
            labels = [int(label) for label in self.mbatch[-1]]
            unknown_labels = set(labels) - self.stream.label_kinds.keys()
            if unknown_labels:
                raise UsageError(
                    f"the task label {min(unknown_labels)} is none of the benchmark this learner was made for"
                )
            return torch.tensor([self.stream.label_kinds[label] for label in labels])
        if self.experience is None:
            return torch.zeros(rows, dtype=torch.int64)
        if self._looked_at[0] is not self.experience:
            kind = self.stream.kind_of(Part(self.experience.dataset), index_of(self.experience))
            self._looked_at = (self.experience, kind)
        return torch.full((rows,), self._looked_at[1])

    # Saving

    def save(self, path: str | Path) -> int:
        """Write what was learned, and how far training is, to ``path``; return the bytes written.

        The file holds tensors and numbers only (safetensors). Metrics and plug-ins are not in it.
        """
        clock = {name: getattr(self.clock, name) for name in CLOCK}
        return checkpoint.save(
            Path(path), {"strategy": self.strategy.state, "arrived": self._present.arrived, "clock": clock}
        )

    def load(self, path: str | Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            UsageError: if the file is damaged or is none of these.
        """
        found = checkpoint.load(Path(path), self.strategy.net.device)
        if not {"strategy", "arrived", "clock"} <= found.keys():
            raise UsageError(f"{path} holds no learner that was saved from Avalanche")
        self.strategy.state, self._present.arrived = found["strategy"], list(found["arrived"])
        for name in CLOCK:
            setattr(self.clock, name, found["clock"][name])
