"""Pictures of composed tasks: which modules they use, in what order, and from which task they take them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from cl_engine.analysis.plots.axes import heat_map, ink_on, numbered, seeds, side
from cl_engine.analysis.plots.strategy_events import told
from cl_engine.analysis.plots.style import (
    COLOURS,
    INK,
    colour,
    figure,
    legend,
    plain,
    styled,
    titled,
    whole_numbers,
)
from cl_engine.results.run import Run

ADDED, AGAIN = "#2E86C8", "#9BD0F0"  # cells have the same colours on a light and on a dark page
WRITTEN = 24  # tasks up to which numbers are written into cells


@styled
def module_graph(run: Run) -> Figure | None:
    """Return tasks as rows and modules as columns, of the first seed: which a task uses, and which it added.

    None if the strategy told of no paths.
    """
    paths = _by_task(run, "PathStep", "module")
    if paths is None:
        return None
    widths = paths.max(axis=0) + 1
    starts = np.concatenate([[0], np.cumsum(widths)])
    grid = np.zeros((len(paths), starts[-1]))
    for depth, start in enumerate(starts[:-1]):
        seen: set[int] = set()
        for task, module in enumerate(paths[:, depth]):
            grid[task, start + module] = 1 if module in seen else 2
            seen.add(module)
    shown, by = _thinned(grid)
    fig, axes = figure(width=min(10.0, max(6.4, 0.1 * grid.shape[1])), height=_height(len(paths)))
    kinds = ListedColormap(["#00000000", AGAIN, ADDED])
    extent = (-0.5, grid.shape[1] - 0.5, len(grid) - 0.5, -0.5)
    axes.imshow(shown, cmap=kinds, vmin=0, vmax=2, aspect="auto", interpolation="none", extent=extent)
    for start in starts[1:-1]:
        axes.axvline(start - 0.5, color=INK, linewidth=0.8)
    middles = (starts[:-1] + starts[1:] - 1) / 2
    axes.set_xticks(middles, [str(width) for width in widths])
    less = "" if by == (1, 1) else f"\n({by[0]} × {by[1]} cells are drawn as one)"
    axes.set(ylabel="task", xlabel=f"modules held, depth by depth{less}")
    axes.grid(visible=False)
    whole_numbers(axes, "y")
    for label, shade in (("added", ADDED), ("used again", AGAIN)):
        axes.plot([], [], "s", color=shade, label=label)
    titled(fig, axes, run.strategy, f"modules on the path of each task, {_first_seed(run)}")
    legend(fig, axes)
    return fig


@styled
def growth(run: Run) -> Figure | None:
    """Return the number of modules held over the tasks, mean over seeds, beside that of a net for each task.

    None if the strategy told of no paths.
    """
    table = told(run)
    added = table[(table["kind"] == "ModuleAdded") & (table["name"] == "module") & (table["value"] >= 0)]
    paths = _by_task(run, "PathStep", "module")
    if paths is None:
        return None
    tasks, depths = paths.shape
    task_of = table[(table["name"] == "task_id") & (table["kind"] == "ModuleAdded")].set_index("event")["value"]
    counts = added.assign(task=added["event"].map(task_of)).groupby(["task", "seed"]).size().unstack(fill_value=0)
    held = counts.reindex(range(tasks), fill_value=0).cumsum().to_numpy().mean(axis=1)
    fig, axes = figure()
    x = np.arange(1, tasks + 1)
    axes.plot(x, depths * x, color=colour(7), linestyle="--", label="a net for each task")
    axes.plot(x, held, color=colour(0), label="modules held")
    axes.set(xlabel="tasks learned", ylabel="modules", ylim=(0, None))
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"growth of the library, mean of {seeds([run])}")
    legend(fig, axes)
    return fig


@styled
def fits(run: Run) -> Figure | None:
    """Return how many paths were trained for each task, by what they reuse, mean over seeds; None if none was told of."""
    table = told(run)
    tried = table[table["kind"] == "CandidateTried"]
    if tried.empty:
        return None
    wide = tried[tried["name"] != "validation"].pivot(index="event", columns="name", values="value")
    # NaN: the path was tried for another seed; without operations nothing was trained
    scored = tried[(tried["name"] == "validation") & tried["value"].notna()].groupby("event").size()
    wide = wide.assign(share=scored / len(run.results["seed"])).query("flops > 0 and share > 0")
    kinds = {
        "new nets": wide[wide["reused"] == 0],
        "old modules first": wide[(wide["reused"] > 0) & (wide["first_new"] > 0)],
        "old modules last": wide[(wide["reused"] > 0) & (wide["first_new"] == 0)],
    }
    tasks = np.arange(int(wide["task_id"].max()) + 1)
    fig, axes = figure()
    below = np.zeros(len(tasks))
    for number, (label, own) in enumerate(kinds.items()):
        if len(own):
            counts = own.groupby("task_id")["share"].sum().reindex(tasks, fill_value=0.0).to_numpy()
            axes.fill_between(tasks, below, below + counts, step="mid", color=colour(number), linewidth=0, label=label)
            below = below + counts
    axes.set(xlabel="task", ylabel="paths trained", ylim=(0, None))
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"paths trained for each task, mean of {seeds([run])}")
    legend(fig, axes)
    return fig


@styled
def orders(run: Run) -> Figure | None:
    """Return tasks as rows and steps as columns, of the first seed: the block used; None if no order was told."""
    return _numbers(run, "OrderLearned", "block", "block at each step")


@styled
def sharing(run: Run) -> Figure | None:
    """Return tasks as rows and layers as columns, of the first seed: the set of weights used; None if no sharing was told."""
    return _numbers(run, "SharingLearned", "set", "set of weights in each layer")


def _numbers(run: Run, kind: str, name: str, title: str) -> Figure | None:
    """Return tasks as rows, parts as columns, and the number that was told as colour; None if none was."""
    found = _by_task(run, kind, name)
    if found is None:
        return None
    blocks = int(found.max()) + 1
    shades = ListedColormap([COLOURS[k % len(COLOURS)] for k in range(blocks)])
    scale = BoundaryNorm(np.arange(blocks + 1) - 0.5, blocks)
    fig, axes = figure(height=_height(len(found)))
    axes.imshow(found, cmap=shades, norm=scale, aspect="auto", interpolation="none")
    if len(found) <= WRITTEN:
        for (task, step), block in np.ndenumerate(found):
            axes.text(step, task, f"{block}", ha="center", va="center", color=ink_on(shades(block)))
    steps = list(dict.fromkeys(_rows(run, kind, name)["part"]))
    axes.set_xticks(range(len(steps)), [plain(str(step)) for step in steps], fontsize="small")
    axes.set(ylabel="task")
    axes.grid(visible=False)
    whole_numbers(axes, "y")
    titled(fig, axes, run.strategy, f"{title}, {_first_seed(run)}")
    return fig


@styled
def sources(run: Run) -> Figure | None:
    """Return what each past task promised for each new one, mean over seeds; None if no proxy was told."""
    table = told(run)
    kind, name = ("ExpertScored", "expert") if (table["kind"] == "ExpertScored").any() else ("SourceScored", "source")
    found = table[table["kind"] == kind]
    if found.empty:
        return None
    wide = found.pivot_table(index="event", columns="name", values="value", aggfunc="mean")
    first = int(min(wide[name].min(), 0))
    square = np.full((int(wide["task_id"].max()) + 1, int(wide[name].max()) - first + 1), np.nan)
    for (task, source), score in wide.groupby(["task_id", name])["score"].mean().items():
        square[int(task), int(source) - first] = score
    known = square[np.isfinite(square)]
    fig, axes = figure(side(square.shape[1]) + 1.5, float(np.clip(0.34 * len(square), 2.6, 5.0)) + 0.8)
    label = "score of the proxy"
    said = heat_map(fig, axes, square, float(known.min()), float(known.max()) + 1e-9, label, written=".2f")
    numbered(axes, "x", [str(source) for source in range(first, square.shape[1] + first)])
    numbered(axes, "y", [str(task) for task in range(len(square))])
    axes.set(
        xlabel="source (-1: where all start)" if first < 0 else "source", ylabel=f"task\n({said})" if said else "task"
    )
    titled(fig, axes, run.strategy, f"what past tasks promise for new ones, mean of {seeds([run])}")
    return fig


def _rows(run: Run, kind: str, name: str) -> pd.DataFrame:
    """Return the numbers of one kind of event and name of the first seed, with their task, each task's last."""
    table = told(run)
    table = table[table["kind"] == kind]
    task_of = table[table["name"] == "task_id"].set_index("event")["value"].astype(int)
    rows = table[(table["name"] == name) & (table["seed"] == int(run.results["seed"].values[0]))]
    return rows.assign(task=rows["event"].map(task_of)).drop_duplicates(["task", "part"], keep="last")


def _by_task(run: Run, kind: str, name: str) -> np.ndarray | None:
    """Return a number for each task and part ``[T, parts]``, parts in the order in which they were told; None if none was."""
    rows = _rows(run, kind, name)
    if rows.empty:
        return None
    parts = list(dict.fromkeys(rows["part"]))
    numbers: np.ndarray = rows.pivot(index="task", columns="part", values="value")[parts].to_numpy().astype(int)
    return numbers


def _height(tasks: int) -> float:
    return float(np.clip(1.4 + 0.16 * tasks, 2.4, 7.0))


def _first_seed(run: Run) -> str:
    """Say that the picture is of the first seed, and of how many: paths of several cannot be averaged."""
    return f"seed {run.results['seed'].values[0]} of {seeds([run])}"


def _thinned(grid: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the strongest cell of each block, with blocks large enough to be seen, and the sides of a block."""
    rows, columns = (-(-count // most) for count, most in zip(grid.shape, (250, 600), strict=True))
    padded = np.pad(grid, [(0, -grid.shape[0] % rows), (0, -grid.shape[1] % columns)])
    blocks = padded.reshape(len(padded) // rows, rows, -1, columns)
    return blocks.max(axis=(1, 3)), (rows, columns)
