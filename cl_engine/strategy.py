"""The base of strategies: three verbs and a state."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

from torch import Tensor

from cl_engine.core.moved_methods import MovedMethods
from cl_engine.core.state import State, of_seed
from cl_engine.core.tree import Tree
from cl_engine.data.source import Sources
from cl_engine.data.stream import Experience, Setting, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.nn.net import Net
from cl_engine.nn.shared_net import check_heads
from cl_engine.nn.target import Target
from cl_engine.nn.task_module import TaskModule, module_of
from cl_engine.options import Configured
from cl_engine.targets.classes import Classes
from cl_engine.training.arrivals import piece_by_piece
from cl_engine.training.fit import no_validation
from cl_engine.training.fit_job import Curve, Diagnostics, FitJob, FitOptions
from cl_engine.training.fit_observer import FitObserver
from cl_engine.training.fit_progress import FitProgress
from cl_engine.training.fitting import FitsAsked, Fitting, check_judged, heeded, judged, remembering
from cl_engine.training.optimizers import Train
from cl_engine.training.upkeep import Upkeep

Learning = Generator[Event, None, None]


class Strategy(Configured, MovedMethods, ABC):
    """Learns experience after experience; subclass it, write the three verbs, and all else follows.

    `start` returns the state before the first experience, `learn` changes ``self.state``, `predict` answers. Options
    are annotated fields. All that outlives a call is in ``self.state``: a nested dict of tensors ``[S, …]`` (or
    ``[1, …]`` for what the seeds share), `Bank` and numbers; saving, resuming and the accounting of memory read it.

    A task not yet met must be answered too: with the parts that learning it would start from. That is a guess at chance
    level where those parts are untrained (a new head), and forward transfer where they are not.

    >>> class Guess(Strategy):
    ...     def start(self):
    ...         return {"seen": 0}
    ...     def learn(self, experience):
    ...         self.state["seen"] += 1
    ...         yield from ()
    ...     def predict(self, x, task_id):
    ...         return torch.zeros(len(self.seeds), len(x), self.net.outputs)
    >>> Guess.settings
    ('task', 'domain', 'class')

    Attributes:
        net: the network of the scenario, as a function of its weights.
        seeds: the seeds that learn side by side, the first axis of every tensor.
        setting: ``task``, ``domain`` or ``class``: what is told at test time, and which labels there are.
        train: the training options of the scenario.
        n_tasks: number of tasks of the stream, where the engine knows it; None: it does not, or the stream has no end.
        target: what the task being learned asks for.
        targets: says what a task asks for; None: all ask for classes, as many as the net has outputs.
        needs_labels: whether every experience must come with labels.
        partly_labelled: whether rows without labels (`Experience.unlabelled`) may come beside those with labels.
        needs_validation: whether every experience must come with validation rows.
        per_seed: whether each seed may have rows of its own (`Data.of_seeds`); who reads rows beside fits asks for them there.
        takes_arrivals: whether `learn` takes rows in pieces itself (`FitJob.arrival`); else each piece is an experience to it.
        needs_boundaries: whether it must be told which task arrives, or at least when it changes.
        trains: whether `learn` takes steps; without, the options of training mean nothing to it.
        validates: whether a fit can be tested on the experience's validation rows, as ``train.patience`` asks.
        rowwise: whether, where no task is told, a row's answer depends on no row beside it; tasks are then tested together.
    """

    settings: ClassVar[tuple[Setting, ...]] = ("task", "domain", "class")
    cost: ClassVar[Literal["flat", "growing"]] = "flat"
    needs_labels: ClassVar[bool] = True
    partly_labelled: ClassVar[bool] = False
    needs_validation: ClassVar[bool] = False
    per_seed: ClassVar[bool] = False
    takes_arrivals: ClassVar[bool] = False
    needs_boundaries: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    validates: ClassVar[bool] = True
    rowwise: ClassVar[bool] = False

    def __init__(
        self,
        net: Net,
        *,
        seeds: Sequence[int] = (0,),
        setting: Setting = "task",
        train: Train | None = None,
        **options: Any,
    ) -> None:
        """Set the strategy up, without a state: `simulate` calls `start`, or puts a saved state in place.

        Raises:
            UsageError: for options that do not exist or are out of bounds, or a setting the strategy cannot serve.
        """
        self.configure(options)
        if setting not in self.settings:
            raise UsageError(
                f"the strategy '{self.name()}' must be told the task at test time; the setting '{setting}' does not "
                f"tell it: use stream.setting = {' or '.join(self.settings)}"
            )
        self.net, self.seeds, self.setting, self.train = net, list(seeds), setting, train or Train()
        self.train.augmentation.check(net.input_shape)
        check_heads(type(self), self.name(), setting, self.train)
        self.curve = Curve()
        self.registry: Sources | None = None  # finds the plug-ins that options name
        self.upkeep: Upkeep | None = None  # what keeps the net able to learn, in every fit
        self.online: int | None = None  # how often the answers that fits train on are told: see `FitJob.online`
        self.diagnostics: Diagnostics | None = None  # of the net that the first fit of an experience begins with
        self.n_tasks: int | None = None
        self.target: Target = Classes.of(classes=net.outputs)
        self._classes, self._fits = self.target, 0
        self.targets: Callable[[int], Target] | None = None
        self.journal: FitProgress | None = None  # of the experience being learned, where the engine keeps one
        self.observer: FitObserver | None = None  # of every fit, where something follows them batch by batch
        self.state: State = {}
        self.fits_asked = FitsAsked()

    @classmethod
    def name(cls) -> str:
        """Return the name of the strategy on the command line: that of its file."""
        return cls.__module__.rsplit(".", 1)[-1]

    @abstractmethod
    def start(self) -> State:
        """Return the state before the first experience."""

    @abstractmethod
    def learn(self, experience: Experience) -> Learning:
        """Learn an experience: a generator that changes ``self.state`` and yields events on the way."""

    @abstractmethod
    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        """Return outputs ``[S, N, O]`` for inputs ``[N, …]``; ``[S, N, O, h, w]`` of a net whose head is read at places.

        ``task_id`` None: the task is not told.
        """

    def module(self, task_id: int | None, place: int = 0) -> TaskModule:
        """Return a module in evaluation mode that answers a task as `predict` does for the seed at this place.

        Rows ``[N, …]`` in, as the stream gives them, outputs ``[N, O, …]`` out. The default asks `predict`: where one call of
        the net is the whole answer, the module is that net with these weights. A strategy that answers otherwise, and can say
        it as a module, does so here.
        """
        return module_of(self, task_id, place)

    def check_targets(self, targets: Sequence[Target]) -> None:
        """Raise a `UsageError` if the method has no meaning for what tasks of the stream ask for; the default serves all."""
        return

    def check_stream(self, stream: Stream) -> None:
        """Raise a `UsageError` if options do not fit the stream that is to be learned; called before its first state."""
        return

    def fingerprint(self, task_id: int | None) -> int | None:
        """Return a number that says which answers this task would get now; None: unknown.

        The same number as before promises the same predictions, bit for bit; the engine then reuses the measured
        score. A counter (`Bank.writes`) or a hash of those parts of the state that `predict` reads.
        """
        return None

    @property
    def rounded(self) -> bool:
        """Whether the shapes a seed is computed in depend on the others, beside which it is the same within rounding only."""
        return False

    @property
    def order_matters(self) -> bool:
        """Whether the answer to a row may depend on the order of the rows it is asked with, since an option says so."""
        return False

    @property
    def growing(self) -> bool:
        """Whether, by the strategy's nature, a task costs more with every task before it."""
        return self.cost == "growing"

    @property
    def looks_ahead(self) -> bool:
        """Whether what is learned of a task depends, by an option or by nature, on how many tasks or which come after it."""
        return False

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor | None:
        """Return logits ``[S, N, C]`` on a task met before, while ``params`` are being fitted; None: it cannot be said.

        The default answers for strategies whose `fingerprint` says what answers depend on: what is being fitted is no part
        of it. One that changes the weights of earlier tasks says here what they would answer now.
        """
        return self.predict(x, task_id) if self.fingerprint(task_id) is not None else None

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        """Return logits ``[N, C]`` of one seed while it is being fitted; the default runs the net on ``params``."""
        return self.net.one(params, x)

    def loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of one seed on a batch; the default is that of what the task asks for, by `logits`."""
        return self.target.loss(self.logits(params, frozen, x), y)

    def fit(
        self, params: Tree, loss: Callable[..., Tensor], experience: Experience, **options: Unpack[FitOptions]
    ) -> Fitting:
        """Fit ``params`` to the experience, or to other ``rows``, and return the new ones: ``yield from self.fit(…)``.

        The options are fields of `cl_engine.training.fit_job.FitJob`, which says what each means. The first fit of an
        experience is tested midway, where the agenda asks for curves; a ``curve`` given here is for a strategy that reads
        `TrainingProbe` itself. Such a fit is run anew when a run is resumed; others are resumed from where they were.
        """
        return Fitting(self._fit_asked(params, loss, experience, options), self.fits_asked)

    def _fit_asked(
        self, params: Tree, loss: Callable[..., Tensor], experience: Experience, options: FitOptions
    ) -> Generator[Event, None, Tree]:
        index, self._fits = self._fits, self._fits + options.get("candidates", 1)
        own_curve = bool((asked := options.get("curve", Curve())).batches or asked.epochs)
        rows = options.get("rows", (experience.train.x, experience.train.y))
        job = FitJob(
            net=self.net,
            params=params,
            loss=loss,
            rows=rows,
            train=self.train,
            seeds=self.seeds,
            step=experience.step,
            task_id=experience.task_id,
            logits=self.logits,
            target=self.target,
            curve=self.curve if index == 0 else Curve(),
            online=self.online,
            diagnostics=self.diagnostics if index == 0 else None,
            upkeep=self.upkeep,
            index=index,
            rng_key=experience.key,
            arrival=experience.pieces if rows[0] is experience.train.x else 0,
            resample=experience.train.resample if rows[0] is experience.train.x else None,
            of_seeds=experience.train.of_seeds if rows[0] is experience.train.x else None,
            record=None if self.journal is None or own_curve else self.journal.record(index),
            observer=self.observer,
        )
        job = judged(replace(job, **options), experience)
        self.fits_asked.judged |= job.validation is not None
        return (yield from remembering(job, self.state))

    def learning(self, experience: Experience) -> Learning:
        """Run `learn`; called by the engine, and by nobody else. Fits are counted anew for every experience."""
        self._fits, self.fits_asked = 0, FitsAsked()
        if self.needs_validation and not len(experience.validation):
            raise no_validation(self.name())
        self.target = (experience.target or self.target_of(experience.task_id)).smoothed(self.train.label_smoothing)
        if self.train.reset_head != "never":
            self.shared.reset_head(self.train.reset_head, experience.key)  # type: ignore[attr-defined]
        if not experience.pieces or self.takes_arrivals:
            yield from heeded(self, experience)
        else:
            self.journal = None  # of thousands of fits
            yield from piece_by_piece(partial(heeded, self), experience)
        check_judged(self, self.fits_asked)

    def target_of(self, task_id: int) -> Target:
        """Return what a task asks for."""
        asked = self._classes if self.targets is None else self.targets(task_id)
        return asked.smoothed(self.train.label_smoothing)

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        """Return how many rows are fitted together at each experience, given how many come; as far as it can be said."""
        return rows

    def fitted_groups(self, rows: Sequence[int], asked: Sequence[str]) -> Sequence[Sequence[int]]:
        """Return the same for each group of rows, where tasks that ask for different things (``asked``) are groups of a fit."""
        return [[count] for count in self.fitted_rows(rows)]

    def untrained(self) -> Strategy:
        """Return a twin of this strategy in its first state."""
        twin = copy.copy(self)
        twin.state = twin.start()
        return twin

    def of_seed(self, place: int) -> Strategy:
        """Return a twin that has the seed at this place alone, to be asked for its answers; it shares the state's tensors."""
        twin = copy.copy(self)
        twin.seeds, twin.state = [self.seeds[place]], of_seed(self.state, place)
        return twin

    def drawn(self) -> Strategy:
        """Return a twin in the first state that follows from seeds and options alone, without the scenario's backbone."""
        net = self.net.without_backbone()
        twin = type(self)(net, seeds=self.seeds, setting=self.setting, train=self.train, **self.options())
        twin.state = twin.start()
        return twin
