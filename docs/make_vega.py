"""The scripts that draw the figures of a page (Vega-Lite, Vega, Vega-Embed), packed as the report embeds them.

    pip install vl-convert-python && PYTHONPATH=. python docs/make_vega.py

Writes `cl_engine/analysis/report/vega.js.z` and prints the versions, which NOTICE names. The bundle is kept in the repository: to
make it takes seconds, a page must be the same bytes wherever it is written, and reading logs needs no further package.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import vl_convert

PACKED = Path(__file__).parents[1] / "cl_engine" / "analysis" / "report" / "vega.js.z"

if __name__ == "__main__":
    PACKED.write_bytes(zlib.compress(vl_convert.javascript_bundle().encode(), 9))
    print(
        f"vega {vl_convert.get_vega_version()}, vega-lite {vl_convert.get_vegalite_versions()[-1]}, "
        f"vega-embed {vl_convert.get_vega_embed_version()}, by vl-convert {vl_convert.__version__}"
    )
