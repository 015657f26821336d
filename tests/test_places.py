"""Nets whose head is read at each place of a map, and nets of tokens: what a stream asks for reaches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_engine.adapters.bottleneck import Bottleneck
from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Data, Experience
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.interop.recipe import Recipe
from cl_engine.masks.gates import Gates
from cl_engine.nn.batching import MAP_BYTES, ROWS_AT_ONCE, rows_at_once, runs_batched
from cl_engine.nn.division import division
from cl_engine.nn.feature_cache import FrozenFeatures
from cl_engine.nn.flops import Flops
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT, apply_head
from cl_engine.nn.net import Net, Params
from cl_engine.nn.task_heads import head_of, mixed_logits, row_of
from cl_engine.runs import plugins
from cl_engine.strategy import Strategy
from cl_engine.targets.class_map import ClassMap
from cl_engine.targets.classes import Classes
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob
from cl_engine.training.optimizers import Train
from tests import nets_zoo as zoo
from tests.test_cli import call
from tests.test_nets import AT_PLACES, NEEDED, net

ROWS = torch.rand(12, *zoo.SHAPE, generator=rng.tensors(0, "rows"))
MAPS = (ROWS[:, 0] * zoo.CLASSES).long()
TOKENS = torch.randint(30, (12, 7), generator=rng.tensors(0, "tokens"))
SCENARIO = """
[stream]
name = "views"
source = "{source}"
views = {views}
labelled = 20
test_rows = 10
[net]
{net}
[train]
epochs = 1
batch = 10
"""


BACKBONE: dict[str, Any] = {"backbone.source": "digits", "backbone.classes": [0, 1], "backbone.samples_per_class": 40}


def at_places(name: str) -> Net:
    return Net(zoo.AT_PLACES[name], zoo.SHAPE)


def one_of(params: Params, seed: int) -> Params:
    return {name: tensor[seed] for name, tensor in params.items()}


def experiment(folder: Path, net: str, source: str = "digits", views: str = '["classes", "autoencode"]') -> Path:
    path = folder / "asked.toml"
    path.write_text(SCENARIO.format(net=net, source=source, views=views))
    return path


def trained(net: Net, seeds: list[int], x: Tensor, y: Tensor, target: Any) -> Params:
    def loss(params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        return target.loss(net.one(params, x), y)

    job = FitJob(net, net.init(seeds), loss, (x, y), Train(batch=6, lr=0.1, epochs=2), seeds, step=0, task_id=0)
    fitting = fit(job)
    while True:
        try:
            next(fitting)
        except StopIteration as ended:
            result: Params = ended.value
            return result


# A head that is read at places.


@pytest.mark.parametrize("name", zoo.AT_PLACES)
def test_a_module_that_ends_in_a_1_by_1_convolution_is_trained_and_answers_at_each_place(name: str):
    net, target = at_places(name), ClassMap.of(classes=zoo.CLASSES)
    alone, among = trained(net, [1], ROWS, MAPS, target), trained(net, [0, 1, 2], ROWS, MAPS, target)
    for key, tensor in alone.items():
        torch.testing.assert_close(tensor[0], among[key][1], rtol=1e-3, atol=1e-5)
    assert net.places and among[HEAD_WEIGHT].shape == (3, zoo.CLASSES, net.width)
    answers = net.all(among, ROWS)
    assert answers.shape[:3] == (3, 12, zoo.CLASSES) and answers.ndim == 5
    before, after = (target.loss(net.all(params, ROWS)[1], MAPS) for params in (net.init([0, 1, 2]), among))
    assert after < before


@pytest.mark.parametrize("name", zoo.AT_PLACES)
def test_a_module_of_ones_own_answers_at_places_with_the_weights_that_the_net_was_given(name: str):
    net, params = at_places(name), at_places(name).init([0, 3])
    module = net.module(3)
    torch.testing.assert_close(net.all(params, ROWS)[1], module.eval()(ROWS))
    assert module.get_submodule(net.head).weight.shape == (zoo.CLASSES, net.width, 1, 1)


@pytest.mark.parametrize("name", ["fully_convolutional", "convolution_alone", "unet", "deeplab"])
def test_seeds_of_a_net_of_places_run_as_one_as_each_does_alone(name: str):
    made = at_places(name) if name in zoo.AT_PLACES else net(name, (2, 16, 16), 5, width=4)
    params, x = made.init([0, 1, 2]), made.example(3)
    learned = [key for key in params if not made.is_held(key)]
    assert runs_batched(made.one, {key: tensor[:2] for key, tensor in params.items()}, learned, made.example(2, 2))
    together = torch.vmap(lambda one: made.one(one, x, False))(params)

    def full(*given: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    with pytest.raises(torch.OutOfMemoryError):  # which says nothing of what can run as one
        runs_batched(full, {key: tensor[:2] for key, tensor in params.items()}, learned, made.example(2, 2))
    for seed in range(3):
        torch.testing.assert_close(together[seed], made.one(one_of(params, seed), x, False), rtol=1e-4, atol=1e-5)


def test_rows_of_several_tasks_are_answered_at_places_each_under_its_own_head():
    net = at_places("segmenter")
    heads, body = net.init([3, 4, 5]), one_of(net.init([0]), 0)
    tasks = torch.tensor([2, 0, 1] * 4)
    found = mixed_logits(net, body, row_of(heads), ROWS, tasks)
    for row, task in enumerate(tasks.tolist()):
        own = {**body, **head_of(row_of(heads)[task])}
        torch.testing.assert_close(found[row], net.one(own, ROWS, False)[row], rtol=1e-4, atol=1e-5)


def test_features_of_a_frozen_net_of_places_are_answered_as_by_the_whole_net():
    net = at_places("segmenter")
    kept, params = FrozenFeatures(net), net.init([0, 1])
    for _ in range(2):
        torch.testing.assert_close(kept.logits(params, ROWS), net.all(params, ROWS), rtol=1e-4, atol=1e-5)


def test_a_head_applied_to_maps_takes_the_operations_of_its_convolution():
    net = at_places("fully_convolutional")
    params = one_of(net.init([0]), 0)
    with Flops() as whole:
        net.one(params, ROWS, False)
    with Flops() as parts:
        apply_head(net.features(params, ROWS, False), params[HEAD_WEIGHT], params[HEAD_BIAS])
    assert whole.total == parts.total > 0


def test_a_net_of_places_serves_classes_by_averaging_over_places():
    net, target = at_places("segmenter"), Classes.of(classes=zoo.CLASSES)
    params = one_of(net.init([0]), 0)
    means = net.features(params, ROWS, False).mean((2, 3))
    expected = apply_head(means, params[HEAD_WEIGHT], params[HEAD_BIAS]).argmax(1)
    assert torch.equal(target.answers(net.one(params, ROWS, False)), expected)


# What tasks ask for reaches the net.


@pytest.mark.parametrize("name", AT_PLACES)
def test_a_convolutional_net_has_the_same_maps_before_its_head_whether_it_answers_at_places(name: str):
    shape, options = (1, 24, 24), NEEDED.get(name, {})
    rows, places = (Net(plugins.net_builder(name, options, shape, 5, places=asked), shape) for asked in (False, True))
    own, of_rows = (one_of(made.init([0]), 0) for made in (places, rows))
    body = [key for key in own if key not in (HEAD_WEIGHT, HEAD_BIAS)]
    assert all(torch.equal(own[key], of_rows[key]) for key in body)
    assert places.places and own[HEAD_WEIGHT].shape == (5, places.width)


def test_a_net_that_answers_once_a_row_is_refused_before_anything_where_answers_at_places_are_asked_for(tmp_path: Path):
    words = (
        "'mlp' answers once a row, and tasks of this stream ask for answers at places: use unet, deeplab, or a net that"
    )
    found = call("run", experiment(tmp_path, 'name = "mlp"'), "-s", "finetune", "--out", tmp_path / "run")
    assert found.exit_code == 2 and words in " ".join(found.output.split())
    with_backbone = Experiment.of(experiment(tmp_path, 'name = "mlp"'), "finetune", **{"backbone.source": "digits"})
    with pytest.raises(UsageError, match=r"^net\.name: 'mlp' answers once a row"):
        with_backbone.backbone(with_backbone.stream())


@pytest.mark.parametrize(("views", "places"), [('["classes", "autoencode"]', True), ('["classes"]', False)])
def test_a_convolutional_net_answers_at_places_only_where_a_task_of_the_stream_asks_for_that(
    tmp_path: Path, views: str, places: bool
):
    made = Experiment.of(experiment(tmp_path, 'name = "small_cnn"\nwidth = 4\nlayers = 1', views=views), "finetune")
    stream = made.stream()
    net = made.build_strategy(stream).net
    assert (net.places, net.outputs) == (places, stream.outputs)


def test_a_backbone_is_trained_for_the_net_that_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CL_CACHE", str(tmp_path / "cache"))
    found = []
    for views in ('["classes"]', '["classes", "autoencode"]'):
        path = experiment(tmp_path, 'name = "small_cnn"\nwidth = 8\nlayers = 2', views=views)
        made = Experiment.of(path, "finetune", **BACKBONE)
        stream = made.stream()
        backbone = made.backbone(stream)
        start = made.build_strategy(stream, backbone).net.init([0])
        assert all(torch.equal(start[key][0], tensor) for key, tensor in backbone.params.items())
        assert backbone.about["accuracy"] > 0.8
        found.append(backbone.about["digest"])
    assert found[0] != found[1]


def test_a_backbone_of_other_tokens_than_the_streams_is_refused(tmp_path: Path):
    path = experiment(tmp_path, 'name = "transformer"', "phrases?rows=60&test_rows=20", '["classes", "words"]')
    made = Experiment.of(path, "finetune", **{"backbone.source": "digits"})
    with pytest.raises(
        UsageError, match=r"^backbone\.source: the inputs of 'digits' are of no tokens, the stream's of \d+"
    ):
        made.backbone(made.stream())


def test_a_strategy_of_avalanche_refuses_a_net_of_places():
    with pytest.raises(UsageError, match=r"^avalanche:Naive takes one answer a row"):
        Recipe("Naive", {}, at_places("segmenter"), Train(), "class", "one").check()


# Tokens.


class Sentences(nn.Module):
    """Reads tokens by a table, which takes whole numbers alone."""

    def __init__(self, vocabulary: int, num_classes: int) -> None:
        super().__init__()
        self.table, self.hidden = nn.Embedding(vocabulary, 8), nn.LazyLinear(6)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.table(x).mean(1)).relu())


def tokens_net(name: str = "tests.test_places:Sentences", **options: Any) -> Net:
    build = plugins.net_builder(name, options, (7,), 3, vocabulary=30)
    return Net(build, (7,), mean=[10.0], std=[20.0], vocabulary=30)


@pytest.mark.parametrize("name", ["tests.test_places:Sentences", "transformer"])
def test_tokens_reach_a_net_as_they_are_with_one_seed_and_with_three(name: str):
    net, target = tokens_net(name), Classes.of(classes=3)
    assert net.prepare(TOKENS) is TOKENS
    labels = TOKENS[:, 0] % 3
    alone, among = trained(net, [1], TOKENS, labels, target), trained(net, [0, 1, 2], TOKENS, labels, target)
    for key, tensor in alone.items():
        torch.testing.assert_close(tensor[0], among[key][1], rtol=1e-3, atol=1e-4)
    assert net._batched, "seeds of a net of tokens cannot run as one"
    assert net.all(among, TOKENS).shape == (3, 12, 3)


def test_whole_numbers_that_are_no_tokens_are_scaled():
    made = net("mlp", (7,), 3)
    assert torch.equal(made.prepare(TOKENS), (TOKENS.float() - 10) / 20)


def test_what_looks_at_a_net_of_tokens_shows_it_tokens():
    net = tokens_net()
    assert net.example(2).max() == 29
    assert Bottleneck(net, bottleneck=2).channels == {"table": 8, "hidden": 6}
    assert Gates.of(net, (7,)).layers == ["hidden"]


def test_a_transformer_is_cut_into_modules_layer_by_layer_and_adapted_after_each():
    net = tokens_net("transformer", layers=3, width=8)
    assert len(division(net)) == 5
    assert Bottleneck(net, bottleneck=2).channels == {"tokens": 8, "layers.0": 8, "layers.1": 8, "norm": 8}


def test_a_net_has_the_vocabulary_of_the_stream_unless_a_greater_one_is_chosen(tmp_path: Path):
    source, views = "phrases?rows=60&test_rows=20", '["classes", "words"]'

    def made(options: str = "") -> Net:
        path = experiment(tmp_path, f'name = "transformer"\nwidth = 8\nlayers = 1\n{options}', source, views)
        found = Experiment.of(path, "finetune")
        stream = found.stream()
        assert stream.vocabulary is not None
        return found.build_strategy(stream).net

    tokens = made().shapes["tokens.weight"][0]
    assert made(f"vocabulary = {tokens + 5}").shapes["tokens.weight"][0] == tokens + 5
    with pytest.raises(UsageError, match=rf"net\.vocabulary: found 3, and inputs are of {tokens} tokens"):
        made("vocabulary = 3")


def test_a_net_whose_table_is_smaller_than_the_vocabulary_is_refused_before_the_first_step():
    with pytest.raises(UsageError, match=r"net\.name: the net does not accept inputs of shape \(7,\): IndexError"):
        Net(lambda: Sentences(20, 3), (7,), vocabulary=30)


@pytest.mark.parametrize("name", ["finetune", "replay", "packnet", "hat", "mntdp", "experts", "skill_recall"])
def test_strategies_learn_tokens_and_keep_them_as_they_are(name: str):
    strategy: Strategy = plugins.load("strategies", name)(tokens_net(), train=Train(batch=6))
    strategy.state = strategy.start()
    data = Data(TOKENS, TOKENS[:, 0] % 3)
    for task in range(2):
        experience = Experience(step=task, task_id=task, train=data, validation=data, classes=3)
        for _ in strategy.learning(experience):
            pass
    assert strategy.predict(TOKENS, 1).shape == (1, 12, 3)


@pytest.mark.parametrize(("name", "largest"), [("small_cnn", 32 * 16 * 16), ("unet", 4 * 16 * 16)])
def test_rows_answered_at_once_on_a_gpu_take_no_more_memory_however_many_seeds_there_are(name: str, largest: int):
    made = net(name, (2, 16, 16), 5, **({"width": 4} if name == "unet" else {}))
    assert made.maps.largest >= largest
    device = torch.device("cuda")
    at_once = [rows_at_once(False, device, seeds, lambda: 2**20) for seeds in (1, 2, 32, 10_000)]
    assert at_once == [MAP_BYTES // 2**22, MAP_BYTES // 2**23, MAP_BYTES // 2**27, 1]
    assert (
        rows_at_once(False, device, 1, lambda: 1)
        == rows_at_once(False, torch.device("cpu"), 32, lambda: 2**30)
        == ROWS_AT_ONCE
    )
    assert [len(part) for part in made.chunks(made.example(300), 3)] == [128, 128, 44]
