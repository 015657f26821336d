"""Our strategies inside Avalanche: an object that trains and evaluates as its strategies do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.checkpoints import file as checkpoint
from cl_engine.core.state import check_state
from cl_engine.data.stream import Experience
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import EpochEnded
from cl_engine.interop.answers import Answers
from cl_engine.interop.benchmark_stream import Avalanche, from_avalanche
from cl_engine.interop.lazy_import import quietly
from cl_engine.nn.net import Net
from cl_engine.options import checked
from cl_engine.runs import plugins
from cl_engine.strategy import Strategy
from cl_engine.training.optimizers import Train

with quietly():
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.plugins.evaluation import default_evaluator
    from avalanche.training.templates import SupervisedTemplate

IMPOSSIBLE = -1e9  # the logit of a class that is none of the task's
CLOCK = ("train_iterations", "train_exp_counter", "total_iterations")


class AvalancheStrategy(SupervisedTemplate):  # type: ignore[misc]
    """One of our strategies as Avalanche's: ``train(experience or stream)``, ``eval(stream)``, metrics, plug-ins.

    Plug-ins are called at Avalanche's own points, with ``mbatch``, ``mb_output`` and ``loss`` set: those of training in
    the labels of our stream, those of evaluation in the benchmark's. Weights, optimiser and gradients are the strategy's
    own: a plug-in that would change them has nothing to change here.

    >>> from cl_engine.interop.avalanche import to_avalanche
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
        """Take a strategy with one seed and the stream it is to learn; `as_avalanche` makes both."""
        model = Answers(self._of_experience)
        super().__init__(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
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
        self._arrived: list[int] = []
        self._in_epoch = False

    # Training

    def make_train_dataloader(self, **more: Any) -> None:
        """Leave the rows to our own loop, which draws its batches itself."""
        self.dataloader: Any = []

    def check_model_and_optimizer(self, **more: Any) -> None:
        """Leave model and optimiser to our own loop."""

    def model_adaptation(self, model: nn.Module | None = None) -> nn.Module:
        """Return the model as it is: our strategies grow by themselves."""
        return self.model if model is None else model

    def _train_exp(self, experience: Any, eval_streams: Any = None, **more: Any) -> None:
        ours = self._ours(experience)
        try:
            self.strategy.observer = self
            for event in self.strategy.learning(ours):
                if self._stop_training:
                    raise RunFailed("a plug-in asked to stop training: our strategies learn an experience whole")
                if isinstance(event, EpochEnded):
                    self._end_epoch(event.loss[0])
            if self._in_epoch:
                self._end_epoch(math.nan)
        except BaseException:
            self._in_epoch = False
            raise
        finally:
            self.strategy.observer = None
        check_state(self.strategy.state, len(self.strategy.seeds), self.strategy.name())

    def _end_epoch(self, loss: float) -> None:
        self._begin_epoch()
        self.loss = torch.tensor(loss)
        self._in_epoch = False
        self._after_training_epoch()

    def _begin_epoch(self) -> None:
        if not self._in_epoch:
            self._in_epoch = True
            self._before_training_epoch()

    def batch_begins(self, x: Tensor, y: Tensor) -> None:
        """Call Avalanche's points before the forward pass."""
        self._begin_epoch()
        self.mbatch = [x, y, torch.full_like(y, self._task_label)]
        self._before_training_iteration()
        self._before_forward()

    def batch_answered(self, logits: Tensor, loss: Tensor) -> None:
        """Call its points around the loss."""
        self.mb_output, self.loss = logits, loss
        self._after_forward()
        self._before_backward()

    def gradients_known(self) -> None:
        """Call its points before the step."""
        self._after_backward()
        self._before_update()

    def batch_ends(self) -> None:
        """Call its points after the step."""
        self._after_update()
        self._after_training_iteration()

    def _ours(self, experience: Any) -> Experience:
        """Return an experience of the benchmark as ours, its task numbered by arrival here."""
        index = experience.logging().current_experience
        parts = self.stream.parts
        if not 0 <= index < len(parts) or len(parts[index].labels) != len(experience.dataset):
            raise UsageError(f"experience {index} is not one of the benchmark this learner was made for")
        found = self.stream[index]
        kind = self.stream.kinds[found.task_id]
        if kind not in self._arrived:
            self._arrived.append(kind)
        self._task_label = min(parts[index].tasks)
        return Experience(
            step=found.step,
            task_id=self._arrived.index(kind),
            train=found.train,
            validation=found.validation,
            classes=found.classes,
            rng_key=found.rng_key,
        )

    # Answering

    def forward(self) -> Tensor:
        """Return the answers ``[N, classes of the benchmark]`` to the rows at hand."""
        return self._of_experience(self.mb_x)

    @torch.no_grad()
    def _of_experience(self, x: Tensor) -> Tensor:
        kinds = self._kinds(len(x))
        width = 1 + max(c for own in self.stream.classes for c in own)
        out = torch.full((len(x), width), IMPOSSIBLE, device=x.device)
        for kind in set(kinds.tolist()):
            rows = (kinds == kind).nonzero().flatten().to(x.device)
            logits = self.strategy.predict(x[rows].to(torch.float32), self._told(kind))[0]
            labels = self.stream.labels[kind]
            theirs = torch.tensor(list(labels), device=x.device)
            out[rows.unsqueeze(1), theirs] = logits[:, list(labels.values())]
        return out

    def _kinds(self, rows: int) -> Tensor:
        """Return the benchmark's task of each row at hand."""
        experience = self.experience.logging() if self.experience is not None else None
        if self.stream.setting == "task" and self.mbatch is not None and len(self.mbatch) > 2 and self._label_kinds:
            return torch.tensor([self._label_kinds.get(int(label), 0) for label in self.mbatch[-1]])
        index = 0 if experience is None else experience.current_experience
        return torch.full((rows,), index if index < self.stream.n_tasks else 0)  # type: ignore[operator]

    @property
    def _label_kinds(self) -> dict[int, int]:
        found = {min(self.stream.parts[own[0]].tasks): kind for kind, own in enumerate(self.stream.members)}
        return found if len(found) == len(self.stream.members) else {}

    def _told(self, kind: int) -> int | None:
        if self.stream.setting != "task":
            return None
        unmet = [k for k in self.stream.kinds if k not in self._arrived]
        return [*self._arrived, *unmet].index(kind)

    # Saving

    def save(self, path: str | Path) -> int:
        """Write what was learned, and how far training is, to ``path``; return the bytes written.

        The file holds tensors and numbers only (safetensors). Metrics and plug-ins are not in it.
        """
        clock = {name: getattr(self.clock, name) for name in CLOCK}
        return checkpoint.save(Path(path), {"strategy": self.strategy.state, "arrived": self._arrived, "clock": clock})

    def load(self, path: str | Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            UsageError: if the file is damaged or is none of these.
        """
        found = checkpoint.load(Path(path), self.strategy.net.device)
        if not {"strategy", "arrived", "clock"} <= found.keys():
            raise UsageError(f"{path} holds no learner that was saved from Avalanche")
        self.strategy.state, self._arrived = found["strategy"], list(found["arrived"])
        for name in CLOCK:
            setattr(self.clock, name, found["clock"][name])


def as_avalanche(
    strategy: str | Strategy,
    *,
    benchmark: Any,
    net: Mapping[str, Any] | Callable[[], nn.Module] | None = None,
    train: Mapping[str, Any] | None = None,
    evaluator: EvaluationPlugin | Callable[[], EvaluationPlugin] | None = default_evaluator,
    plugins: Sequence[Any] = (),
    seed: int = 0,
    device: torch.device | str = "cpu",
    eval_mb_size: int = 512,
    eval_every: int = -1,
    stream: Mapping[str, Any] | None = None,
    **options: Any,
) -> AvalancheStrategy:
    """Return one of our strategies as an Avalanche strategy: ``train(experience)``, ``eval(stream)``.

    Args:
        strategy: a name of ``list strategies``, ``module:Class``, or a strategy with one seed, which brings its net.
        benchmark: the Avalanche benchmark it is to learn.
        net: the table ``[net]`` of a scenario, ``{"name": "mlp", "hidden": [64]}``, or what builds a module.
        train: the table ``[train]``, ``{"epochs": 1, "lr": 0.05}``.
        evaluator: Avalanche's, with metrics and loggers.
        plugins: Avalanche's plug-ins.
        seed: what all randomness is derived from.
        device: where it computes.
        eval_mb_size: rows a batch in evaluation.
        eval_every: how often Avalanche evaluates while training: as in its own strategies.
        stream: options of the benchmark as our stream, ``{"random_transforms": "eval"}``.
        options: those of the strategy.

    Raises:
        UsageError: for whatever is unknown or does not fit.
    """
    found = from_avalanche(benchmark, device, **(stream or {}))
    if found.setting == "class" and found.outputs != len(set().union(*found.classes)):
        raise UsageError("stream.setting: the classes of all experiences have the same names; use 'task' or 'domain'")
    if isinstance(strategy, str):
        if net is None:
            raise UsageError(
                "net is missing: give a table, as {'name': 'mlp', 'hidden': [64]}, or what builds a module"
            )
        strategy = _made(strategy, found, net, checked(Train, train or {}, "train"), seed, options)
    elif net is not None or train is not None or options:
        raise UsageError("a strategy that is given whole brings its net, its training and its options")
    if len(strategy.seeds) != 1:
        raise UsageError(f"inside Avalanche a strategy has one seed, found {strategy.seeds}")
    with quietly():
        return AvalancheStrategy(
            strategy, found, evaluator=evaluator, plugins=plugins, eval_mb_size=eval_mb_size, eval_every=eval_every
        )


def _made(name: str, stream: Avalanche, net: Any, train: Train, seed: int, options: dict[str, Any]) -> Strategy:
    build = net
    if isinstance(net, Mapping):
        table = dict(net)
        if "name" not in table:
            raise UsageError("net.name is missing: give a table, as {'name': 'mlp', 'hidden': [64]}")
        build = plugins.net_builder(table.pop("name"), table, stream.input_shape, stream.outputs)
    kind = plugins.load("strategies", name)
    ours = Net(build, stream.input_shape, pad_value=stream.pad_value, device=stream.device)
    shown = train.shown(stream.augmentation)
    made: Strategy = kind(ours, seeds=(seed,), setting=stream.setting, train=shown, **options)
    return made
