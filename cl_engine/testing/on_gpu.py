"""A GPU to test on, or one that is pretended (`cl_engine.testing.pretend_gpu`)."""

from __future__ import annotations

import pytest
import torch

from cl_engine.core import gpu


class OnGpu:
    """The part of a contract whose tests ask for a GPU by the fixture ``on_gpu``; they are skipped where there is none.

    >>> issubclass(OnGpu, object)
    True
    """

    @pytest.fixture
    def on_gpu(self) -> str:
        """Return the name of a GPU, or skip."""
        if not torch.cuda.is_available():
            pytest.skip("there is no GPU here; `pytest -p cl_engine.testing.pretend_gpu` pretends one")
        return gpu.KIND
