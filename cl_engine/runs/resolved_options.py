"""The options of an experiment: a scenario with what was changed in it, checked, and every default said."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel

from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import AgendaOptions, check_agenda
from cl_engine.errors import UsageError, unknown
from cl_engine.nn.architecture import Architecture
from cl_engine.options import checked, unsaid
from cl_engine.runs import plugins, twin_names
from cl_engine.runs.guests import GUESTS
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
    _check_strategies(found)
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
    if not found.logged:
        check_agenda(agenda)
    metrics_of(agenda.metrics)
    own = _strategy_options(found, strategy, kind.Options, tables["strategy"])
    resolved = {
        "stream": {"name": names["stream"], **stream_options},
        "net": {"name": names["net"], **net},
        "train": train.model_dump(),
        "agenda": agenda.model_dump(),
        "strategy": own.model_dump(),
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


def in_another_table(found: Scenario, option: str) -> str:
    """Return the dotted name of the option that is called so in one of a scenario's tables; empty: there is none."""
    models: dict[str, Any] = {"train": Train, "agenda": AgendaOptions}
    for table, kind in (("stream", "streams"), ("net", "nets")):
        with suppress(UsageError):  # a table that names what there is not is refused elsewhere
            models[table] = getattr(plugins.load(kind, found.tables[table]["name"]), "Options", None)  # type: ignore[arg-type]
    models["backbone"] = BackboneOptions
    return next((f"{table}.{option}" for table, model in models.items() if option in _fields(model)), "")


def _fields(model: Any) -> Container[str]:
    return getattr(model, "model_fields", {})


def _strategy_options(found: Scenario, strategy: str, model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """Return a strategy's options, checked; one that it has not and another table has is hinted at."""
    where = f"strategy.{strategy}"
    odd = [name for name in values if name not in model.model_fields and model.model_config.get("extra") != "allow"]
    for name in odd:
        if meant := in_another_table(found, name):
            raise unknown("option", f"{where}.{name}", [f"{where}.{each}" for each in model.model_fields], meant)
    return checked(model, values, where)


def _check_strategies(found: Scenario) -> None:
    """Refuse options of strategies that there are not; of what is named by module, file or library it is not asked."""
    known = [*plugins.names("strategies"), *GUESTS["strategies"]]
    for name in found.tables.get("strategy", {}):
        if name not in known and ":" not in name:
            raise UsageError(
                f"scenario '{found.name}', [strategy.{name}]: {twin_names.unknown('strategy', name, known)}"
            )
