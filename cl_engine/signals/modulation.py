"""Modulation: symbols as complex samples of power 1, eight of them a symbol."""

from __future__ import annotations

import numpy as np

SAMPLES_PER_SYMBOL = 8
ROLL_OFF = 0.35  # of the square-root raised cosine
SPAN = 8  # symbols that a pulse reaches to either side
INDEX = 0.5  # of frequency shift keying: half a turn of the phase in two symbols
BANDWIDTH_TIME = 0.35  # of the Gaussian filter of GFSK


def _psk(points: int) -> np.ndarray:
    return np.asarray(np.exp(2j * np.pi * np.arange(points) / points))


def _amplitudes(levels: int) -> np.ndarray:
    return 2.0 * np.arange(levels) - levels + 1


def _qam(levels: int) -> np.ndarray:
    return (_amplitudes(levels)[:, None] + 1j * _amplitudes(levels)).flatten()


def _unit(points: np.ndarray) -> np.ndarray:
    """Return points scaled to a mean power of 1."""
    return np.asarray(points / np.sqrt(np.mean(np.abs(points) ** 2)), dtype=complex)


CONSTELLATIONS = {
    "BPSK": _unit(_psk(2)),
    "QPSK": _unit(_psk(4)),
    "8PSK": _unit(_psk(8)),
    "PAM4, balanced": _unit(_amplitudes(4)),  # without a carrier of its own: levels lie around 0
    "QAM16": _unit(_qam(4)),
    "QAM64": _unit(_qam(8)),
}
MODULATIONS = (*CONSTELLATIONS, "CPFSK", "GFSK")


def root_raised_cosine(times: np.ndarray, roll_off: float = ROLL_OFF) -> np.ndarray:
    """Return the square-root raised cosine pulse at ``times`` in symbols, before it is normalised; its energy is 1 a symbol."""
    t = np.asarray(times, dtype=float)
    edge = 4 * roll_off * t
    centre, pole = np.isclose(t, 0, atol=1e-9), np.isclose(np.abs(edge), 1, atol=1e-9)
    safe = np.where(centre | pole, 0.3 / roll_off, t)  # any time at which the formula has no 0 / 0
    slope = 4 * roll_off * safe
    found = np.sin(np.pi * safe * (1 - roll_off)) + slope * np.cos(np.pi * safe * (1 + roll_off))
    found = found / (np.pi * safe * (1 - slope**2))
    at_pole = (1 + 2 / np.pi) * np.sin(np.pi / (4 * roll_off)) + (1 - 2 / np.pi) * np.cos(np.pi / (4 * roll_off))
    found = np.where(pole, roll_off / np.sqrt(2) * at_pole, found)
    return np.where(centre, 1 - roll_off + 4 * roll_off / np.pi, found)


def pulse() -> np.ndarray:
    """Return the taps of the transmit filter ``[129]``, of energy 1."""
    reach = SPAN * SAMPLES_PER_SYMBOL
    taps = root_raised_cosine(np.arange(-reach, reach + 1) / SAMPLES_PER_SYMBOL)
    return np.asarray(taps / np.sqrt(np.sum(taps**2)))


def gaussian() -> np.ndarray:
    """Return the taps of GFSK's filter, of sum 1."""
    deviation = np.sqrt(np.log(2)) / (2 * np.pi * BANDWIDTH_TIME)  # in symbols
    times = np.arange(-2 * SAMPLES_PER_SYMBOL, 2 * SAMPLES_PER_SYMBOL + 1) / SAMPLES_PER_SYMBOL
    taps = np.exp(-(times**2) / (2 * deviation**2))
    return np.asarray(taps / taps.sum())


def modulated(modulation: str, frames: int, samples: int, draw: np.random.Generator) -> np.ndarray:
    """Return frames of random symbols ``[frames, samples]``, complex, each beginning at a random time within a symbol.

    Linear modulations have a mean power of 1 over many frames, those of frequency in every sample.
    """
    symbols = samples // SAMPLES_PER_SYMBOL + 2 * SPAN + 2
    if modulation in CONSTELLATIONS:
        points = CONSTELLATIONS[modulation]
        spaced = np.zeros((frames, symbols * SAMPLES_PER_SYMBOL), dtype=complex)
        # zeros between symbols take power: the pulse of energy 1 is raised to one of 1 a sample
        spaced[:, ::SAMPLES_PER_SYMBOL] = points[draw.integers(len(points), size=(frames, symbols))]
        whole = filtered(spaced, np.sqrt(SAMPLES_PER_SYMBOL) * pulse())
    else:
        steps = np.repeat(draw.integers(2, size=(frames, symbols)) * 2.0 - 1, SAMPLES_PER_SYMBOL, axis=1)
        if modulation == "GFSK":
            steps = filtered(steps, gaussian()).real
        whole = np.exp(1j * np.pi * INDEX / SAMPLES_PER_SYMBOL * np.cumsum(steps, axis=1))
    begin = SPAN * SAMPLES_PER_SYMBOL + draw.integers(SAMPLES_PER_SYMBOL, size=frames)
    return np.take_along_axis(whole, begin[:, None] + np.arange(samples), axis=1)


def filtered(signal: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Return rows ``[N, L]`` convolved with ``taps`` (of odd number), centred, as long as before."""
    length, half = signal.shape[1], len(taps) // 2
    room = length + len(taps) - 1
    both = np.fft.fft(signal, room, axis=1) * np.fft.fft(taps, room)
    return np.fft.ifft(both, axis=1)[:, half : half + length]
