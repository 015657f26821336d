"""Options of which only some are declared: the rest is handed on to the library they belong to."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from cl_engine.options import STRICT


def opened(model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of the same options that keeps unknown ones, in ``model_extra``, instead of refusing them."""
    fields: dict[str, Any] = {name: (info.annotation, info) for name, info in model.model_fields.items()}
    made: type[BaseModel] = create_model(
        model.__name__, __config__=ConfigDict(**{**STRICT, "extra": "allow"}), **fields
    )
    return made
