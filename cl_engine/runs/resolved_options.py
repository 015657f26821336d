"""The options of an experiment: a scenario with what was changed in it, checked, and every default said."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import AgendaOptions
from cl_engine.nn.architecture import Architecture
from cl_engine.options import checked, unsaid
from cl_engine.runs import plugins
from cl_engine.runs.metrics import metrics_of
from cl_engine.runs.scenario import Scenario
from cl_engine.runs.upkeep import upkeep_of
from cl_engine.training.optimizer_steps import check_training
from cl_engine.training.optimizers import Train
from cl_engine.training.pretraining import BackboneOptions, checked_backbone


def resolved_options(
    found: Scenario, strategy: str, overrides: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], frozenset[str]]:
    """Return all options in force by table, and the dotted names of those that older experiments lack (`options.unsaid`).

    Raises:
        UsageError: naming whatever is unknown, of a wrong type or out of bounds.
    """
    kind = plugins.load("strategies", strategy)
    tables = found.with_overrides(strategy, overrides)
    stream, net = dict(tables["stream"]), dict(tables["net"])
    names = {"stream": stream.pop("name"), "net": net.pop("name")}
    stream_kind: type[Stream] = plugins.load("streams", names["stream"])
    stream_options = checked(stream_kind.Options, stream, "stream").model_dump()
    for source in stream_kind.sources_in(stream_options):
        plugins.source(source)
    news: set[str] = set()
    architecture = None if ":" in names["net"] else plugins.net(names["net"])
    if inspect.isclass(architecture) and issubclass(architecture, Architecture):
        net = checked(architecture.Options, net, "net").model_dump()
        news |= {f"net.{name}" for name in unsaid(architecture.Options, net)}
    train = check_training(checked(Train, tables["train"], "train"))
    upkeep_of(train.upkeep)
    agenda = checked(AgendaOptions, tables["agenda"], "agenda")
    metrics_of(agenda.metrics)
    resolved = {
        "stream": {"name": names["stream"], **stream_options},
        "net": {"name": names["net"], **net},
        "train": train.model_dump(),
        "agenda": agenda.model_dump(),
        "strategy": checked(kind.Options, tables["strategy"], f"strategy.{strategy}").model_dump(),
    }
    for table, model in {"stream": stream_kind.Options, "agenda": AgendaOptions, "strategy": kind.Options}.items():
        news |= {f"{table}.{name}" for name in unsaid(model, resolved[table])}
    if tables["backbone"]:
        pretraining = {**tables["train"], **tables["backbone"].get("train", {})}
        backbone = checked(BackboneOptions, {**tables["backbone"], "train": pretraining}, "backbone")
        checked_backbone(backbone, names["net"])
        resolved["backbone"] = backbone.model_dump()
        news |= {f"backbone.{name}" for name in unsaid(BackboneOptions, resolved["backbone"])}
    return resolved, frozenset(news)
