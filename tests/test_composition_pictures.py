"""Pictures of module composition show what the log says, and are not drawn for runs without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cl_engine.analysis.plots import modules
from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.scores.run_scores import lca, summarised
from cl_engine.experiment import Experiment
from cl_engine.metrics import matrix_scores
from cl_engine.results.run import Run, open_run
from tests.conftest import TINY

DRAWN = {
    "mntdp": {"module_graph", "growth", "sources", "fits"},
    "picle": {"module_graph", "growth", "fits"},
    "mntdp_s": {"module_graph", "growth", "sources"},
    "compose": {"orders", "sources"},
    "experts": {"sources"},
    "weight_sharing": {"module_graph", "growth", "sharing"},
    "finetune": set(),
}
PICTURES = ("module_graph", "growth", "orders", "sharing", "sources", "fits")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: open_run(Experiment.of(TINY, name, (0, 1)).run(folder / name)) for name in DRAWN}


def cells(figure: Figure) -> np.ndarray:
    [image] = figure.axes[0].images
    return np.asarray(image.get_array())


def numbers(run: Run, kind: str, name: str, seed: int) -> list[float]:
    table = run.table("events")
    return table[(table["kind"] == kind) & (table["name"] == name) & (table["seed"] == seed)]["value"].tolist()


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_drawn_where_the_strategy_told_of_it(runs: dict[str, Run], name: str):
    assert {picture for picture in PICTURES if getattr(modules, picture)(runs[name]) is not None} == DRAWN[name]


def test_the_picture_of_fits_stacks_the_paths_that_each_seed_trained(runs: dict[str, Run]):
    for name in ("mntdp", "picle"):
        figure = modules.fits(runs[name])
        assert figure is not None
        top = max(path.get_paths()[0].vertices[:, 1].max() for path in figure.axes[0].collections)
        table = runs[name].table("events")
        trained = table[(table["kind"] == "CandidateTried") & (table["name"] == "flops") & (table["value"] > 0)][
            "event"
        ]
        scored = table[(table["name"] == "validation") & table["event"].isin(trained) & table["value"].notna()]
        assert top == scored.groupby("step").size().max() / 2


def test_the_module_graph_has_a_cell_for_every_step_of_every_path(runs: dict[str, Run]):
    figure = modules.module_graph(runs["mntdp"])
    assert figure is not None
    grid = cells(figure)
    used = numbers(runs["mntdp"], "PathStep", "module", 0)
    added = [module for module in numbers(runs["mntdp"], "ModuleAdded", "module", 0) if module >= 0]
    assert (grid > 0).sum() == len(used) == 3 * 4
    assert (grid == 2).sum() == len(added) == grid.shape[1]


def test_growth_ends_at_the_modules_added_and_at_a_net_for_each_task(runs: dict[str, Run]):
    figure = modules.growth(runs["mntdp"])
    assert figure is not None
    apart, held = (np.asarray(line.get_ydata()) for line in figure.axes[0].lines)
    added = [sum(m >= 0 for m in numbers(runs["mntdp"], "ModuleAdded", "module", seed)) for seed in (0, 1)]
    assert apart.tolist() == [4, 8, 12]
    assert held[-1] == np.mean(added)


def test_orders_are_the_blocks_told(runs: dict[str, Run]):
    figure = modules.orders(runs["compose"])
    assert figure is not None
    assert cells(figure).shape == (3, 2)
    assert cells(figure)[-1].tolist() == numbers(runs["compose"], "OrderLearned", "block", 0)[-2:]


def test_sharing_is_the_sets_told(runs: dict[str, Run]):
    figure = modules.sharing(runs["weight_sharing"])
    assert figure is not None
    assert cells(figure).shape == (3, 4)
    assert cells(figure)[-1].tolist() == numbers(runs["weight_sharing"], "SharingLearned", "set", 0)[-4:]


def test_lca_is_the_mean_over_the_first_batches_of_each_experience(runs: dict[str, Run], tmp_path: Path):
    run = runs["finetune"]
    table = run.table("curves")
    table = table[table["batch"] <= 1]
    accuracy = (table["n_correct"] / table["n_total"]).to_numpy().reshape(3, 2, 2)  # experience, batch, seed
    expected = np.mean([matrix_scores.lca(accuracy[step]) for step in range(3)], axis=0)
    assert lca(run).values == pytest.approx(expected)


def test_the_report_shows_operations_and_lca(runs: dict[str, Run], tmp_path: Path):
    page = write_report([runs["mntdp"], runs["finetune"]], tmp_path / "report.html").read_text()
    assert "training FLOPs" in page
    assert 'aria-label="growth of mntdp"' in page
    assert "LCA" in page
    assert summarised(runs["mntdp"]).training_flops > summarised(runs["finetune"]).training_flops > 0
