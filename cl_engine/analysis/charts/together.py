"""Figures of the runs of one scenario together, by the names of the pictures (`gallery`) whose place they take on a screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from cl_engine.analysis.charts.cells import matrices_of
from cl_engine.analysis.charts.chart import Chart, Column, Table, joined
from cl_engine.analysis.charts.lines import Named, over_stream
from cl_engine.analysis.charts.search import settings_of
from cl_engine.analysis.charts.specs import lying_bars, points
from cl_engine.analysis.plots.gallery import safe
from cl_engine.analysis.plots.panels import ACCURACY
from cl_engine.analysis.plots.plasticity import SHOWN
from cl_engine.analysis.plots.settings import searched
from cl_engine.analysis.plots.style import COLOURS
from cl_engine.analysis.scores.diagnostics import diagnostics_of
from cl_engine.analysis.scores.losses import training_losses
from cl_engine.analysis.scores.online import online_scores
from cl_engine.analysis.scores.references import delta_m, reference, scores_when_learned
from cl_engine.analysis.scores.retention import retained
from cl_engine.analysis.scores.run_scores import Score, learning_curve
from cl_engine.results.of_measure import of_each_measure
from cl_engine.results.run import Run

LEARNED = "experiences learned"
PHASES = ("learn", "evaluate", "save")
BYTES = "format(datum.value, '~s') + 'B'"
SECONDS = "format(datum.value, '~s') + ' s'"

Made = Callable[[], Chart | None]


def of_all(names: Sequence[str], runs: Sequence[Run]) -> dict[str, Made]:
    """Return how each figure of runs of one scenario is made; what runs do not hold is None then."""
    named = [(name, run) for name, run in zip(names, runs, strict=True) if run.final is not None]
    if not named:
        return {}
    tested = [run for _, run in named]
    found: dict[str, Made] = {
        "accuracy": lambda: over_stream(named, partial(_score, "acc"), "ACC over the stream", LEARNED, "ACC"),
        "forgetting": lambda: over_stream(
            named, partial(_score, "forgetting"), "Forgetting of earlier tasks", LEARNED, "forgetting", levels=False
        ),
        "retention": lambda: over_stream(
            named, _retained, "Tasks learned before", "experiences since a task was learned", "accuracy on it"
        ),
        "learning": lambda: _learning(named),
        "loss": lambda: over_stream(
            named, training_losses, "Training loss", "experience", "training loss, last epoch", by_measure=False
        ),
        "online": lambda: over_stream(
            named, _online, "Batches before they are learned", "experience", "online accuracy", levels=False
        ),
        "units": lambda: _units(named),
        "transfer": lambda: _transfer(named),
        "memory": lambda: _memory(named),
        "accuracy-memory": lambda: _against(
            named, _held, "memory of one seed at the end (logarithmic)", "memory (bytes)", BYTES
        ),
        "accuracy-time": lambda: _against(
            named, _seconds, "time of the run, all seeds together (logarithmic)", "time (s)", SECONDS
        ),
        "seconds": lambda: _phases(named),
        "matrices": lambda: matrices_of(named),
    }
    for strategy in searched(tested):
        found[f"search-{safe(strategy)}"] = partial(settings_of, named, strategy)
    return found


def _score(score: str, run: Run) -> tuple[np.ndarray, np.ndarray]:
    return run.results["evaluation_step"].values + 1, run.results[score].values


def _retained(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    ages, scores = retained(run)
    return (ages, scores) if len(ages) > 1 else None


def _online(run: Run) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(1, run.results.sizes["experience"] + 1), online_scores(run)


def _learning(runs: Named) -> Chart | None:
    units: set[str] = set()

    def drawn(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
        curve = learning_curve(run)
        if curve is None:
            return None
        units.add(curve[0])
        return curve[1], curve[2]

    for _, run in runs:
        drawn(run)
    x = f"{' or '.join(sorted(units))} of an experience"
    return over_stream(runs, drawn, "Learning a task, mean over experiences", x, "test accuracy on the task")


def _units(runs: Named) -> Chart | None:
    """Return what units and weights were like before each experience, a panel a quantity."""
    found: list[tuple[str, str, Chart]] = []
    for quantity, label in SHOWN.items():
        times = 100 if "%" in label else 1

        def drawn(run: Run, quantity: str = quantity, times: int = times) -> tuple[np.ndarray, np.ndarray]:
            steps, values = diagnostics_of(run, quantity)
            return steps + 1, values * times

        chart = over_stream(runs, drawn, "The net before each experience", "experience", label, by_measure=False)
        if chart is not None:
            found.append((label, label, chart))
    if not found:
        return None
    tables: dict[str, Table] = {
        kind: joined(
            [
                {**chart.tables[kind], "panel": np.full(len(chart.tables[kind]["x"]), label, dtype=object)}
                for label, _, chart in found
            ]
        )
        for kind in ("main", "seeds")
    }
    first = found[0][2]
    held = {key: getattr(first, key) for key in first.__dataclass_fields__}
    return Chart(**{**held, "tables": tables, "panels": [(label, y) for label, y, _ in found]})


def _transfer(runs: Named) -> Chart | None:
    parts = of_each_measure([run for _, run in runs])

    def gained(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
        other = reference(run, parts[run.measures[0]], "independent")
        if other is None or other is run:
            return None
        own, alone = scores_when_learned(run), scores_when_learned(other)
        shared = min(len(own), len(alone))
        return run.results["task"].values[:shared], run.sign * (own[:shared] - alone[:shared])

    title = "Right after learning, against a net of its own"
    return over_stream(runs, gained, title, "task", "accuracy gained", levels=False)


def _memory(runs: Named) -> Chart | None:
    def held(run: Run) -> tuple[np.ndarray, np.ndarray]:
        total = run.results["memory"].sum("part").values
        return np.arange(1, len(total) + 1), total[:, None] / 1e3

    return over_stream(runs, held, "Memory growth", LEARNED, "memory of one seed (kB)", by_measure=False, log_too=True)


def _held(run: Run) -> float:
    return float(run.results["memory"].values[-1].sum())


def _seconds(run: Run) -> float:
    return float(np.nansum(run.results["seconds"].values))


def _against(runs: Named, price: Callable[[Run], float], x: str, short: str, way: str) -> Chart | None:
    """Return ACC, or across measures Δm, at the end against what it costs."""
    tested = [run for _, run in runs]
    measures = list(dict.fromkeys(measure for run in tested for measure in run.measures))
    rows, seeds = [], []
    for name, run in runs:
        worth = Score(run.final["acc"].values if len(measures) == 1 else delta_m(run, tested))  # type: ignore[index]
        mean, half, paid = worth.mean, worth.half_width, price(run)
        if not np.isfinite(mean) or paid <= 0:
            continue
        rows.append((name, paid, mean, mean - half, mean + half))
        if len(worth.values) > 1:
            seeds += [
                (name, paid, seed, value) for seed, value in zip(run.results["seed"].values, worth.values, strict=True)
            ]
    if len(rows) < 2:
        return None
    names, paid_, means, low, high = zip(*rows, strict=True)
    of_seeds: Sequence[Column] = [*zip(*seeds, strict=True)] or [[], [], [], []]
    y = "Δm" if len(measures) > 1 else "ACC" if measures == [ACCURACY] else measures[0].title
    tips = [("x", short), ("mean", y), ("low", "95 % from"), ("high", "to")]
    return Chart(
        f"{y} against {short.split(' (', maxsplit=1)[0]}",
        points(x, way),
        {
            "main": {"run": names, "series": names, "x": paid_, "mean": means, "low": low, "high": high},
            "seeds": dict(
                zip(("run", "series", "x", "seed", "value"), (of_seeds[0], *of_seeds), strict=True),
            ),
        },
        tips=tips,
        seed_tips=[("seed", "seed"), ("value", y)],
        near=("x", "mean", "value"),
        fitted={"x": ["x"], "y": ["mean", "value"]},
        band=("low", "high"),
        whole=(0.0, 1.0) if measures == [ACCURACY] else (),
        logarithmic=True,
        front=tested[0].sign if len(measures) == 1 else 1,
        panels=[("", y)],
    )


def _phases(runs: Named) -> Chart:
    spent = [
        (name, phase, place, float(np.nansum(run.results["seconds"].sel(phase=phase))))
        for name, run in runs
        for place, phase in enumerate(PHASES)
        if phase in run.results["phase"].values
    ]
    names, phases, places, seconds = zip(*spent, strict=True)
    return Chart(
        "Time by phase",
        lying_bars("seconds, all seeds together"),
        {"main": {"run": names, "series": phases, "place": places, "value": seconds}},
        tips=[("series", "phase"), ("value", "seconds")],
        series=PHASES,
        shades=COLOURS[: len(PHASES)],
    )
