"""Self-contained HTML pages in the house's look: one file, light and dark, with nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from cl_engine.analysis.charts.chart import packed
from cl_engine.analysis.plots.svg import inline, shared, variables

HERE = Path(__file__).parent


NOTICE = "Vega, Vega-Lite, Vega-Embed and D3: BSD-3-Clause and ISC licences, see NOTICE of cl-engine"
SCRIPTS = ("report.js", "figures.js", "figure_tools.js", "figure_files.js")


def page(template: str, letters: Mapping[str, str], runs: Sequence[Any] = (), **content: Any) -> str:
    """Return a page made from a template that extends ``base.html``; ``letters`` are those of its pictures (`drawn`).

    With ``runs``, those of each scenario as the script knows them, its figures can be worked in, and it holds what draws them.

    The only markup that is not escaped is our own style and script, and matplotlib's pictures, in which names are drawn as paths.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cl_engine.analysis.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = SCRIPTS if runs else SCRIPTS[:1]
    script = "\n".join(HERE.joinpath(name).read_text(encoding="utf-8") for name in names)
    deflated = HERE.joinpath("vega.js.z").read_bytes() if runs else b""
    allowed = [script.encode(), *([zlib.decompress(deflated)] if runs else [])]
    style = HERE.joinpath("report.css").read_text(encoding="utf-8")
    style = style.replace("/* pictures, light */", variables()).replace("/* pictures, dark */", variables(dark=True))
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        hashes=Markup(
            " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" for each in allowed)
        ),
        vega=base64.b64encode(deflated).decode(),
        vega_notice=NOTICE,
        runs=packed(runs) if runs else "",
        letters=Markup(shared(dict(letters))),
        **content,
    )


def drawn(name: str, aid: str, fig: Figure, salt: str, letters: dict[str, str]) -> dict[str, Any]:
    """Return a picture as the templates show it; the shapes of its letters go into ``letters``, which a page holds once."""
    return {"name": name, "aid": aid, "svg": Markup(inline(fig, f"{salt}-{name}", letters))}
