"""Experiments: from a scenario and a strategy to a finished log. All parts are put together here."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cl_engine.core.torch_defaults import torch_defaults
from cl_engine.data.digest import Digest
from cl_engine.data.gradual_stream import arranged
from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import AgendaOptions, plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import Event, TaskLearned
from cl_engine.loggers import notebook
from cl_engine.loggers.recorder import Recorder
from cl_engine.runs import determinism, importing, plugins, process_memory
from cl_engine.runs.built_strategy import built_strategy
from cl_engine.runs.data_root import DataRoot, default_data_root
from cl_engine.runs.devices import resolved_device
from cl_engine.runs.metrics import metrics_of, of_answers, told, with_metrics_of_scores
from cl_engine.runs.own_code import code_of
from cl_engine.runs.resolved_options import resolved_options
from cl_engine.runs.resource_errors import explained
from cl_engine.runs.run_folder import RunFolder
from cl_engine.runs.scenario import Scenario
from cl_engine.runs.scenario_net import built_net, code_of_net, library_net
from cl_engine.runs.seeds import seeds_of
from cl_engine.runs.signals import Stopped, asked_to_stop, stopping_at_once
from cl_engine.strategy import Strategy
from cl_engine.training.fit_job import Curve
from cl_engine.training.library_weights import of_library
from cl_engine.training.optimizers import Train
from cl_engine.training.pretraining import Backbone, BackboneOptions, backbone_of
from cl_engine.training.workers import processes

Listener = Callable[[Event], None]
Begin = Callable[[RunFolder, Stream, Strategy, Callable[..., Recorder]], None]


@dataclass(frozen=True)
class Experiment:
    """A scenario, a strategy and seeds, with every option resolved; where it runs is no part of it.

    >>> experiment = Experiment.of("permuted_digits", "replay", seeds=(0, 1), samples=200)
    >>> experiment.resolved["strategy"]["samples"], experiment.folder.name
    (200, 'permuted_digits-replay-11347972cd')

    Attributes:
        scenario: name of the scenario.
        strategy: name of the strategy.
        seeds: seeds that learn side by side.
        resolved: all options in force: ``stream``, ``net``, ``train``, ``agenda``, ``strategy``.
        text: the scenario file as written.
        unsaid: options by dotted name that are newer than experiments on disk, and as those had it: no part of ``json``.
        beside: folder of the scenario's file, where plug-ins are looked for too; empty: none.
    """

    scenario: str
    strategy: str
    seeds: tuple[int, ...]
    resolved: dict[str, Any]
    text: str = ""
    unsaid: frozenset[str] = frozenset()
    beside: str = field(default="", compare=False)

    @classmethod
    def of(
        cls, scenario: str | Path | Scenario, strategy: str, seeds: int | Sequence[int] = (0,), **overrides: Any
    ) -> Experiment:
        """Resolve and check an experiment.

        Args:
            scenario: a file, or the name of one in ``scenarios/``.
            strategy: a name of ``list strategies``, or ``module:Class``, or ``file.py:Class``.
            seeds: seeds that learn side by side: which, or how many.
            overrides: values that go before the scenario's: ``**{"train.lr": 0.1, "pull": 0.5}``; a key without a
                dot is an option of the strategy.

        Raises:
            UsageError: naming whatever is unknown, of a wrong type or out of bounds.
        """
        wanted = seeds_of(seeds)
        found = scenario if isinstance(scenario, Scenario) else Scenario.load(scenario)
        with importing.looking_beside(found.folder):
            resolved, news = resolved_options(found, strategy, overrides)
        return cls(found.name, strategy, wanted, resolved, found.text, news, found.folder)

    @property
    def json(self) -> str:
        """The experiment as canonical JSON: equal for equal experiments."""
        options = {
            table: {name: value for name, value in values.items() if f"{table}.{name}" not in self.unsaid}
            for table, values in self.resolved.items()
        }
        content = {"scenario": self.scenario, "strategy": self.strategy, "seeds": self.seeds, "options": options}
        return json.dumps(content, sort_keys=True, indent=1)

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits that stand for the experiment."""
        return hashlib.sha256(self.json.encode()).hexdigest()[:10]

    @property
    def folder(self) -> Path:
        """The run's folder unless another is given."""
        named = re.sub(r"^.*/(?=[^/]*\.py:)", "", self.strategy)  # of a file its name alone
        names = (re.sub(r"[/\\\x00-\x1f]|^\.+", "-", name) for name in (self.scenario, re.sub("[:.]", "-", named)))
        return Path("results") / "-".join((*names, self.hash))

    @torch_defaults()
    @importing.beside_its_scenario
    def stream(self, device: str = "cpu", data_root: Path | DataRoot | None = None) -> Stream:
        """Build the stream; reads the source."""
        kind: type[Stream] = plugins.load("streams", (options := dict(self.resolved["stream"])).pop("name"))
        return arranged(kind.build(options, _sources(data_root), device), self.seeds)

    @torch_defaults()
    @importing.beside_its_scenario
    def backbone(self, stream: Stream, data_root: Path | DataRoot | None = None) -> Backbone:
        """Return what nets start from; pre-trains it where the scenario asks for that and it is not in the cache."""
        if "backbone" not in self.resolved:
            return Backbone()
        options, sources = BackboneOptions(**self.resolved["backbone"]), _sources(data_root)
        net = self.resolved["net"]
        code = code_of_net(net) if options.source is not None else {}
        factory = library_net(net, options)
        library = None if factory is None else partial(of_library, net=net, factory=factory, root=sources.root)
        build = partial(built_net, net, options, stream)
        return backbone_of(options, stream, build, net, sources.load, code, library)

    @torch_defaults()
    @importing.beside_its_scenario
    def build_strategy(self, stream: Stream, backbone: Backbone | None = None) -> Strategy:
        """Build the strategy with the net that fits the stream, starting from ``backbone`` (left out: as it is found)."""
        backbone = self.backbone(stream) if backbone is None else backbone
        options = BackboneOptions(**self.resolved["backbone"]) if "backbone" in self.resolved else None
        net = built_net(self.resolved["net"], options, stream, stream.outputs, backbone.params)
        train, own = Train(**self.resolved["train"]), self.resolved["strategy"]
        return built_strategy(self.strategy, net, stream, seeds=self.seeds, train=train, options=own)

    def learner(self, stream: Stream, backbone: Backbone | None = None) -> Strategy:
        """Return what `build_strategy` returns: its name until version 0.1."""
        warnings.warn("Experiment.learner is now build_strategy", DeprecationWarning, stacklevel=2)
        return self.build_strategy(stream, backbone)

    def digests(self, sources: DataRoot, stream: Stream, backbone: Backbone) -> dict[str, Digest]:
        """Return what tells the data and weights that are learned from apart from others, by where they are from."""
        found = {f"source '{name}'": told for name, told in sources.digests.items()} or stream.digests()
        if "digest" in backbone.about:
            found[f"backbone ({backbone.about['origin']})"] = {"checksum": backbone.about["digest"]}
        return found

    @property
    def agenda(self) -> AgendaOptions:
        """When to test and to save."""
        return AgendaOptions(**self.resolved["agenda"])

    @property
    def curve(self) -> Curve:
        """When to test in the middle of learning."""
        curve: Curve = self.agenda.watched["curve"]
        return curve

    @torch_defaults()
    @importing.beside_its_scenario
    def run(
        self,
        out: str | Path | None = None,
        *,
        device: str = "auto",
        data_root: str | Path | None = None,
        listeners: Callable[[Stream], Sequence[Listener]] = lambda stream: (),
        command: str = "",
        deterministic: bool = False,
        accept_changes: bool = False,
        begin: Begin | None = None,
        progress: bool | None = None,
    ) -> Path:
        """Run the experiment, or go on with it where it stopped; return the folder with its log.

        Args:
            out: the run's folder; left out: ``results/<scenario>-<strategy>-<hash>``.
            device: ``cpu``, ``cuda``, ``cuda:n``, or ``auto``: a GPU where there is one.
            data_root: where sources look for files.
            listeners: given the stream, returns what else is called with every event.
            command: what was typed, for the log.
            deterministic: let torch use deterministic algorithms alone, which a GPU does not do by itself.
            accept_changes: go on with a run whose data, weights or code are others now; the log says from where on.
            progress: whether it shows how far it is; None: on a terminal and in a notebook alone.
            begin: called where there is no log yet, to put one there with a checkpoint (`cl_engine.extension`).

        Raises:
            UsageError: before the first step, if the run cannot be done.
            RunFailed: if it cannot go on; what was measured is in the log, with the status ``failed``.
            Stopped: if SIGINT or SIGTERM asked it to; the same call goes on from the last save.
        """
        where, data_root = Path(out or self.folder), Path(data_root or default_data_root())
        with (
            stopping_at_once(),
            RunFolder(where, self.json) as folder,
            explained(Train(**self.resolved["train"]), len(self.seeds), where),
            determinism.deterministic(deterministic),
            process_memory.kept() as give_back,
        ):
            if folder.status == "finished":
                folder.say_what_changed()
                return folder.path
            with importing.noting() as modules:
                sources = _sources(data_root)
                stream = self.stream(resolved_device(device), sources)
                backbone = self.backbone(stream, sources)
                folder.material.take_data(self.digests(sources, stream, backbone), accept_changes)
                strategy, agenda = self.build_strategy(stream, backbone), self.agenda
                metrics = metrics_of(agenda.metrics, stream)
            folder.material.take_code(code_of(modules.values()), accept_changes)
            count = len(self.seeds)
            split = strategy.net.side_by_side(count) or processes(count, stream.device) > 1
            again = determinism.guarantees(str(stream.device), deterministic, split or (strategy.rounded and count > 1))
            texts = {"scenario": self.text, "command": command, "determinism": again}
            if metrics:
                texts["metrics"] = told(metrics)
            if backbone.about:
                texts["backbone"] = json.dumps(backbone.about)
            about = {"strategy": self.strategy, "scenario": self.scenario}
            record = partial(folder.recorder, stream, self.seeds, attributes=about, texts=texts)
            if begin is not None and not folder.may_go_on:
                begin(folder, stream, strategy, record)
            resume = folder.resume(stream.device)
            events: Any = simulate(
                stream,
                strategy,
                plan(stream, agenda),
                resume=resume,
                save_to=folder.checkpoint,
                save_share=agenda.save_share,
                save_every_epochs=agenda.save_every_epochs,
                **agenda.watched,
                spot_checks=agenda.spot_checks,
                metrics=of_answers(metrics),
                mark=folder.mark,
            )
            recorder = record(resume=resume)
            bar = notebook.progress(f"{self.scenario} {self.strategy}", stream, progress)
            watchers: list[Listener] = [recorder, *listeners(stream), *([bar] if bar else [])]
            begun = resume is not None
            try:
                with asked_to_stop() as asked:
                    for event in with_metrics_of_scores(events, metrics, recorder):
                        for listener in watchers:
                            listener(event)
                        if isinstance(event, TaskLearned):
                            begun = True
                            give_back()
                        if asked:
                            raise Stopped(asked[0])
            except Stopped:
                recorder.publish("stopped")
                raise
            except Exception as error:
                # what is refused before anything is learned leaves no log; on a full disk what was published remains
                if begun or not isinstance(error, UsageError):
                    with suppress(OSError, RuntimeError):
                        recorder.publish("failed")
                raise
            finally:
                events.close()  # a strategy that is left in the middle puts back at once what it had changed
                recorder.close()
                if bar:
                    bar.close()
        return folder.path


def _sources(data_root: Path | DataRoot | None) -> DataRoot:
    return data_root if isinstance(data_root, DataRoot) else DataRoot(data_root or default_data_root())
