"""Experiments stay what they were: an option that comes later, at its default, is no part of one that was made without it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cl_engine.engine.agenda import AgendaOptions
from cl_engine.options import unsaid
from cl_engine.runs import plugins
from cl_engine.training.optimizers import Train
from cl_engine.training.pretraining import BackboneOptions

KNOWN = Path(__file__).parent / "golden" / "identity" / "options.json"
TABLES: dict[str, type[BaseModel]] = {"train": Train, "agenda": AgendaOptions, "backbone": BackboneOptions}
KINDS: tuple[plugins.Kind, ...] = ("strategies", "streams", "nets")


def models() -> dict[str, type[BaseModel]]:
    """Return what has options that are part of an experiment, by name."""
    found = {f"{kind}/{name}": plugins.load(kind, name).Options for kind in KINDS for name in plugins.own(kind)}
    return {**found, **TABLES}


def said(model: type[BaseModel]) -> dict[str, Any]:
    """Return the options that an experiment names where all are left out, with their defaults; null: required."""
    dumped = model.model_construct().model_dump(warnings=False)
    news = unsaid(
        model, {name: info.get_default(call_default_factory=True) for name, info in model.model_fields.items()}
    )
    return {name: dumped.get(name) for name in model.model_fields if name not in news}


def test_every_plug_in_has_its_options_written_down():
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    if os.environ.get("CL_UPDATE_GOLDEN"):  # adds those that are new, and changes none
        KNOWN.parent.mkdir(exist_ok=True)
        new = {name: said(model) for name, model in models().items() if name not in known}
        KNOWN.write_text(json.dumps({**known, **new}, indent=1, sort_keys=True) + "\n")
        known |= new
    assert models().keys() <= known.keys(), "run this once with CL_UPDATE_GOLDEN=1, and commit the file"


@pytest.mark.parametrize("name", models())
def test_a_new_option_at_its_default_makes_no_old_run_another_experiment(name: str):
    known = json.loads(KNOWN.read_text()).get(name)
    if known is None:
        pytest.skip("said by the test before")
    now = json.loads(json.dumps(said(models()[name])))
    added = sorted(now.keys() - known.keys())
    assert not added, f"{name}: {', '.join(added)}: write option(…, before=VALUE), what experiments did without it"
    assert now == known, "an option is gone or has another default: experiments on disk would be others"
