"""Radio signals: golden values of the arithmetic, the stream of environments, and the loop that keeps a net for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.analysis.plots.environments import candidates_by_segment
from cl_engine.core.bank import Bank
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.experiment import Experiment
from cl_engine.modules.environments import (
    CandidateJudged,
    Description,
    EnvironmentMatched,
    NetLibrary,
    NetReplaced,
)
from cl_engine.nn.net import Net
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.signals.channel import Channel, drawn_frames, faded, noisy, received
from cl_engine.signals.modulation import (
    CONSTELLATIONS,
    MODULATIONS,
    ROLL_OFF,
    SAMPLES_PER_SYMBOL,
    modulated,
    pulse,
    root_raised_cosine,
)
from cl_engine.signals.statistics import signal_statistics
from cl_engine.streams.radio import Radio
from cl_engine.testing.walking import after_each_task, walk


def draw(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


def test_constellations_have_a_mean_power_of_one_and_as_many_points_as_they_say():
    for name, points in CONSTELLATIONS.items():
        assert abs(np.mean(np.abs(points) ** 2) - 1) < 1e-12, name
    assert len(set(CONSTELLATIONS["QAM64"].round(9))) == 64
    assert abs(CONSTELLATIONS["PAM4, balanced"].mean()) < 1e-12


def test_the_root_raised_cosine_has_its_golden_values_where_its_formula_divides_nothing_by_nothing():
    at = np.array([0.0, 1e-10, 1 / (4 * ROLL_OFF), -1 / (4 * ROLL_OFF) + 1e-12])
    np.testing.assert_allclose(root_raised_cosine(at), [1.095634, 1.095634, 0.260603, 0.260603], atol=1e-6)
    near = root_raised_cosine(at + 1e-5)
    np.testing.assert_allclose(near, root_raised_cosine(at), atol=1e-4)


def test_two_filters_one_after_the_other_leave_next_to_nothing_between_symbols():
    taps = pulse()
    assert len(taps) == 129
    both = np.convolve(taps, taps)
    between = both[::SAMPLES_PER_SYMBOL]
    centre = len(between) // 2
    rest = np.sum(np.delete(between, centre) ** 2)
    assert 10 * np.log10(rest / between[centre] ** 2) == pytest.approx(-51.01, abs=0.005)
    spectrum = np.abs(np.fft.fft(taps, 2**14)) ** 2
    beyond = np.abs(np.fft.fftfreq(2**14)) * SAMPLES_PER_SYMBOL > (1 + ROLL_OFF) / 2
    assert spectrum[beyond].sum() / spectrum.sum() < 1e-4


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_what_is_sent_has_a_mean_power_of_one_and_a_constant_envelope_where_frequency_is_keyed(modulation: str):
    sent = modulated(modulation, 1000, 128, draw())
    assert np.mean(np.abs(sent) ** 2) == pytest.approx(1, abs=0.02)
    if modulation.endswith("FSK"):
        np.testing.assert_allclose(np.abs(sent), 1, atol=1e-6)


def test_noise_is_as_strong_as_asked_on_each_frame():
    sent = modulated("QAM16", 1000, 128, draw()) * draw(1).uniform(0.1, 10, size=(1000, 1))
    asked = draw(2).uniform(-20, 20, size=1000)
    noise = noisy(sent, asked, draw(3)) - sent
    power = [np.mean(np.abs(part) ** 2, axis=1) for part in (sent, noise)]
    apart = 10 * np.log10(power[0] / power[1]) - asked
    assert abs(apart.mean()) < 0.05
    assert apart.std() == pytest.approx(4.343 / np.sqrt(128), abs=0.04)


def test_fading_keeps_power_in_the_mean_and_its_paths_fall_exponentially():
    impulse = np.zeros((20_000, 8), dtype=complex)
    impulse[:, 0] = 1
    power = np.mean(np.abs(faded(impulse, 4, draw())) ** 2, axis=0)
    assert power.sum() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(power[1:4] / power[:3], np.exp(-1 / 1.5), atol=0.04)
    assert power[4:].sum() == 0


def test_frames_have_a_root_mean_square_of_one_and_turn_by_no_more_than_the_offset():
    sent = np.ones((500, 128 + 2), dtype=complex)
    arrived = received(sent, Channel(snr=(60.0, 60.0), offset=0.01, taps=3), draw())
    assert arrived.shape == (500, 128)
    np.testing.assert_allclose(np.mean(np.abs(arrived) ** 2, axis=1), 1)
    turns = np.angle(np.sum(arrived[:, 1:] * arrived[:, :-1].conj(), axis=1)) / (2 * np.pi)
    assert 0.009 < np.abs(turns).max() < 0.0101 and turns.min() < -0.009


def test_modulations_are_equally_many_and_statistics_tell_environments_apart():
    def described(channel: Channel, number: int) -> Description:
        x, y = drawn_frames(channel, 400, 128, draw(number))
        assert x.dtype == np.float32 and x.shape == (400, 2, 128) and set(np.bincount(y)) == {50}
        return Description.of(signal_statistics(torch.from_numpy(x))[None])

    channels = [Channel((12, 18)), Channel((0, 6)), Channel((10, 18), 0.01), Channel((10, 18), 0, 4)]
    library, state = NetLibrary(most=4), NetLibrary.start({"w": torch.zeros(1, 2)}, numbers=5)
    for place, channel in enumerate(channels):
        library.put(state, torch.tensor([place]), described(channel, place), {"w": torch.zeros(1, 2)}, place)
        library.use(state, torch.tensor([place]))
    for place, channel in enumerate(channels):
        entry, distance = library.nearest(state, described(channel, 10 + place))
        assert entry.tolist() == [place] and distance.item() < 0.15


def small(**options: Any) -> Radio:
    return Radio(**{"frames": 64, "test_frames": 32, "feedback": 16, **options})


def test_an_environment_that_comes_back_is_the_same_task_with_frames_of_its_own():
    stream = small(segments=[2, 0, 2])
    assert [stream.task_id(step) for step in range(3)] == [0, 1, 0]
    assert stream.name_of(0) == "10 to 18 dB, offset 0.01"
    assert (stream.n_tasks, stream.n_steps) == (2, 3)
    assert not torch.equal(stream[0].train.x, stream[2].train.x)
    assert not torch.equal(stream[0].validation.x, stream[0].train.x[:16])
    assert torch.equal(small(segments=[0, 2]).test(1).x, stream.test(0).x)


def test_so_many_labels_of_a_segment_are_random_and_feedback_and_frames_are_as_they_were():
    clean, bad = small(frames=800, segments=[0, 1]), small(frames=800, segments=[0, 1], noise=[0.0, 0.6])
    assert torch.equal(clean[0].train.y, bad[0].train.y)
    assert torch.equal(clean[1].train.x, bad[1].train.x)
    assert torch.equal(clean[1].validation.y, bad[1].validation.y)
    wrong = (clean[1].train.y != bad[1].train.y).double().mean().item()
    assert wrong == pytest.approx(0.6 * 7 / 8, abs=0.05)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"noise": [1.0, 0, 0, 0]}, r"stream\.noise"),
        ({"noise": [-0.1, 0, 0, 0]}, r"stream\.noise"),
        ({"noise": [0.1]}, r"stream\.noise: 1 shares for 4 segments"),
        (
            {"environments": [{"snr": [18.0, 12.0]}]},
            "SNR of environment 0 goes from 18 to 12 dB; the least comes first",
        ),
        ({"environments": [{"snr": [1.0]}]}, r"stream\.environments\.0\.snr"),
        ({"environments": [{"snr": [1.0, 2.0], "tap": 2}]}, r"stream\.environments\.0\.tap"),
        ({"environments": [{"snr": [1.0, 2.0], "taps": 20}], "samples": 16}, "16 samples is shorter than the 20 taps"),
        ({"segments": [0, 4]}, "there is no environment 4; allowed are 0 to 3"),
        ({"n": 5}, "5 tasks, and stream.environments has 4"),
        ({"frames": 7}, r"stream\.frames"),
        ({"setting": "class"}, r"stream\.setting: environments share their classes"),
    ],
)
def test_environments_that_cannot_be_are_refused_in_a_sentence(options: dict[str, Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        Radio(**options)


def test_cnn1d_reads_signals_of_any_length_and_refuses_images():
    for shape in ((2, 128), (1, 40), (3, 1)):
        net = Net(plugins.net_builder("cnn1d", {"width": 4}, shape, 5), shape)
        assert net.all(net.init([0]), torch.zeros(3, *shape)).shape == (1, 3, 5)
    with pytest.raises(UsageError, match=r"'cnn1d' reads signals of shape \[channels, samples\], found .* \[1, 8, 8\]"):
        Net(plugins.net_builder("cnn1d", {}, (1, 8, 8), 5), (1, 8, 8))
    with pytest.raises(UsageError, match=r"net\.kernel: found 4; use an odd number, such as 5"):
        Net(plugins.net_builder("cnn1d", {"kernel": 4}, (2, 40), 5), (2, 40))


def loop(seeds: tuple[int, ...] = (0,), **changes: Any) -> Experiment:
    """Return a small experiment on radio."""
    own: dict[str, Any] = {
        "stream.environments": [{"snr": [20.0, 20.0]}, {"snr": [-5.0, -5.0]}],
        "stream.segments": [0, 1, 0, 1],
        "stream.noise": [0.0, 0.0, 0.9, 0.0],
        "stream.frames": 160,
        "stream.test_frames": 40,
        "stream.feedback": 80,
        "net.width": 8,
        "net.layers": 3,
        "train.epochs": 1,
        "near": 0.25,
    }
    return Experiment.of("radio_loop", "cognitive_loop", seeds, **{**own, **changes})


def told(experiment: Experiment, kind: type[Event]) -> list[Any]:
    return [event for event in walk(experiment)[2] if isinstance(event, kind)]


def test_environments_are_recognised_and_the_best_net_on_trusted_rows_stays():
    events = list(walk(loop((0, 1)))[2])
    matches = [event for event in events if isinstance(event, EnvironmentMatched)]
    assert [event.near for event in matches] == [(0, 0), (0, 0), (1, 1), (1, 1)]
    assert [event.entry for event in matches[2:]] == [(0, 0), (1, 1)]
    judged = [event for event in events if isinstance(event, CandidateJudged)]
    assert [event.part for event in judged if event.step == 0] == ["new", "shared tuned"]
    bad = {event.part: event.validation for event in judged if event.step == 2}
    assert bad.keys() == {"keep", "shared", "tune", "new", "shared tuned"}
    for replaced in (event for event in events if isinstance(event, NetReplaced)):
        of_step = [event.validation for event in judged if event.step == replaced.step]
        for seed, (entry, before, after) in enumerate(
            zip(replaced.entry, replaced.before, replaced.after, strict=True)
        ):
            assert after == max(own[seed] for own in of_step) >= before
            assert (entry >= 0) == (after > before)


def test_a_batch_is_answered_by_the_net_of_the_environment_it_is_like():
    *_, (stream, strategy) = after_each_task(loop(**{"candidates": ["new"]}))
    state = strategy.state
    for task in range(2):
        x = stream.test(task).x
        own = {name: bank[task] for name, bank in state["nets"].items()}
        torch.testing.assert_close(strategy.predict(x, None), strategy.net.all(own, x))


def test_where_the_task_is_told_a_net_is_its_own_however_alike_the_inputs_are():
    alike = {"stream.environments": [{"snr": [9.0, 9.0]}, {"snr": [9.0, 9.0]}]}
    apart = told(loop(**alike, **{"stream.setting": "task"}), EnvironmentMatched)
    assert [event.entry for event in apart] == [(-1,), (-1,), (0,), (1,)]
    assert [event.near for event in apart] == [(0,), (0,), (1,), (1,)]
    assert [event.near for event in told(loop(**alike), EnvironmentMatched)] == [(0,), (1,), (1,), (1,)]


def test_a_library_that_is_full_gives_up_the_entry_used_least():
    library, state = NetLibrary(most=2), NetLibrary.start({"w": torch.zeros(2, 1)}, numbers=1)
    for number, uses in ((0.0, 1), (10.0, 2)):
        rows, place = Description(torch.full((2, 1), number), torch.ones(2, 1)), library.free(state)
        library.put(state, place, rows, {"w": torch.full((2, 1), number)}, int(number))
        for _ in range(uses):
            library.use(state, place)
    new = Description(torch.full((2, 1), 20.0), torch.ones(2, 1))
    assert library.free(state).tolist() == [0, 0]
    library.put(state, torch.tensor([0, -1]), new, {"w": torch.full((2, 1), 20.0)}, 20)
    library.use(state, torch.tensor([0, 1]))
    assert library.nearest(state, new)[0].tolist() == [0, 1]
    held: Bank = state["nets"]["w"]
    assert held.rows[..., 0].tolist() == [[20.0, 10.0], [0.0, 10.0]]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stream.feedback": 0}, "decides on validation rows, and the stream sets none aside"),
        ({"candidates": ["keep", "tune"]}, "add new or shared"),
        ({"candidates": ["old"]}, r"candidates\.0: input should be"),
    ],
)
def test_a_loop_that_cannot_decide_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        list(walk(loop(**changes))[2])


def test_a_descriptor_for_signals_is_refused_on_images():
    with pytest.raises(UsageError, match=r"'signal' describes inputs of shape \[2, samples\].* \[1, 8, 8\]"):
        list(walk(Experiment.of("permuted_digits", "cognitive_loop", **{"descriptor": "signal"}))[2])


def test_a_picture_shows_the_candidates_and_the_entries_of_each_segment(tmp_path: Any):
    run = open_run(loop((0, 1), **{"stream.segments": [0, 1, 0], "stream.noise": []}).run(tmp_path, device="cpu"))
    drawn = candidates_by_segment(run)
    assert drawn is not None
    labels = {text.get_text() for legend in drawn.legends for text in legend.get_texts()} | {
        text.get_text() for axes in drawn.axes if axes.get_legend() for text in axes.get_legend().get_texts()
    }
    assert {"keep", "tune", "new", "shared", "shared tuned"} <= labels
    plain = open_run(
        Experiment.of("permuted_digits", "finetune", **{"stream.n": 1, "train.epochs": 1}).run(
            tmp_path / "plain", device="cpu"
        )
    )
    assert candidates_by_segment(plain) is None
