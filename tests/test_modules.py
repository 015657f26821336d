"""Modules, their library, and the paths that are tried."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cl_engine.errors import UsageError
from cl_engine.modules.candidates import Prior, candidates
from cl_engine.modules.division import division
from cl_engine.modules.library import Library
from cl_engine.net import HEAD_BIAS, HEAD_WEIGHT, Net
from cl_engine.nets.mlp import Mlp


def mlp() -> Net:
    built = Mlp()
    built.configure({"hidden": [4, 3], "norm": "batch"})
    return Net(lambda: built.build((1, 2, 3), 2), (1, 2, 3))


class Staged(nn.Module):
    stages = (("first", "norm"), ("second",))

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second, self.end = (
            nn.Linear(6, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 4),
            nn.Linear(4, 2),
        )

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.end(self.second(self.norm(self.first(x.flatten(1)))))


class Unnamed(Staged):
    stages = (("first",), ("second",))


def test_a_net_is_cut_before_each_layer_with_weights_and_its_normalisation_goes_with_it():
    parts = division(mlp())
    assert [part[0] for part in parts] == ["1.weight", "4.weight", HEAD_WEIGHT]
    assert "2.running_mean" in parts[0]
    assert parts[-1] == [HEAD_WEIGHT, HEAD_BIAS]


def test_a_net_that_names_its_stages_is_cut_there():
    parts = division(Net(Staged, (1, 2, 3)))
    assert parts[0] == ["first.weight", "first.bias", "norm.weight", "norm.bias"]
    with pytest.raises(UsageError, match=r"it is otherwise with: norm\.bias, norm\.weight"):
        division(Net(Unnamed, (1, 2, 3)))


@pytest.mark.parametrize(("prior", "count"), [("forward", 5), ("backward", 8), ("full", 11)])
def test_a_prior_gives_each_path_once_the_most_reusing_first(prior: Prior, count: int):
    found = candidates(prior, 4)
    assert len(found) == len(set(found)) == count
    assert found[0] == (True,) * 4
    assert found[-1] == (False,) * 4
    assert [sum(path) for path in found] == sorted((sum(path) for path in found), reverse=True)
    assert not any(path[-1] for path in candidates(prior, 4, same_outputs=False))


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8))
def test_a_library_gives_back_what_each_seed_put_in_and_changes_nothing_it_holds(choices: list[list[bool]]):
    net = mlp()
    library = Library(net, division(net))
    state = library.start(2)
    paths: list[torch.Tensor] = []
    kept: list[dict[str, torch.Tensor]] = []
    for task, choice in enumerate(choices):
        new = torch.tensor(choice).reshape(2, 3) if paths else torch.ones(2, 3, dtype=torch.bool)
        before = paths[-1] if paths else torch.zeros(2, 3, dtype=torch.int64)
        params = net.init([2 * task, 2 * task + 1])
        path = library.add(state, params, before, new)
        state["paths"].put(task, path)
        found = library.params(state, path)
        old = kept[-1] if kept else {}
        for depth, layout in enumerate(library.layouts):
            for name in layout.shapes:
                for seed in range(2):
                    expected = params[name][seed] if new[seed, depth] else old[name][seed]
                    assert torch.equal(found[name][seed], expected)
        paths.append(path)
        kept.append({name: tensor.clone() for name, tensor in found.items()})
    for path, params in zip(paths, kept, strict=True):
        assert all(torch.equal(library.params(state, path)[name], tensor) for name, tensor in params.items())
    counts = library.uses(state)
    assert all(count.sum(dim=1).tolist() == [len(choices)] * 2 for count in counts)
    assert [int(count.max(dim=1).values.min()) >= 1 for count in counts] == [True] * 3
