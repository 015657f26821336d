"""Contracts of plug-ins as classes of tests: subclass one, name the plug-in, run pytest.

>>> class TestMine(StrategyContract):
...     strategy = "finetune"  # or "my_module:Mine"
>>> TestMine().experiment().strategy
'finetune'
"""

from cl_engine.testing.codes import CodesContract
from cl_engine.testing.label_functions import LabelFunctionContract
from cl_engine.testing.metrics import MetricContract
from cl_engine.testing.nets import NetContract
from cl_engine.testing.sources import SourceContract
from cl_engine.testing.strategies import StrategyContract
from cl_engine.testing.streams import StreamContract
from cl_engine.testing.target_plugins import TargetContract
from cl_engine.testing.upkeep import UpkeepContract

__all__ = [
    "CodesContract",
    "LabelFunctionContract",
    "MetricContract",
    "NetContract",
    "SourceContract",
    "StrategyContract",
    "StreamContract",
    "TargetContract",
    "UpkeepContract",
]
