"""Online streams of Avalanche: which experience the pieces that arrive were drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_engine.errors import UsageError
from cl_engine.interop.benchmarks import Part, parts_of
from cl_engine.interop.lazy_import import attribute

TRAIN, TEST, WHOLE = ("train", "train_online"), ("test", "original_test"), "original_train"


@dataclass(frozen=True)
class Arrivals:
    """What a benchmark's train stream brings, and the experiences that this was cut from.

    Attributes:
        parts: what arrives, in order.
        wholes: the experiences; of a stream that is not online these are the parts.
        whole_of: for each part the number of the experience that most of its rows are of.
        mixed: whether some part has rows of several experiences.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.interop.avalanche import to_avalanche
    >>> from cl_engine.testing import small
    >>> arrivals_of(to_avalanche(Experiment.of(small.scenario(), "finetune").stream()), [], "mine").whole_of
    [0, 1, 2]
    """

    parts: Sequence[Part]
    wholes: Sequence[Part]
    whole_of: Sequence[int]
    mixed: bool = False


def arrivals_of(benchmark: Any, tests: Sequence[Part], name: str) -> Arrivals:
    """Return what the benchmark's train stream brings; ``tests`` stand for the experiences where nothing else does.

    Raises:
        UsageError: for pieces that do not say which experience they are of.
    """
    experiences = list(stream_of(benchmark, TRAIN, name))
    parts = [Part(experience.dataset) for experience in experiences]
    if not any(is_piece(experience) for experience in experiences):
        return Arrivals(parts, parts, list(range(len(parts))))
    numbers = [index_of(experience) for experience in experiences]
    mixed = any(len(_drawn_from(experience)) > 1 for experience in experiences)
    if WHOLE in benchmark.streams:
        return Arrivals(parts, parts_of(benchmark.streams[WHOLE]), numbers, mixed)
    origins = {
        number: experience.logging().origin_experience for number, experience in zip(numbers, experiences, strict=True)
    }
    if None not in origins.values():
        order = sorted(origins)
        return Arrivals(parts, [Part(origins[k].dataset) for k in order], [order.index(k) for k in numbers], mixed)
    if max(numbers) >= len(tests):
        raise UsageError(
            "the experiences of the online stream do not say what they were cut from: make the benchmark with the stream "
            f"'{WHOLE}' beside it, or with a test experience for each"
        )
    return Arrivals(parts, tests, numbers, mixed)


def stream_of(benchmark: Any, names: Sequence[str], name: str) -> Any:
    """Return the stream that has one of these ``names``, of the benchmark called ``name``.

    Raises:
        UsageError: if there is none.
    """
    streams = getattr(benchmark, "streams", None)
    known = streams if isinstance(streams, Mapping) else {}
    found = [known[own] for own in names if own in known]
    if not found:
        raise UsageError(
            f"stream.benchmark: '{name}' is no benchmark with a train and a test stream; its streams are: "
            f"{', '.join(map(str, known)) or 'none'}"
        )
    return found[0]


def is_piece(experience: Any) -> bool:
    """Return whether an experience is a piece of one, or of several, made for an online stream."""
    return isinstance(experience, attribute("avalanche.benchmarks", "OnlineCLExperience"))


def index_of(experience: Any) -> int:
    """Return an experience's number in its stream; of a piece that of what it was cut from.

    Raises:
        UsageError: for a piece that does not say it.
    """
    whole = experience.logging()
    if is_piece(experience):
        drawn = _drawn_from(experience)
        if drawn:
            return max(drawn, key=lambda number: drawn[number])
        whole = getattr(whole.origin_experience, "logging", lambda: None)()
        if whole is None:
            raise UsageError("an experience of an online stream does not say what it was cut from")
    return int(whole.current_experience)


def _drawn_from(experience: Any) -> dict[int, int]:
    """Return how many rows are of which experience, for a piece that several were mixed for."""
    drawn = getattr(experience, "n_samples_from_each_exp", ())
    return {number: int(rows) for number, rows in enumerate(drawn) if rows}
