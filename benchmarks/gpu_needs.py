"""What `benchmarks/gpu.py` finds on the machine: told before anything of the engine is imported."""

from __future__ import annotations

import importlib.util
import os
import sys

PRETEND = "--pretend" in sys.argv
NEEDED = {name: name for name in ("torch", "numpy", "h5py", "pydantic", "safetensors", "filelock", "rich")}
NEEDED |= {"sklearn": "scikit-learn", **({"pytest": "pytest"} if PRETEND else {})}

missing = [package for name, package in NEEDED.items() if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(
        f"packages are missing here, and nothing is fetched: {', '.join(missing)}. Install them, or bring their wheels: "
        "python -m pip install --no-index --find-links WHEELS --target SITE …, then PYTHONPATH=SITE make gpu"
    )
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it is first used
