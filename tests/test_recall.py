"""Skill recall: what goes into a code comes out again, and consolidation does what its options say."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.checkpoints.store import Store
from cl_engine.core.state import bytes_by_part
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import Event, Progress
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.recall import codes, lattice
from cl_engine.recall.autoencoder import Shape
from cl_engine.recall.by_autoencoder import AutoencoderCodec
from cl_engine.recall.choice import CodecOptions, codec_of
from cl_engine.recall.closed_form import principal_encoder, solve_last_layer
from cl_engine.recall.codec import Batch, SkillCodec
from cl_engine.recall.consolidation import Consolidation, Targets, Trained, consolidate
from cl_engine.recall.events import Consolidated, RecallVerified, SkillBytes, SkillRecalled, SkillStored
from cl_engine.recall.manifest import Manifest, chunked, joined
from cl_engine.recall.numbers import Rows
from cl_engine.recall.sketch import Sketches
from cl_engine.recall.stop import StopRule, agreement
from cl_engine.runs import plugins
from cl_engine.strategies.skill_recall import SkillRecall
from cl_engine.testing.small import with_batchnorm

Tiny = Callable[..., Experiment]
CPU = torch.device("cpu")


def returned(generator: Generator[Event, None, Any]) -> Any:
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def codec(sizes: list[int], seeds: int = 2, **options: Any) -> SkillCodec:
    return codec_of(CodecOptions.of(options), range(seeds), sizes, CPU)


def skills(count: int, size: int, seeds: int = 2, draw: int = 0) -> torch.Tensor:
    return torch.randn(seeds, count, size, generator=torch.Generator().manual_seed(draw))


def store(kept: SkillCodec, state: dict[str, Any], vectors: torch.Tensor, rows: list[int], step: int = 0) -> None:
    centre = torch.zeros(vectors.shape[0], vectors.shape[2])
    batch = Batch(vectors, rows, len(rows) - 1, centre, step, lambda m, v: torch.ones(len(m)), torch.ones(len(vectors)))
    returned(kept.keep(state, batch))


# The codec from net to vector


@pytest.mark.parametrize("net", ["mlp", "lenet", "lenet_dropout", "resnet18"])
@pytest.mark.parametrize("heads_inside", [True, False])
def test_a_net_goes_through_its_vector_and_comes_back_as_it_was(net: str, heads_inside: bool):
    shape = (3, 32, 32)
    made = Net(plugins.net_builder(net, plugins.load("nets", net).Options().model_dump(), shape, 5), shape)
    params = made.init([0, 3])
    manifest = Manifest.of(made, params, heads_inside=heads_inside)
    back = manifest.params(manifest.vector(params), manifest.rest(params))
    assert back.keys() == params.keys()
    for name, tensor in params.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    assert manifest.bytes == sum(tensor[0].numel() * tensor.element_size() for tensor in params.values())
    kinds = {entry.name: entry.kind for entry in (*manifest.inside, *manifest.outside)}
    assert all((kinds[name] == "statistic") == made.is_buffer(name) for name in params)
    assert any(entry.kind == "head" for entry in manifest.inside) == heads_inside


def test_statistics_and_counters_stand_outside_the_vector_in_their_own_type():
    made = Net(lambda: with_batchnorm(3, 4), (1, 8, 8))
    manifest = Manifest.of(made, made.init([0]))
    assert {entry.dtype for entry in manifest.inside} == {torch.float32}
    assert any(entry.dtype == torch.int64 for entry in manifest.outside)


@given(st.integers(1, 400), st.integers(1, 90), st.integers(1, 4))
@settings(deadline=None)
def test_chunks_put_together_are_the_vector_and_the_padding_is_zero(length: int, size: int, count: int):
    vectors = torch.arange(1.0, 1 + count * length).reshape(count, length)
    chunks = chunked(vectors, size)
    assert chunks.shape == (count, -(-length // size), size)
    assert torch.equal(joined(chunks, length), vectors)
    assert int((chunks == 0).sum()) == count * (chunks.shape[1] * size - length)


# Lattices, entropy coding, rows of few bits


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=300))
@settings(deadline=None)
def test_entropy_coded_numbers_come_back_also_with_bytes_after_the_end(values: list[int]):
    symbols = np.array(values)
    assert np.array_equal(lattice.unpacked(lattice.packed(symbols) + b"\0\0\0"), symbols)


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(min_size=1, max_size=30)), min_size=1, max_size=12))
@settings(deadline=None)
def test_codes_written_and_overwritten_in_any_order_are_each_found_again(writes: list[tuple[int, bytes]]):
    writes = [(row, code * 150) if len(code) % 3 else (row, code) for row, code in writes]  # some of several pages
    part = codes.no_codes(2, CPU)
    model: list[bytes] = []
    for wanted, code in writes:
        row = min(wanted, len(model))
        model[row : row + 1] = [code]
        codes.put_code(part, row, [code, code[:1]])
    assert codes.PAGE * len(part["pages"]) + part["tail"].shape[1] == sum(map(len, model))
    for row, code in enumerate(model):
        assert codes.code_of(part, row) == [code, code[:1] + bytes(len(code) - 1)]


def test_one_more_code_is_saved_at_the_price_of_one_code(tmp_path: Path):
    part, store = codes.no_codes(1, CPU), Store(tmp_path / "state.safetensors")
    draw = np.random.default_rng(0)
    written = []
    for row in range(80):
        codes.put_code(part, row, [draw.bytes(draw.integers(5_000, 7_000))])
        written.append(store.save({"codes": part}))
    assert np.mean(written[-20:]) < 3 * 6_000


@given(st.integers(2, 8), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_lattice_point_is_at_most_half_a_step_away_and_no_prediction_moves_it(bits: int, draw: int):
    vectors = skills(1, 50, draw=draw)[:, 0]
    steps = lattice.spread(lattice.steps_of(vectors, [20, 30], bits), [20, 30])
    plain = lattice.located(lattice.rounded(vectors, steps), steps)
    assert ((plain - vectors).abs() <= steps * 0.501).all()
    predicted = skills(1, 50, draw=draw + 1)[:, 0] * 0.1
    torch.testing.assert_close(lattice.located(lattice.rounded(vectors, steps, predicted), steps, predicted), plain)


@given(st.sampled_from([4, 5, 6, 7, 8, 16, 32]), st.booleans(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_rows_of_few_bits_come_back_within_half_of_their_scale(bits: int, coded: bool, draw: int):
    rows = Rows(torch.tensor([0, 0, 1, 1, 1, 2]), bits, coded)
    part = rows.empty(2)
    values = skills(3, 6, draw=draw)
    for row in (0, 1, 2, 1):
        rows.put(part, row, values[:, row])
    assert rows.held(part) == 3
    assert rows.writes(part, 1) == 2
    tolerance = values.abs().max() / (2 ** (bits - 1) - 1) * 0.51 if bits <= 8 else 2e-3
    for row in range(3):
        assert ((rows.row(part, row) - values[:, row]).abs() <= tolerance).all()


# The autoencoder


@pytest.mark.parametrize("activation", ["tanh", "elu", "linear", "relu"])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 4)])
def test_the_contractive_penalty_is_the_exact_norm_of_the_jacobian(activation: str, hidden: tuple[int, ...]):
    shape = Shape(7, hidden, 3, activation, activation)
    encoder = shape.init_encoder([0, 1])
    for count in (1, 4):
        x = skills(count, 7)
        penalty = shape.contraction(encoder, shape.encoder_values(encoder, x))
        for seed in range(2):
            own = {name: tensor[seed : seed + 1] for name, tensor in encoder.items()}
            for row in range(count):
                jacobian = torch.autograd.functional.jacobian(
                    lambda v, own=own: shape.encode(own, v.reshape(1, 1, -1)).flatten(), x[seed, row]
                )
                torch.testing.assert_close(penalty[seed, row], jacobian.square().sum(), rtol=1e-4, atol=1e-6)


def test_the_last_layer_is_solved_exactly_for_as_many_samples_as_features():
    shape = Shape(40, (), 8)
    x = skills(8, 40)
    encoder = principal_encoder(shape, shape.init_encoder([0, 1]), x)
    decoder = shape.init_decoder([0, 1])
    codes = shape.encode(encoder, x)
    solve_last_layer(shape, decoder, codes, x)
    assert (agreement(shape.decode(decoder, codes), x) > 0.99999).all()


def test_principal_directions_are_as_good_as_the_best_linear_code():
    shape = Shape(30, (), 4, latent_activation="linear")
    for count in (12, 60):  # fewer and more samples than inputs: either Gram matrix
        x = skills(count, 30)
        encoder, decoder = principal_encoder(shape, shape.init_encoder([0, 1]), x), shape.init_decoder([0, 1])
        codes = shape.encode(encoder, x)
        solve_last_layer(shape, decoder, codes, x)
        lost = (shape.decode(decoder, codes) - x).square().sum(dim=(1, 2))
        best = torch.linalg.svdvals(x)[:, 4:].square().sum(dim=1)
        assert (lost <= best * 1.001).all()


PLAIN = {"code_lr": 5e-3, "closed_form": False}


def consolidated(how: Consolidation, threshold: float, seeds: tuple[int, ...] = (0, 1), count: int = 3) -> Trained:
    shape = Shape(20, (12,), 6)
    each = torch.cat([skills(count, 20, 1, draw=seed) for seed in seeds])
    targets = Targets(each.unsqueeze(2), torch.ones(len(seeds), count, 1), 20, torch.zeros(len(seeds), 20))
    start = Trained(shape.init_encoder(seeds), shape.init_decoder(seeds))
    done: Trained = returned(
        consolidate(shape, start, targets, StopRule(stop="residual", threshold=threshold), how, seeds, 0, 0)
    )
    return done


@pytest.mark.parametrize("resend", ["none", "loss", "cosine", "mean"])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_seeds_end_on_their_own_and_learn_the_same_alone_as_beside_others(resend: str, batch: int):
    how = Consolidation.of({**PLAIN, "max_passes": 400, "code_batch": batch, "resend": resend, "hard": 0.01})
    both = consolidated(how, 0.99, (3, 8))
    for place, seed in enumerate((3, 8)):
        alone = consolidated(how, 0.99, (seed,))
        assert alone.epochs[0] == both.epochs[place] < 400
        for name, tensor in alone.decoder.items():
            torch.testing.assert_close(tensor[0], both.decoder[name][place], rtol=1e-3, atol=1e-4)


def test_a_tighter_rule_takes_more_passes_and_the_cap_ends_what_cannot_be_reached():
    how = Consolidation.of({**PLAIN, "max_passes": 300})
    loose, tight = consolidated(how, 0.9), consolidated(how, 0.99)
    assert all(one < other for one, other in zip(loose.epochs, tight.epochs, strict=True))
    assert consolidated(how, 2.0).epochs == [300, 300]


def test_the_contractive_penalty_lowers_the_slope_of_the_code():
    shape, x = Shape(20, (12,), 6), torch.cat([skills(3, 20, 1, draw=seed) for seed in (0, 1)])
    slopes = []
    for weight in (0.0, 1e-2):
        encoder = consolidated(Consolidation.of({**PLAIN, "max_passes": 100, "contractive": weight}), 2.0).encoder
        slopes.append(float(shape.contraction(encoder, shape.encoder_values(encoder, x)).sum()))
    assert slopes[1] < slopes[0]


def test_a_threshold_may_depend_on_the_number_of_skills():
    rule = StopRule(stop="cosine", threshold=[[5, 0.9996], [10, 0.987], [11, 0.986]])
    assert [rule.wanted(skills) for skills in (1, 5, 6, 10, 11, 300)] == [0.9996, 0.9996, 0.987, 0.987, 0.986, 0.986]


# Codecs behind the one interface

CODECS: dict[str, dict[str, Any]] = {
    "default": {},
    "blocks of three": {"block": 3, "latent": 3},
    "one for all": {"block": 0, "latent": 12},
    "in chunks": {"chunk": 17, "latent": 17, "block": 4},
    "steps": {"closed_form": False, "hidden": [30], "latent": 20, "max_passes": 3000, "block": 4, "code_lr": 3e-3},
    "with residuals": {"latent": 2, "residual_bits": 8, "max_passes": 3},
    "towards references": {"references": "quantised", "bits": 8, "block": 4},
    "latents in 8 bits": {"latent_bits": 8},
    "quantised": {"codec": "quantised", "bits": 8},
    "basis": {"codec": "basis"},
}


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_recalls_what_it_was_given_batch_after_batch(name: str):
    kept = codec([60, 40], **CODECS[name])
    state, given = kept.start(), skills(10, 100)
    for begin in range(0, 10, 2):
        store(kept, state, given[:, begin : begin + 2], [begin, begin + 1], step=begin)
        assert kept.held(state) == begin + 2
    for row in range(10):
        assert (agreement(kept.recall(state, row), given[:, row]) > 0.99).all()


@pytest.mark.parametrize("name", CODECS)
def test_an_unchanged_version_promises_the_same_recollection_bit_for_bit(name: str):
    kept = codec([60, 40], **CODECS[name] | {"max_passes": 20})
    state, given = kept.start(), skills(8, 100)
    seen: dict[tuple[int, int], torch.Tensor] = {}
    for begin in range(0, 8, 2):
        store(kept, state, given[:, begin : begin + 2], [begin, begin + 1], step=begin)
        for row in range(begin + 2):
            now = kept.recall(state, row)
            assert torch.equal(seen.setdefault((row, kept.version(state, row)), now), now)


def test_a_full_block_never_changes_again_and_gives_up_what_only_learning_needs():
    options = {"closed_form": False, "hidden": [8], "latent": 4, "max_passes": 5, "references": "quantised"}
    kept = codec([100], block=2, **options)
    state, given = kept.start(), skills(4, 100)
    store(kept, state, given[:, :1], [0])
    assert "encoder" in state
    assert len(state["references"]["steps"]) == 1
    store(kept, state, given[:, 1:2], [1])
    assert "encoder" not in state
    assert len(state["references"]["steps"]) == 0
    before = kept.recall(state, 0)
    store(kept, state, given[:, 2:], [2, 3])
    assert torch.equal(kept.recall(state, 0), before)
    assert not kept.replaceable(state, 1)


def test_corrected_recollections_do_not_drift_however_often_the_autoencoder_is_retrained():
    kept = codec([100], latent=1, residual_bits=6, max_passes=3, block=0)
    state, given = kept.start(), skills(8, 100)
    store(kept, state, given[:, :1], [0])
    first = kept.recall(state, 0)
    for row in range(1, 8):
        store(kept, state, given[:, row : row + 1], [row], step=row)
    torch.testing.assert_close(kept.recall(state, 0), first, rtol=0, atol=1e-5)


def test_similar_skills_cost_a_predicting_code_less_than_one_that_shares_nothing():
    directions, amounts = skills(3, 2000), skills(30, 3, draw=1)
    similar = amounts @ directions + 0.01 * skills(30, 2000, draw=2)
    sizes = {}
    for name, options in {
        "quantised": {"codec": "quantised"},
        "autoencoder": {"latent": 4, "block": 0, "decoder_bits": 5, "max_passes": 1},
        "corrected": {"latent": 4, "block": 0, "decoder_bits": 5, "residual_bits": 5, "max_passes": 1},
        "basis": {"codec": "basis", "decoder_bits": 5, "threshold": 0.98},
    }.items():
        kept = codec([2000], **options)
        state = kept.start()
        store(kept, state, similar, list(range(30)))
        sizes[name] = sum(bytes_by_part(state).values())
        assert all((agreement(kept.recall(state, row), similar[:, row]) > 0.95).all() for row in range(30))
    assert sizes["autoencoder"] < sizes["quantised"] / 4
    assert sizes["basis"] < sizes["quantised"] / 4
    assert sizes["corrected"] < sizes["quantised"] / 1.5


def test_a_basis_gains_a_direction_only_where_the_skill_does_not_lie_within_it():
    kept = codec([50], codec="basis", decoder_bits=32)
    state, given = kept.start(), skills(2, 50)
    store(kept, state, given, [0, 1])
    store(kept, state, given.sum(dim=1, keepdim=True), [2])
    assert len(state["basis"]["numbers"]) == 2
    torch.testing.assert_close(kept.recall(state, 2), given.sum(dim=1), rtol=1e-4, atol=1e-4)


def test_an_unscaled_code_with_tanh_at_its_end_cannot_recall_weights_beyond_one_but_a_scaled_one_can():
    large = 30 * skills(2, 100)
    tanh = codec([100], closed_form=False, output="tanh", scaled=False, hidden=[20], latent=10, max_passes=300)
    state = tanh.start()
    store(tanh, state, large, [0, 1])
    assert tanh.recall(state, 0).abs().max() <= 1
    default = codec([100])
    state = default.start()
    store(default, state, large, [0, 1])
    assert (agreement(default.recall(state, 0), large[:, 0]) > 0.999).all()


def test_diagnostics_estimate_the_cosine_without_the_original():
    sketches = Sketches(5000, 128, CPU)
    original, centre = skills(1, 5000)[:, 0], skills(1, 5000, draw=5)[:, 0]
    for noise in (0.01, 0.1, 0.5):
        recalled = original + noise * skills(1, 5000, draw=9)[:, 0]
        whole, residual = sketches.cosines(sketches.of(original, centre), recalled, centre)
        torch.testing.assert_close(1 - residual, 1 - agreement(recalled, original), rtol=0.5, atol=1e-6)
        torch.testing.assert_close(1 - whole, 1 - agreement(recalled + centre, original + centre), rtol=0.5, atol=1e-6)


# The strategy


def heard(experiment: Experiment) -> tuple[list[Event], SkillRecall]:
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    assert isinstance(strategy, SkillRecall)
    events = [e for e in simulate(stream, strategy, plan(stream, experiment.agenda)) if not isinstance(e, Progress)]
    return events, strategy


def test_nets_that_wait_are_served_exactly_and_then_recalled(tiny: Tiny):
    whole = tiny("independent")
    stream = whole.stream()
    independent = whole.build_strategy(stream)
    for _ in simulate(stream, independent, plan(stream, whole.agenda)):
        pass
    _, strategy = heard(tiny("skill_recall", buffer=4))
    for task in range(3):
        x = stream.test(task).x
        assert torch.equal(strategy.predict(x, task), independent.predict(x, task))
    _, strategy = heard(tiny("skill_recall", buffer=3, block=3, closed_form=True, latent=3))
    for task in range(3):
        x = stream.test(task).x
        torch.testing.assert_close(strategy.predict(x, task), independent.predict(x, task), rtol=0.1, atol=0.1)


def test_the_events_of_a_consolidation_say_what_it_did(tiny: Tiny):
    events, strategy = heard(tiny("skill_recall", buffer=1, block=0))
    done = [event for event in events if isinstance(event, Consolidated)]
    assert [event.skills for event in done] == [1, 2, 3]
    assert done[0].passes == (10, 10)
    assert np.isnan(done[0].previous).all()
    for event in done[1:]:
        assert all(worst <= mean <= 1.0001 for worst, mean in zip(event.previous_worst, event.previous, strict=True))
    assert {event.task_id for event in events if isinstance(event, RecallVerified)} == {0, 1, 2}
    assert all(event.seconds > 0 for event in events if isinstance(event, SkillRecalled))
    assert [event.waiting for event in events if isinstance(event, SkillStored)] == [0, 0, 0]
    last = [event for event in events if isinstance(event, SkillBytes)][-1]
    assert last.kept_whole == 3 * strategy.net.parameters * 4
    assert last.recall_only <= last.in_all


def test_diagnostics_are_neither_memory_of_the_learner_nor_read_by_it(tiny: Tiny):
    with_them, strategy = heard(tiny("skill_recall"))
    without, other = heard(tiny("skill_recall", sketch=0))
    assert "diagnostics" not in other.state
    sizes = [[e for e in events if isinstance(e, SkillBytes)] for events in (with_them, without)]
    assert sizes[0] == sizes[1]
    x = tiny("skill_recall").stream().test(1).x
    assert torch.equal(strategy.predict(x, 1), other.predict(x, 1))


def test_nets_start_where_they_are_told_to_and_are_pulled_there(tiny: Tiny):
    _, scratch = heard(tiny("skill_recall", begin="scratch"))
    assert not torch.equal(scratch._start_of(0)["head.weight"], scratch._start_of(1)["head.weight"])
    _, mean = heard(tiny("skill_recall", begin="mean", buffer=2))
    start = mean.manifest.vector(mean._start_of(2))
    assert not torch.equal(start, mean.manifest.vector(mean._initial))
    torch.testing.assert_close(start, mean.state["mean"]["start"])
    far, near = (heard(tiny("skill_recall", buffer=9, pull=pull))[1] for pull in (0.0, 10.0))
    away = [(s.state["waiting"].rows - s.manifest.vector(s._initial).unsqueeze(1)).norm() for s in (far, near)]
    assert away[1] < away[0] / 3


def test_a_task_that_comes_back_has_one_code_and_is_learned_on(tiny: Tiny):
    for block in (0, 2):
        events, strategy = heard(
            tiny("skill_recall", **{"stream.revisit": [1, 1], "buffer": 1, "block": block, "latent": 3})
        )
        assert len(strategy.state["places"]) == 3
        assert [e.skills for e in events if isinstance(e, SkillBytes)][-1] == 3
        assert strategy.keeper.held(strategy.state) == (3 if block == 0 else 5)  # frozen blocks are not rewritten


def test_work_can_be_stopped_in_the_middle_of_a_consolidation(tiny: Tiny):
    experiment = tiny("skill_recall", buffer=1, max_passes=100_000)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    progress = [event for event, _ in zip(strategy.learning(stream[0]), range(20), strict=False)]
    assert sum(isinstance(event, Progress) for event in progress) > 10


@pytest.mark.parametrize("rule", ["cosine", "residual", "accuracy"])
def test_each_stop_rule_ends_a_consolidation(tiny: Tiny, rule: str):
    threshold = 0.05 if rule == "accuracy" else 0.9
    events, _ = heard(
        tiny("skill_recall", stop=rule, threshold=threshold, max_passes=3000, hidden=[20], latent=8, closed_form=False)
    )
    done = next(event for event in events if isinstance(event, Consolidated))
    assert max(done.passes) < 3000
    if rule != "accuracy":
        assert min(getattr(done, f"{rule}_worst")) >= 0.89
    else:
        told = next(event for event in events if isinstance(event, RecallVerified))
        assert all(now >= was - 0.06 for now, was in zip(told.recalled, told.original, strict=True))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threshold": [[5, 0.9], [3, 0.8]]}, "growing pairs"),
        ({"threshold": []}, "growing pairs"),
        ({"begin": "mean", "buffer": 1}, "set buffer to 2 or more"),
        ({"code_optimizer": "nonsense"}, "no optimiser 'nonsense'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(tiny: Tiny, options: dict[str, Any], sentence: str):
    experiment = tiny("skill_recall", **options)
    with pytest.raises(UsageError, match=sentence):
        heard(experiment)


def test_an_autoencoder_codec_is_what_the_default_options_give():
    assert isinstance(codec([10]), AutoencoderCodec)


# Options in groups

FLAT = {"codec": "basis", "latent": 4, "code_lr": 2e-3, "max_passes": 7, "threshold": [[2, 0.9], [5, 0.8]], "bits": 3}


def test_options_of_groups_are_set_by_flat_keys_and_reach_the_codec_under_the_same_name(tiny: Tiny):
    experiment = tiny("skill_recall", **FLAT)
    strategy = experiment.build_strategy(experiment.stream())
    assert isinstance(strategy, SkillRecall)
    code = strategy.code
    found = (code.codec, code.layers.latent, code.consolidation.code_lr, code.consolidation.max_passes)
    assert (*found, code.rule.threshold, code.budget.bits) == tuple(FLAT.values())
    assert strategy.options() == experiment.resolved["strategy"]
    assert strategy.options().keys() == SkillRecall.Options.model_fields.keys()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"latent": 0}, r"strategy\.skill_recall\.latent: input should be greater than or equal to 1, found 0"),
        ({"bits": 9}, r"strategy\.skill_recall\.bits: input should be less than or equal to 8, found 9"),
        ({"latnt": 4}, r"no option named 'strategy\.skill_recall\.latnt'"),
        ({"layers": {"latent": 4}}, r"no option named 'strategy\.skill_recall\.layers'"),
    ],
)
def test_an_option_in_a_group_is_refused_by_its_flat_key(tiny: Tiny, options: dict[str, Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        tiny("skill_recall", **options)
