"""Avalanche's strategies as strategies of this engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cl_engine.core.rng import derive
from cl_engine.core.state import State
from cl_engine.data.stream import Experience, Setting
from cl_engine.errors import RunFailed, UsageError, is_out_of_memory
from cl_engine.events import EpochEnded, Progress
from cl_engine.interop.arrivals_met import benchmark_of, classes_of, counted
from cl_engine.interop.open_options import opened
from cl_engine.interop.recipe import NEEDS_NO_TASK, WITH_MASKS, Heads, Recipe
from cl_engine.nn.net import Net
from cl_engine.nn.target import Target
from cl_engine.nn.task_module import TaskModule, WholeStrategy
from cl_engine.options import checked, option
from cl_engine.runs.signals import Stopped
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import other_than_classes
from cl_engine.training.fit_job import TrainingProbe
from cl_engine.training.optimizers import Train

MET = "met"  # the part of the state that tells of the arrivals so far


class AvalancheAdapter(Strategy):
    """A strategy of Avalanche, with model, optimiser and criterion made from the scenario.

    What its constructor takes stands beside these options: ``--set ewc_lambda=0.4``. Between experiences all it holds is
    in ``state``, taken apart into tensors; learning and predicting start from there, so that a run taken up again goes on
    as it would have.

    >>> named("EWC").__name__
    'EWC'
    """

    avalanche_class: ClassVar[str] = ""
    needs_boundaries = False

    heads: Literal["auto", "one", "per task"] = option(
        "auto", "one head for all tasks, or one for each; auto: one for each where the task is told"
    )
    plugins: list[str] = option([], "plug-ins of Avalanche's to add: module:Class, made without arguments")

    def __init__(
        self,
        net: Net,
        *,
        seeds: Sequence[int] = (0,),
        setting: Setting = "task",
        train: Train | None = None,
        **options: Any,
    ) -> None:
        """Set the strategy up, without a state; all that can be refused is refused here.

        Raises:
            UsageError: for a class, an option or a plug-in that does not exist, or a setting that does not fit.
        """
        self.arguments: dict[str, Any] = {}
        super().__init__(net, seeds=seeds, setting=setting, train=train, **options)
        if not self.avalanche_class:
            raise UsageError("which of Avalanche's strategies? Say avalanche:EWC, avalanche:Replay, …")
        several = setting == "task" and self.avalanche_class not in WITH_MASKS | NEEDS_NO_TASK
        heads: Heads = ("per task" if several else "one") if self.heads == "auto" else self.heads
        self.recipe = Recipe(self.avalanche_class, self.arguments, net, self.train, setting, heads, self.plugins)
        self.recipe.check()
        # strategies restored for predicting, and those that learned last, with the state that each belongs to
        self._twins: list[Any] = []
        self._living: list[Any] = []
        self._twins_of: State | None = None
        self._living_of: State | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.Options = opened(cls.Options)

    @classmethod
    def name(cls) -> str:
        """Return the name on the command line."""
        return f"avalanche:{cls.avalanche_class}"

    def configure(self, options: Mapping[str, Any], where: str = "") -> None:
        """Check and set our options; what is left over becomes ``arguments`` of Avalanche's class."""
        found = checked(self.Options, options, where)
        self.arguments = dict(found.model_extra or {})
        for name in self.Options.model_fields:
            setattr(self, name, getattr(found, name))

    def options(self) -> dict[str, Any]:
        """Return our options in force, and the arguments of Avalanche's class."""
        return {**super().options(), **self.arguments}

    def check_targets(self, targets: Sequence[Target]) -> None:
        """Raise a `UsageError` if a task asks for something else than classes."""
        odd = other_than_classes(targets)
        if odd is not None:
            raise UsageError(f"{self.name()} learns classes alone, and a task of the stream asks for {odd.name()}")

    def start(self) -> State:
        """Return what the strategies hold as they are made."""
        return self._state_of([self.recipe.made(seed) for seed in self.seeds], {})

    def learn(self, experience: Experience) -> Learning:
        """Train every seed's strategy, side by side, epoch by epoch."""
        from cl_engine.interop.training import is_joint, trained

        if experience.train.resample is not None:
            raise UsageError(
                f"{self.name()} is shown tensors, and training transformations other than crops and mirror images cannot "
                "be drawn anew for it: say stream.random_transforms = 'eval' or 'once'"
            )
        strategies = self._restored()
        more = counted(self.state.get(MET, {}), experience, self.net.outputs, rows=is_joint(strategies[0]))
        if is_joint(strategies[0]):  # it trains once: every arrival is a new beginning on all there is
            strategies = [self.recipe.made(seed) for seed in self.seeds]
        benchmark, steps = benchmark_of(more, experience, self.net, self.setting, self.train.augmentation)
        readers = [
            trained(strategy, benchmark, steps, derive(seed, "learn", experience.key), self.curve)
            for seed, strategy in zip(self.seeds, strategies, strict=True)
        ]
        try:
            yield from self._together(readers, strategies, experience)
        finally:
            for reader in readers:
                reader.close()
        self.state = self._state_of(strategies, more)
        self._living, self._living_of = strategies, self.state

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        """Answer by Avalanche's own evaluation loop, with strategies restored from the state."""
        if self._twins_of is not self.state:
            self._twins, self._twins_of = self._restored(), self.state
        return self._answers(self._twins, x, task_id)

    def module(self, task_id: int | None, place: int = 0) -> TaskModule:
        """Return the model of one seed's strategy, with the head of the task."""
        from cl_engine.interop.guest_module import guest_module

        label, classes = self._asked(task_id)
        x = self.net.example(2)
        answer = self._answers(self._restored(), x, task_id)[place]
        found = guest_module(self._restored()[place], x, answer, label, classes, self.seeds[place])
        return TaskModule(self.net, found or WholeStrategy(self, task_id, place), exportable=found is not None)

    def _asked(self, task_id: int | None) -> tuple[int, list[int]]:
        """Return the task label that is told, and the classes that the task is known to have; all, for one not yet met."""
        told = self.setting == "task"
        label = task_id if told and task_id is not None else 0
        return label, classes_of(self.state.get(MET, {}) if told else {}, task_id, self.net.outputs)

    def _answers(self, strategies: Sequence[Any], x: Tensor, task_id: int | None) -> Tensor:
        from cl_engine.interop.training import answered

        label, classes, every = *self._asked(task_id), self.net.outputs
        with torch.inference_mode(False), torch.no_grad():
            ready = self.net.prepare(x)
            pairs = zip(self.seeds, strategies, strict=True)
            try:
                return torch.stack([answered(strategy, ready, label, classes, every, seed) for seed, strategy in pairs])
            except (UsageError, RunFailed, Stopped):
                raise
            except Exception as error:  # whatever Avalanche's code or its user's raises
                if is_out_of_memory(error):
                    raise
                untaught = MET not in self.state
                ahead = "; it has learned nothing yet: agenda.evaluate_ahead = 0 asks nothing ahead" if untaught else ""
                raise RunFailed(f"{self.name()} cannot answer ({type(error).__name__}: {error}){ahead}") from error

    def _together(self, readers: Sequence[Any], strategies: Sequence[Any], experience: Experience) -> Learning:
        """Read the seeds' training in turn, each up to the next place where all are to be heard."""
        from cl_engine.interop.callbacks import EpochDone, ProbePoint, TrainingProgress

        epochs, step, task = 0, experience.step, experience.task_id
        while True:
            messages: list[Any] = []
            for reader in readers:
                message = self._next(reader, step)
                while isinstance(message, TrainingProgress):
                    yield Progress(step=step, done=message.done)
                    message = self._next(reader, step)
                messages.append(message)
            if not any(messages):
                return
            if all(isinstance(message, ProbePoint) for message in messages):
                place = messages[0]
                yield TrainingProbe(
                    step=step, batch=place.batch, epoch=place.epoch, predict=self._midway(strategies, task)
                )
            ended = [message for message in messages if isinstance(message, EpochDone)]
            if ended:
                loss = tuple(m.loss if isinstance(m, EpochDone) else math.nan for m in messages)
                seconds = sum(m.seconds for m in ended)
                yield EpochEnded(
                    step=step, task_id=task, fit=0, epoch=epochs, epochs=self.train.epochs, loss=loss, seconds=seconds
                )
                epochs += 1
                if not all(math.isfinite(m.loss) for m in ended):
                    raise RunFailed(
                        f"{self.name()}: the loss is not finite at step {step}: lower train.lr, now {self.train.lr}"
                    )

    def _next(self, reader: Any, step: int) -> Any:
        try:
            return next(reader, None)
        except (UsageError, RunFailed):
            raise
        except Exception as error:  # whatever Avalanche's code or its user's raises
            if is_out_of_memory(error):
                raise
            raise RunFailed(f"{self.name()} failed in experience {step}: {type(error).__name__}: {error}") from error

    def _midway(self, strategies: Sequence[Any], task: int) -> Any:
        """Return a function that answers for the strategies as they are now, in the middle of training."""
        from cl_engine.interop.snapshot import taken
        from cl_engine.interop.training import restored

        def predict(x: Tensor) -> Tensor:
            pairs = zip(self.seeds, strategies, strict=True)
            twins = [restored(self.recipe, seed, taken(strategy))[0] for seed, strategy in pairs]
            return self._answers(twins, x, task)

        return predict

    def _restored(self) -> list[Any]:
        """Return the strategies that the state describes."""
        from cl_engine.interop.packing import unpacked
        from cl_engine.interop.training import restored

        found = []
        for s, seed in enumerate(self.seeds):
            strategy, lost = restored(self.recipe, seed, unpacked(self.state, s))
            if lost and self._living_of is self.state:
                return self._living
            if lost:
                raise UsageError(
                    f"{self.name()} holds what cannot be saved ({', '.join(lost[:3])}): its run cannot be taken up "
                    "again; --fresh starts it over"
                )
            found.append(strategy)
        return found

    def _state_of(self, strategies: Sequence[Any], more: State) -> State:
        from cl_engine.interop.packing import packed
        from cl_engine.interop.snapshot import taken

        return {**packed([taken(strategy) for strategy in strategies]), **({MET: more} if more else {})}


AvalancheAdapter.Options = opened(AvalancheAdapter.Options)


def named(rest: str) -> type[AvalancheAdapter]:
    """Return the strategy that ``avalanche:rest`` stands for: a class of Avalanche's, or ``module:Class``."""
    if not rest:
        return AvalancheAdapter
    return type(
        rest.rpartition(":")[2],
        (AvalancheAdapter,),
        {"avalanche_class": rest, "__module__": __name__, "__doc__": AvalancheAdapter.__doc__},
    )
