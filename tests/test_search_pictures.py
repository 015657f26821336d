"""Pictures of a search: which settings they show, by which scores, and when there is nothing to be seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cl_engine.analysis.plots.gallery import of_all
from cl_engine.analysis.plots.settings import parallel_coordinates, searched, tried, two_options
from cl_engine.core.measure import Measure
from cl_engine.results.run import Run


def of(score: float, validated: float | None = None, strategy: str = "replay", **options: Any) -> Run:
    """Return what a picture asks of a run of a setting."""
    found: Any = SimpleNamespace(
        strategy=strategy,
        final=xr.Dataset({"acc": ("seed", np.array([score, score]))}),
        measures=[Measure("accuracy")],
        metrics={},
        experiment={"options": {"train": options}, "seeds": [0, 1]},
        results=xr.Dataset({"acc": ("seed", np.zeros(2))}),
        validated=lambda name: None if validated is None else np.array([validated, validated]),
    )
    return found


GRID = [
    of(k / 10, 1 - k / 10, lr=lr, epochs=epochs)
    for k, (lr, epochs) in enumerate((a, b) for a in (0.01, 0.1, 1.0) for b in (1, 3))
]


def words(fig: Any) -> str:
    return " ".join(text.get_text() for text in fig.findobj(lambda one: hasattr(one, "get_text")))


def test_scores_are_those_on_validation_rows_where_all_settings_have_them():
    found = tried(GRID, "replay")
    assert found is not None
    assert found.called == "ACC on validation rows"
    assert found.scores == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert found.order[-1] == 0
    one_without = tried([*GRID[1:], of(0.95, lr=5.0, epochs=9)], "replay")
    assert one_without is not None
    assert one_without.called == "ACC on test rows"
    assert one_without.scores[-1] == pytest.approx(0.95)


def test_the_best_setting_is_the_line_that_stands_out():
    fig = parallel_coordinates(GRID, "replay")
    assert fig is not None
    lines = {line.get_label(): line for line in fig.axes[0].get_lines() if not line.get_label().startswith("_")}
    assert list(lines) == ["best", "best quarter", "others"]
    assert lines["best"].get_ydata().tolist() == [0.0, 0.0, 1.0]  # the least rate, the fewest epochs, the highest score
    shown = words(fig)
    for text in ("lr", "epochs", "0.01", "ACC on validation rows", "6 settings", "2 seeds"):
        assert text in shown


def test_two_options_are_a_map_of_the_scores_with_the_best_over_what_else_was_varied():
    again = [of(0.0, 0.05, lr=0.01, epochs=1, momentum=0.5)]
    fig = two_options([*GRID, *again], "replay")
    assert fig is not None
    cells = fig.axes[0].get_images()[0].get_array()
    assert cells.shape == (2, 3)
    assert cells[0, 0] == pytest.approx(1.0)  # and not that of the worse one
    assert "best over the rest" in words(fig)


def test_where_few_combinations_were_tried_there_is_no_map_and_where_few_settings_no_picture():
    scattered = [of(k / 10, lr=0.01 * k, epochs=k) for k in range(1, 7)]
    assert two_options(scattered, "replay") is None
    assert parallel_coordinates(scattered, "replay") is not None
    assert parallel_coordinates(GRID[:3], "replay") is None
    assert searched([*GRID[:3], of(0.5, strategy="finetune")]) == []
    assert searched(GRID) == ["replay"]


def test_a_report_has_them_among_its_pictures():
    names = [picture.name for picture in of_all(GRID)]
    assert {"search-replay", "options-replay"} <= {*names}
    assert not any(name.startswith(("search-", "options-")) for name in (p.name for p in of_all(GRID[:2])))


def test_a_score_that_is_the_same_everywhere_and_an_option_that_is_no_number_can_be_drawn():
    same = [of(0.5, optimizer=name, lr=lr) for name in ("sgd", "adam") for lr in (0.1, 1.0)]
    assert parallel_coordinates(same, "replay") is not None
    assert two_options(same, "replay") is not None
