"""One self-contained page about runs, made from their logs alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cl_engine.analysis.charts.own import of_run as charts_of_run
from cl_engine.analysis.charts.together import of_all as charts_of_all
from cl_engine.analysis.names import dotted, names_of, one_line
from cl_engine.analysis.plots.gallery import of_all, of_run
from cl_engine.analysis.plots.style import plain
from cl_engine.analysis.report.comparison_section import section
from cl_engine.analysis.report.document import drawn, page
from cl_engine.analysis.report.figures import Figures, told_of
from cl_engine.analysis.report.remarks import counted, remarks, unfinished
from cl_engine.analysis.report.side_by_side import each
from cl_engine.analysis.report.tables import DEFINITIONS, options_apart, overview, score_tables
from cl_engine.analysis.scores.run_scores import Summary
from cl_engine.analysis.scores.run_scores import summaries as summaries_of
from cl_engine.core.files import put
from cl_engine.core.measure import Measure
from cl_engine.core.text import clean, size
from cl_engine.errors import UsageError
from cl_engine.results.code import code_in
from cl_engine.results.of_measure import of_each_measure, taken_apart
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run

PICTURED = 20  # runs that have pictures of their own; all are in tables, texts and the pictures of runs together
LONGEST = 160  # letters of a name; a longer one is shortened in the middle
ON_PAPER = 6  # runs up to which figures of single runs are there as pictures too, for paper and without scripts
OPEN = 3  # runs whose own pictures are shown at once; of more they unfold at a click


def write_report(runs: Sequence[Run], output: Path, refused: Sequence[str] = (), said: Sequence[str] = ()) -> Path:
    """Write one HTML page about the runs to ``output``, replacing it as a whole, and return its path.

    ``refused`` are sentences about logs that could not be read, ``said`` others on the runs as a whole: the page says them
    first.

    Raises:
        UsageError: if there are no runs, or the page cannot be written.
    """
    if not runs:
        raise UsageError("a report needs at least one run")
    text = _Page(of_seeds(runs)).written(said, refused)
    put(output, text.encode())  # the hash of the script is of these very bytes
    return output


class _Page:
    """A page while it is made: the runs by scenario, the best first, and the letters that its pictures share."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.faults: list[str] = []  # sentences on what could not be shown
        self.figures = Figures(self.faults)
        self.groups: dict[str, tuple[list[str], list[Summary]]] = {}
        self.parts: dict[str, dict[Measure, list[tuple[str, Summary]]]] = {}  # by what tasks are measured by
        for scenario in sorted({run.scenario for run in runs}):
            found, faults = summaries_of([run for run in runs if run.scenario == scenario])
            self.faults += (f"Not in this page: {sentence}" for sentence in faults)
            if not found:
                continue
            summaries = sorted(found, key=_rank)
            names = [plain(name, LONGEST) for name in names_of([summary.run for summary in summaries])]
            self.groups[scenario] = (names, summaries)
            self.parts[scenario] = self._taken_apart(names, summaries)
        if not self.groups:
            raise UsageError(f"no run can be shown; {self.faults[0]}")
        self.runs = [summary.run for _, summaries in self.groups.values() for summary in summaries]
        self.pictured = {id(run) for run in self._chosen()}

    def _taken_apart(
        self, names: Sequence[str], summaries: Sequence[Summary]
    ) -> dict[Measure, list[tuple[str, Summary]]]:
        """Return runs by what their tasks are measured by; those of several measures are among those of each."""
        found: dict[Measure, list[tuple[str, Summary]]] = {}
        if all(len(summary.run.measures) == 1 for summary in summaries):
            for name, summary in zip(names, summaries, strict=True):
                found.setdefault(summary.run.measures[0], []).append((name, summary))
            return found
        called = {id(part): name for name, s in zip(names, summaries, strict=True) for part in taken_apart(s.run)}
        for measure, parts in of_each_measure([summary.run for summary in summaries]).items():
            own, faults = summaries_of(parts)
            self.faults += (f"Not in this page: {sentence}" for sentence in faults)
            found[measure] = [(called[id(summary.run)], summary) for summary in sorted(own, key=_rank)]
        return found

    def _by_measure(self) -> dict[str, list[tuple[str, Summary]]]:
        """Return all runs by scenario, and where its tasks are measured by several things by these too."""
        return {
            plain(f"{scenario}: {measure.title}" if len(parts) > 1 else scenario, LONGEST): held
            for scenario, parts in self.parts.items()
            for measure, held in parts.items()
        }

    def written(self, told: Sequence[str], refused: Sequence[str]) -> str:
        """Return the page."""
        self.faults += (f"Not in this page: {one_line(sentence)}" for sentence in refused)
        several = len(self.groups) > 1
        try:
            compared = section(self.runs)
        except Exception as error:  # of whatever kind: the page goes on without it
            compared = None
            self.faults.append(f"The runs could not be compared: {type(error).__name__}: {error}")
        scenarios = [
            self._scenario(k, name, *group, several) for k, (name, group) in enumerate(self.groups.items(), start=1)
        ]
        compared_pictures = (
            [drawn(*each, "compared", self.figures.letters) for each in compared.pictures] if compared else []
        )
        return page(
            "report.html",
            self.figures.letters,
            runs=[
                {"id": f"scenario-{k}", "runs": told_of(names, [summary.run for summary in summaries])}
                for k, (names, summaries) in enumerate(self.groups.values(), start=1)
            ],
            title=self._title(),
            subtitle=self._subtitle(),
            state=self._state(told),
            whole=not self.faults and all(run.status == "finished" for run in self.runs),
            overview=overview(self._by_measure()) if several else None,
            comparison=compared,
            compared=compared_pictures,
            scenarios=scenarios,
            definitions=DEFINITIONS
            | {m.title: m.meaning for run in self.runs for m in run.metrics.values() if m.meaning},
        )

    def _title(self) -> str:
        few = len(self.groups) <= 3
        return " · ".join(plain(name, LONGEST) for name in self.groups) if few else f"{len(self.groups)} scenarios"

    def _subtitle(self) -> str:
        seeds = " or ".join(map(str, sorted({s.seeds for _, summaries in self.groups.values() for s in summaries})))
        return (
            f"{counted(len(self.runs), 'run')}, {seeds} seed{'s' if seeds != '1' else ''} each. "
            "Mean ± 95 % confidence over seeds (t interval). “–”: undefined or not measured."
        )

    def _state(self, told: Sequence[str]) -> list[str]:
        """Return what is told of the runs, and say what is not there: runs that are not finished, pictures left out."""
        said = list(told)
        said += map(one_line, self.faults)
        for scenario, (names, summaries) in self.groups.items():
            called = [f"{plain(scenario, LONGEST)}, {name}" for name in names] if len(self.groups) > 1 else names
            said += unfinished(called, summaries)
        left_out = len(self.runs) - len(self.pictured)
        if left_out:
            said.append(
                f"{counted(left_out, 'run')} of {len(self.runs)} have no pictures of their own here, to keep the page small: "
                f"`run.py report RUN -o FILE` draws them for up to {PICTURED} runs"
            )
        if len(self.pictured) > ON_PAPER:
            said.append(
                f"On paper, and where scripts are not run, figures of single runs are left out, as this page is about more than "
                f"{ON_PAPER} runs: `run.py report RUN -o FILE` draws them"
            )
        return said

    def _chosen(self) -> list[Run]:
        """Return the runs that have pictures of their own: the best of each strategy and scenario before the next best."""
        ranked: list[tuple[int, Run]] = []
        for _, summaries in self.groups.values():
            met: dict[str, int] = {}
            for summary in summaries:
                place = met[summary.run.strategy] = met.get(summary.run.strategy, -1) + 1
                ranked.append((place, summary.run))
        ranked.sort(key=lambda pair: pair[0])
        return [run for _, run in ranked[:PICTURED]]

    def _scenario(
        self, number: int, scenario: str, names: Sequence[str], summaries: Sequence[Summary], several: bool
    ) -> dict[str, Any]:
        runs = [summary.run for summary in summaries]
        return {
            "id": f"scenario-{number}",
            "name": plain(scenario, LONGEST),
            "tables": score_tables(list(zip(names, summaries, strict=True)), self.parts[scenario]),
            "apart": options_apart(names, summaries),
            "remarks": remarks(names, summaries),
            "pictures": self.figures.shown(of_all(runs), charts_of_all(names, runs), f"s{number}"),
            "runs": self._runs(number, names, summaries),
        }

    def _runs(self, number: int, names: Sequence[str], summaries: Sequence[Summary]) -> list[dict[str, Any]]:
        beside = [summary.run for summary in summaries]

        def made(k: int) -> tuple[dict[str, Any], Figures]:
            figures = self.figures.aside()
            return self._run(f"run-{number}-{k + 1}", names[k], summaries[k], beside, figures), figures

        found = each(len(names), made)
        for _, figures in found:
            self.figures.join(figures)
        return [run for run, _ in found]

    def _run(self, place: str, name: str, summary: Summary, beside: Sequence[Run], figures: Figures) -> dict[str, Any]:
        run = summary.run
        pictured = id(run) in self.pictured
        pictures = of_run(run, beside) if pictured else []
        paper = len(self.pictured) <= ON_PAPER
        shown = figures.shown(pictures, charts_of_run(run, beside) if pictured else {}, place, paper)
        return {
            "id": place,
            "name": name,
            "status": run.status,
            "open": len(self.runs) <= OPEN,
            "pictures": shown,
            "parts": {one_line(part): size(held) for part, held in summary.memory_parts.items()},
            "apart": {one_line(part): size(held) for part, held in (summary.memory_apart or {}).items()},
            "options": {
                one_line(table): dotted({table: options}) if isinstance(options, dict) else {}
                for table, options in run.experiment["options"].items()
            },
            "seeds": ", ".join(map(str, run.experiment["seeds"])),
            "environment": _environment(run),
            "scenario": clean(run.environment.get("scenario", "")),
        }


def _rank(summary: Summary) -> float:
    """Sort by ACC, or across measures by Δm, the best first and the untested last."""
    mean = summary.run.sign * summary.acc.mean if len(summary.run.measures) == 1 else summary.delta_m.mean
    return -mean if math.isfinite(mean) else math.inf


def _environment(run: Run) -> dict[str, str]:
    """Return where and how the run was made, every text that holds several facts taken apart."""
    found = {"log": ", ".join(map(str, run.logs)), **run.attributes}
    for key, text in run.environment.items():
        if key in ("experiment", "scenario", "code", "changes") or not text:
            continue
        try:
            nested = json.loads(text)
            found |= dotted({key: nested}) if isinstance(nested, dict) else {key: text}
        except (ValueError, RecursionError):  # no JSON, or nested to break whoever reads it
            found[key] = text
    with suppress(UsageError):  # a log that does not say it as it is written
        found |= {
            f"code.{name}": f"{told['file']}, SHA-256 {told['sha256']}" for name, told in (code_in(run) or {}).items()
        }
    return {one_line(key): one_line(text) for key, text in found.items()}
