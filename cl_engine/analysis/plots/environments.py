"""A picture of how environments are recognised, and which net does best in each."""

from __future__ import annotations

from matplotlib.figure import Figure

from cl_engine.analysis.plots.axes import marks, seeds, thinned
from cl_engine.analysis.plots.strategy_events import told
from cl_engine.analysis.plots.style import colour, figure, legend, plain, styled, titled, whole_numbers
from cl_engine.results.run import Run

WRITTEN = 24  # experiences up to which the entry of each is written below it


@styled
def candidates_by_segment(run: Run) -> Figure | None:
    """Return what candidates reach on validation rows over the experiences, mean over seeds; None if none were judged.

    Below each experience stands the entry of the library that the first seed recognised, or "new".
    """
    table = told(run)
    judged = table[(table["kind"] == "CandidateJudged") & (table["name"] == "validation")]
    if judged.empty:
        return None
    fig, axes = figure()
    finite = judged[judged["value"] > -float("inf")]
    for number, (part, rows) in enumerate(finite.groupby("part", sort=False)):
        mean = rows.groupby("step")["value"].mean()
        mean = mean.iloc[thinned(len(mean))]
        axes.plot(mean.index, mean.values, color=colour(number), label=plain(str(part)), **marks(number, len(mean)))
    axes.set(xlabel="experience", ylabel="score on validation rows")
    matches = table[
        (table["kind"] == "EnvironmentMatched") & (table["seed"] == table[table["seed"] >= 0]["seed"].min())
    ]
    first = matches.pivot_table(index="step", columns="name", values="value")
    if len(first) <= WRITTEN:
        entries = [f"{entry:.0f}" if near else "new" for entry, near in zip(first["entry"], first["near"], strict=True)]
        axes.set_xticks(first.index, [f"{step}\n{entry}" for step, entry in zip(first.index, entries, strict=True)])
        axes.set_xlabel("experience, and the entry of the library that the first seed recognised")
    else:
        whole_numbers(axes)
    titled(fig, axes, run.strategy, f"candidates in each environment, mean of {seeds([run])}")
    legend(fig, axes, columns=5)
    return fig
