"""Channels: multipath fading, an oscillator that is off, and noise of a given strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cl_engine.signals.modulation import MODULATIONS, modulated

DECAY = 1.5  # samples in which the mean power of later paths falls by e


@dataclass(frozen=True)
class Channel:
    """What lies between sender and receiver.

    >>> Channel(snr=(12.0, 18.0)).taps
    1

    Attributes:
        snr: least and greatest ratio of signal to noise, in dB; drawn evenly for each frame.
        offset: greatest offset of the carrier, in cycles a sample; drawn evenly, of either sign.
        taps: paths, a sample apart.
    """

    snr: Sequence[float]
    offset: float = 0.0
    taps: int = 1


def faded(signal: np.ndarray, taps: int, draw: np.random.Generator) -> np.ndarray:
    """Return frames ``[N, L]`` after Rayleigh fading, drawn for each: paths of exponentially falling mean power, 1 in all.

    The first ``taps − 1`` samples of the result lack echoes of what was sent before.
    """
    power = np.exp(-np.arange(taps) / DECAY)
    deviation = np.sqrt(power / power.sum() / 2)
    gains = deviation * (draw.standard_normal((len(signal), taps)) + 1j * draw.standard_normal((len(signal), taps)))
    found = np.zeros_like(signal)
    for delay in range(taps):
        found[:, delay:] += gains[:, delay, None] * signal[:, : signal.shape[1] - delay]
    return found


def noisy(signal: np.ndarray, snr: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return frames ``[N, L]`` with complex white noise, ``snr [N]`` dB below the power of each frame as it is."""
    deviation = np.sqrt(np.mean(np.abs(signal) ** 2, axis=1) * 10 ** (-snr / 10) / 2)
    noise = draw.standard_normal(signal.shape) + 1j * draw.standard_normal(signal.shape)
    return np.asarray(signal + deviation[:, None] * noise)


def received(signal: np.ndarray, channel: Channel, draw: np.random.Generator) -> np.ndarray:
    """Return what arrives of frames ``[N, L + taps − 1]`` sent: ``[N, L]``, each of root mean square 1."""
    frames = len(signal)
    arrived = faded(signal, channel.taps, draw)[:, channel.taps - 1 :]
    turn = draw.uniform(-channel.offset, channel.offset, size=frames)
    phase = draw.uniform(0, 1, size=frames)
    arrived = arrived * np.exp(2j * np.pi * (phase[:, None] + turn[:, None] * np.arange(arrived.shape[1])))
    low, high = channel.snr
    arrived = noisy(arrived, draw.uniform(low, high, size=frames), draw)
    return np.asarray(arrived / np.sqrt(np.mean(np.abs(arrived) ** 2, axis=1, keepdims=True)))


def drawn_frames(
    channel: Channel, frames: int, samples: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames as real and imaginary part ``[frames, 2, samples]``, float32, and their modulations ``[frames]``.

    Modulations, numbered as in `MODULATIONS`, are equally many, as far as they can be, in a random order.
    """
    labels = draw.permutation(np.arange(frames) % len(MODULATIONS))
    sent = np.empty((frames, samples + channel.taps - 1), dtype=complex)
    for number, modulation in enumerate(MODULATIONS):
        own = labels == number
        sent[own] = modulated(modulation, int(own.sum()), sent.shape[1], draw)
    arrived = received(sent, channel, draw)
    return np.stack([arrived.real, arrived.imag], axis=1).astype(np.float32), labels
