"""Self-contained HTML pages in the house's look: one file, light and dark, with nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from cl_engine.analysis.plots.svg import inline, shared, variables

HERE = Path(__file__).parent


def page(template: str, letters: Mapping[str, str], **content: Any) -> str:
    """Return a page made from a template that extends ``base.html``; ``letters`` are those of its pictures (`drawn`).

    The only markup that is not escaped is our own style and script, and matplotlib's pictures, in which names are drawn as paths.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cl_engine.analysis.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = HERE.joinpath("report.js").read_text(encoding="utf-8")
    style = HERE.joinpath("report.css").read_text(encoding="utf-8")
    style = style.replace("/* pictures, light */", variables()).replace("/* pictures, dark */", variables(dark=True))
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        letters=Markup(shared(dict(letters))),
        **content,
    )


def drawn(name: str, aid: str, fig: Figure, salt: str, letters: dict[str, str]) -> dict[str, Any]:
    """Return a picture as the templates show it; the shapes of its letters go into ``letters``, which a page holds once."""
    return {"name": name, "aid": aid, "svg": Markup(inline(fig, f"{salt}-{name}", letters))}
