"""Pictures of a taxonomy: affinities, families of tasks, a policy as a graph, what labels buy, and what affinities go with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from cl_engine.analysis.plots.axes import heat_map, numbered, side
from cl_engine.analysis.plots.style import COLOURS, INK, colour, figure, legend, mark, plain, styled, titled
from cl_engine.analysis.scores.run_scores import interval
from cl_engine.analysis.similarity import Held
from cl_engine.analysis.taxonomy.affinities import Affinities, affinities_in
from cl_engine.analysis.taxonomy.families import linked, order_of
from cl_engine.analysis.taxonomy.policies import Plans, Policy
from cl_engine.core.text import number
from cl_engine.results.run import Run

LONGEST, MOST_NAMES = 18, 40  # letters of a task's name, and names along a side
ROW = 0.24  # inches of a line of text


def affinities(run: Run) -> Figure | None:
    """Return the heat map of affinities of a run; None if it probed no transfers."""
    return affinity_map(affinities_in(run)) if run.tables.get("transfers") else None


@styled
def affinity_map(affinities: Affinities) -> Figure:
    """Return what each net alone is worth for each task, mean over seeds, as a heat map in the order of the families."""
    mean = affinities.matrix().mean(axis=0)
    order = _order(affinities)
    fig, axes = figure(side(len(order)) + 2.2, float(np.clip(0.34 * len(order), 2.2, 5.6)) + 1.5)
    _map(fig, axes, _log(mean)[np.ix_(order, order)], "log₁₀ of affinity", ".2f")
    _named(axes, affinities, order)
    axes.set(xlabel="for the task", ylabel="net of")
    titled(fig, axes, "", f"Affinity, mean of {_seeds(affinities)}")
    return fig


@styled
def family_tree(affinities: Affinities) -> Figure | None:
    """Return the tree of tasks that the same sources serve; None of one task."""
    count = len(affinities.names)
    if count < 2:
        return None
    fig, axes = figure(6.4, ROW * count + 1.1)
    names = [plain(name, LONGEST) for name in affinities.names]
    dendrogram(
        linked(affinities.matrix().mean(axis=0)),
        ax=axes,
        labels=names,
        orientation="right",
        color_threshold=0,
        above_threshold_color=COLOURS[0],
    )
    axes.tick_params(axis="y", labelsize=None, length=0)
    axes.set_yticklabels(axes.get_yticklabels(), fontsize="medium")
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.invert_yaxis()  # from above as in the heat map
    axes.set_xlabel("1 − correlation of log affinities (average linkage)")
    titled(fig, axes, "", "Families: tasks that the same nets serve")
    return fig


@styled
def policy_graph(policy: Policy, affinities: Affinities) -> Figure:
    """Return a policy as a graph: on the left the tasks trained in full, on the right who reads which of their nets."""
    reading = [way for way in policy.ways if way.kind != "full"]
    rank = {task: place for place, task in enumerate(_order(affinities))}
    trained = sorted(policy.trained, key=rank.__getitem__)
    height = max(len(trained), len(reading), 1)
    left = {task: (k + 0.5) * height / len(trained) for k, task in enumerate(trained)}
    reading.sort(key=lambda way: (np.mean([left[source] for source in way.sources]), rank[way.target]))
    fig, axes = figure(6.4, ROW * 1.25 * height + 0.8)
    for k, task in enumerate(trained):
        free = "" if task in policy.paid else " (free)"
        axes.plot(0, left[task], "s", color=colour(k), markersize=7)
        axes.text(-0.04, left[task], plain(affinities.names[task], LONGEST) + free, ha="right", va="center")
    for place, way in enumerate(reading):
        at = (place + 0.5) * height / len(reading)
        for source in way.sources:
            shade = colour(trained.index(source))
            axes.annotate(
                "",
                (0.985, at),
                (0.015, left[source]),
                arrowprops={"arrowstyle": "->", "color": shade, "linewidth": 1.2, "shrinkA": 3, "shrinkB": 1},
            )
        quality = number(float(way.values["quality"].mean()), 2).removeprefix("0")
        axes.text(1.0, at, f"{plain(affinities.names[way.target], LONGEST)}  {quality}", ha="left", va="center")
    axes.set(xlim=(-0.55, 1.55), ylim=(height, 0))
    axes.set_axis_off()
    tasks = f"{policy.budget} task{'s' * (policy.budget != 1)}"
    titled(fig, axes, "", f"Policy for {tasks} with labels: {policy.share:.0%} of all labels")
    return fig


@styled
def labels_against_score(plans: Plans, affinities: Affinities) -> Figure:
    """Return what policies reach against the share of labels they need, beside policies drawn at random.

    It is the mean score on validation rows; where tasks are measured by several things the win rate against full supervision.
    """
    name = "quality" if affinities.higher is None else "score"
    fig, axes = figure()
    drawn = [np.array([getattr(policy, name).mean() for policy in each]) for each in plans.random]
    share = 100 * np.array([np.mean([policy.share for policy in each]) for each in plans.random])
    low, high = (np.array([np.quantile(each, end) for each in drawn]) for end in (0.05, 0.95))
    axes.fill_between(share, low, high, color=colour(7), alpha=0.2, linewidth=0, label="9 of 10 policies at random")
    axes.plot(share, [each.mean() for each in drawn], color=colour(7), linestyle="--", label="their mean")
    at = 100 * np.array([policy.share for policy in plans.best])
    values = np.stack([getattr(policy, name) for policy in plans.best])
    half = interval(values) if values.shape[1] > 1 else None
    axes.errorbar(
        at, values.mean(axis=1), half, color=colour(0), marker=mark(0), markersize=5, capsize=2, label="best policy"
    )
    for policy, x, y in zip(plans.best, at, values.mean(axis=1), strict=True):
        axes.annotate(str(policy.budget), (x, y), (6, -11), textcoords="offset points", fontsize="small")
    scratch = [way.mean(name) for way in affinities.ways if way.kind == "scratch"]
    if scratch:
        axes.axhline(float(np.mean(scratch)), color=INK, linewidth=0.8, linestyle=":", label="few labels, no transfer")
    what = "win rate against full supervision" if affinities.higher is None else "mean score on validation rows"
    axes.set(xlabel="labels needed, % of those of all tasks (numbers: tasks trained with labels)", ylabel=what)
    titled(fig, axes, "", f"What labels buy, by {plans.objective}, mean of {_seeds(affinities)}")
    legend(fig, axes)
    return fig


@styled
def held_against_affinity(affinities: Affinities, candidates: Mapping[str, np.ndarray], held: Sequence[Held]) -> Figure:
    """Return each candidate matrix against affinity, a point for every two tasks, both symmetric and the means over seeds."""
    fig, grid = _grid(len(candidates), 2.9)
    affinity = _symmetric(_log(affinities.matrix()).mean(axis=0))
    upper = np.triu_indices(len(affinity), 1)
    for axes, (name, found) in zip(grid, candidates.items(), strict=False):
        test = next(each for each in held if (each.name, each.way, each.seeds) == (name, "symmetric", "all seeds"))
        axes.scatter(_symmetric(_mean(found))[upper], affinity[upper], s=14, color=colour(0), alpha=0.7, linewidth=0)
        said = f"ρ = {test.found.rho:.2f}, p = {test.found.p:.2g}"
        corrected = f" (Holm {test.p_holm:.2g})" if len(candidates) > 1 else ""
        axes.set_title(f"{said}{corrected}", fontsize="medium", fontweight="normal")
        axes.set(xlabel=plain(name, LONGEST), ylabel="log₁₀ of affinity")
    titled(fig, None, "", f"What affinity goes with (Mantel), mean of {_seeds(affinities)}")
    return fig


@styled
def matrices_beside_affinity(affinities: Affinities, candidates: Mapping[str, np.ndarray]) -> Figure:
    """Return affinity and each candidate matrix, symmetric and in the same order of tasks, as heat maps."""
    order = _order(affinities)
    shown = {"log₁₀ of affinity": _symmetric(_log(affinities.matrix()).mean(axis=0))}
    shown |= {name: _symmetric(_mean(found)) for name, found in candidates.items()}
    fig, grid = _grid(len(shown), 3.3)
    off = ~np.eye(len(order), dtype=bool)
    for axes, (name, found) in zip(grid, shown.items(), strict=False):
        ordered = np.where(off, found[np.ix_(order, order)], np.nan)
        _map(fig, axes, ordered, plain(name, LONGEST))
        _named(axes, affinities, order)
        axes.tick_params(labelsize="small")
    titled(fig, None, "", "Affinity beside what it is held against, in the same order")
    return fig


def _map(fig: Figure, axes: Axes, values: np.ndarray, label: str, form: str = "") -> None:
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    heat_map(fig, axes, values, low, max(high, low + 1e-9), label, written=form)


def _named(axes: Axes, affinities: Affinities, order: Sequence[int]) -> None:
    names = [plain(affinities.names[task], LONGEST) for task in order]
    numbered(axes, "x", names, MOST_NAMES)
    numbered(axes, "y", names, MOST_NAMES)
    axes.tick_params(axis="x", labelrotation=90)


def _order(affinities: Affinities) -> list[int]:
    if len(affinities.names) < 2:
        return list(range(len(affinities.names)))
    return order_of(linked(affinities.matrix().mean(axis=0)))


def _grid(count: int, height: float) -> tuple[Figure, list[Axes]]:
    rows = -(-count // 2)
    fig, grid = figure(6.4 if count > 1 else 4.2, height * rows + 0.4, rows, min(2, count))
    found = list(np.ravel(grid))
    for blank in found[count:]:
        blank.set_axis_off()
    return fig, found


def _log(values: np.ndarray) -> np.ndarray:
    found = np.full(values.shape, np.nan)
    np.log10(values, out=found, where=np.isfinite(values) & (values > 0))
    return found


def _mean(found: np.ndarray) -> np.ndarray:
    return found.mean(axis=0) if found.ndim == 3 else found


def _symmetric(found: np.ndarray) -> np.ndarray:
    return np.asarray((found + found.T) / 2)


def _seeds(affinities: Affinities) -> str:
    count = len(affinities.seeds)
    return f"{count} seed{'s' * (count > 1)}"
