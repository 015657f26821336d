"""Names that strategies have elsewhere lead to the name here, and to Avalanche's own."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from cl_engine.errors import UsageError
from cl_engine.runs import plugins
from cl_engine.runs.twin_names import AVALANCHE, OTHERS


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("EWC", "it is 'ewc' here, and Avalanche's own is 'avalanche:EWC'"),
        ("SynapticIntelligence", "it is 'si' here, and Avalanche's own is 'avalanche:SynapticIntelligence'"),
        ("DER++", "it is 'der' here;"),
        ("SI", "it is 'si' here;"),
        ("GEM", "there is none here, and Avalanche's own is 'avalanche:GEM'"),
        ("repaly", "did you mean 'replay'"),
    ],
)
def test_a_strategy_asked_for_by_another_name_is_named(name: str, said: str):
    with pytest.raises(UsageError, match=f"no strategy named '{name.replace('+', '.')}'") as error:
        plugins.load("strategies", name)
    assert said in str(error.value)


def test_a_stream_of_such_a_name_is_an_unknown_stream():
    with pytest.raises(UsageError, match="no stream named 'EWC'; there are: "):
        plugins.load("streams", "EWC")


def test_the_names_led_to_are_there():
    assert {own for own in (*AVALANCHE.values(), *OTHERS.values()) if own} <= {*plugins.names("strategies")}
    spec = find_spec("avalanche")  # read, not imported, which takes seconds
    if spec is None or spec.origin is None:
        pytest.skip("Avalanche is not installed")
    files = (Path(spec.origin).parent / "training" / "supervised").glob("*.py")
    classes = {found for file in files for found in re.findall(r"^class (\w+)", file.read_text("utf-8"), re.MULTILINE)}
    assert [name for name in AVALANCHE if name not in classes] == []
