"""Diagnostics of nets before they learn a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cl_engine.analysis.plots.plasticity import diagnostics_over_stream
from cl_engine.analysis.scores.diagnostics import diagnostics_of
from cl_engine.core.event import UnitsDiagnosed
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.results import open_run
from cl_engine.training.diagnostics import diagnosed, ranks
from cl_engine.training.fit_job import Diagnostics, FitJob
from cl_engine.training.optimizers import Train

TINY = Path(__file__).parent / "tiny.toml"


def net_of(activation: type[nn.Module] = nn.ReLU) -> Net:
    return Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3), activation(), nn.Linear(3, 2)), (1, 2, 2))


def job_of(net: Net, params: dict[str, Tensor], rows: Tensor, y: Tensor | None = None, **changes: Any) -> FitJob:
    y = torch.zeros(len(rows), dtype=torch.int64) if y is None else y

    def loss(params: Any, frozen: Any, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(net.one(params, x), y)

    how: dict[str, Any] = {"step": 3, "task_id": 2, "diagnostics": Diagnostics(), **changes}
    return FitJob(net, params, loss, (rows, y), Train(), range(len(next(iter(params.values())))), **how)


def looked(net: Net, params: dict[str, Tensor], rows: Tensor, **changes: Any) -> dict[str, UnitsDiagnosed]:
    return {event.part: event for event in diagnosed(job_of(net, params, rows, **changes))}


def test_units_are_counted_as_they_are_seen_from_the_layer_that_reads_them():
    net = net_of()
    params = net.init([0])
    first, _ = (name for name in params if name.endswith(".weight"))
    params[first] = torch.tensor([[[-1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]])
    params[first.replace("weight", "bias")] = torch.zeros(1, 3)
    rows = torch.tensor([[1.0, 0.1, 0, 0], [2, 0.1, 0, 0], [3, -1, 0, 0]]).reshape(3, 1, 2, 2)
    found = looked(net, params, rows, diagnostics=Diagnostics(dormant=0.2))
    assert list(found) == ["1", "head"]
    head = found["head"]
    assert head.units == 3 and head.weights == 6
    assert head.dead == pytest.approx((1 / 3,))  # the first is 0 on all rows
    assert head.dormant == pytest.approx((2 / 3,))  # the third too is weak beside the mean
    assert head.linearised == pytest.approx((1 / 3,))  # the second is on for every row
    assert found["1"].units == 0 and np.isnan(found["1"].dead[0])


def test_a_unit_that_squashes_is_never_dead_nor_linearised():
    net = net_of(nn.Tanh)
    params = {name: leaf * 50 for name, leaf in net.init([0]).items()}  # saturated
    head = looked(net, params, torch.randn(20, 1, 2, 2, generator=torch.Generator().manual_seed(0)))["head"]
    assert head.dead == (0.0,) and np.isnan(head.linearised[0])


def test_ranks_are_those_of_their_definitions():
    values = torch.tensor([4.0, 2.0, 1.0, 0.01])
    share = (values / values.sum()).double()
    found = ranks(torch.diag(values))
    assert found["effective_rank"] == pytest.approx(float((-(share * share.log()).sum()).exp()), rel=1e-6)
    assert found["stable_rank"] == pytest.approx((16 + 4 + 1 + 1e-4) / 16)
    assert found["rank_99"] == 3 and found["rank_99_squares"] == 3
    assert set(ranks(torch.zeros(5, 3)).values()) == {0.0}
    assert all(np.isnan(rank) for rank in ranks(torch.full((5, 3), torch.nan)).values())


def test_the_gradient_is_that_of_the_loss_on_the_rows_and_the_distance_that_to_the_first_weights():
    net, generator = net_of(), torch.Generator().manual_seed(1)
    rows, params = torch.randn(300, 1, 2, 2, generator=generator), net.init([0, 1])
    params = {name: leaf + 0.1 for name, leaf in params.items()}
    found = looked(net, params, rows)
    own = {name: leaf[1].clone().requires_grad_() for name, leaf in params.items()}
    nn.functional.cross_entropy(net.one(own, rows), torch.zeros(300, dtype=torch.int64)).backward()
    for layer, event in found.items():
        gradient = own[f"{layer}.weight"].grad
        assert gradient is not None
        assert event.gradient_norm[1] == pytest.approx(float(gradient.norm()), rel=1e-4)
        assert event.distance[1] == pytest.approx(0.1 * event.weights**0.5, rel=1e-4)


def test_channels_are_units_also_where_maps_are_flattened():
    def build() -> nn.Module:
        body = (nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten())
        return nn.Sequential(*body, nn.Linear(5 * 4 * 4, 2))

    net = Net(build, (1, 8, 8))
    found = looked(net, net.init([0]), torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert [event.units for event in found.values()] == [0, 2, 5]


@pytest.mark.parametrize("strategy", ["auxiliary", "finetune", "packnet", "replay"])
def test_the_log_has_them_before_every_kth_experience(strategy: str, tmp_path: Path):
    options = {"agenda.diagnose_every": 2, "agenda.diagnose_rows": 30}
    plain = open_run(Experiment.of(TINY, strategy, (0, 1)).run(tmp_path / "plain", device="cpu"))
    run = open_run(Experiment.of(TINY, strategy, (0, 1), **options).run(tmp_path / "run", device="cpu"))
    np.testing.assert_array_equal(run.results["accuracy"].values, plain.results["accuracy"].values)
    assert "diagnostics" not in plain.tables
    table = run.table("diagnostics")
    assert sorted(set(table["step"])) == [0, 2] and set(table["units"]) == {0, 12}
    fresh = table[(table["step"] == 0) & (table["layer"] != "head")]
    assert (fresh["distance"] == 0).all() or strategy == "packnet"
    for name in ("dead", "effective_rank", "weight_mean", "gradient_norm"):
        steps, values = diagnostics_of(run, name)
        assert steps.tolist() == [0, 2] and np.isfinite(values).all(), name
    assert diagnostics_over_stream([run, plain]) is not None and diagnostics_over_stream([plain]) is None
