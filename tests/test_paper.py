"""Tables and figures as papers have them, and the statistics behind them, held to the libraries that papers use."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rliable.metrics
import scikit_posthocs
from click.testing import CliRunner

from cl_engine.analysis.charts.looks import look
from cl_engine.analysis.comparison.compare import compared
from cl_engine.analysis.paper import aggregates, figures
from cl_engine.analysis.paper.table import latex_table
from cl_engine.analysis.plots import across_runs
from cl_engine.analysis.plots.style import SIZES, colour, numbers_of
from cl_engine.analysis.scores.robust import iqm, performance_profile, probability_of_improvement
from cl_engine.analysis.scores.statistics import stratified_bootstrap
from cl_engine.cli import main
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from tests.conftest import TINY

REFERENCE = Path(__file__).parents[1] / "results" / "reference"


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """Return the reference runs of three streams: four strategies of eight seeds each."""
    streams = ("permuted_digits", "rotated_digits", "split_digits")
    return [open_run(path) for stream in streams for path in sorted(REFERENCE.glob(f"{stream}-*"))]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Experiment.of(TINY, "finetune", (0, 1), **{"agenda.metrics": "loss"})
    return open_run(made.run(tmp_path_factory.mktemp("run") / "tiny", device="cpu"))


def scores(seed: int = 0, streams: int = 4, seeds: int = 6) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).random((streams, seeds)))


def test_the_interquartile_mean_and_the_probability_of_improvement_are_those_of_rliable():
    one, other = scores(0), scores(1)
    other[0][:3] = one[0][:3]  # ties
    assert float(iqm(one).value) == pytest.approx(rliable.metrics.aggregate_iqm(np.stack(one, axis=1)))
    ours = probability_of_improvement(one, other)
    theirs = rliable.metrics.probability_of_improvement(np.stack(one, axis=1), np.stack(other, axis=1))
    assert float(ours.value) == pytest.approx(float(theirs))
    assert float(ours.low) < float(ours.value) < float(ours.high)
    turned = probability_of_improvement(other, one, higher=False)
    assert float(turned.value) == pytest.approx(float(ours.value))


def test_a_stratified_interval_is_that_of_the_mean_where_nothing_is_trimmed():
    one = scores(seeds=2, streams=1)
    found, mean = iqm(one), stratified_bootstrap(one)
    assert (float(found.low), float(found.high)) == pytest.approx(mean, abs=1e-9)
    assert np.isnan(float(iqm(scores(seeds=1)).low))


def test_a_performance_profile_is_the_share_of_seeds_above_a_level_streams_alike():
    strata = [np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.5])]
    found = performance_profile(strata, np.array([0.0, 0.45, 0.9]))
    np.testing.assert_allclose(found.value, [1.0, 0.75, 0.0])
    np.testing.assert_allclose(performance_profile(strata, np.array([0.45]), higher=False).value, [0.25])


def test_bars_of_a_post_hoc_test_join_what_the_library_does_not_tell_apart(runs: list[Run]):
    comparison = compared(runs)
    assert comparison.ranking is not None
    strata, streams = aggregates.strata_of(comparison)
    assert len(streams) == 3
    means = np.array([[own.mean() for own in strata[m]] for m in comparison.ranking.methods]).T
    p = np.asarray(scikit_posthocs.posthoc_nemenyi_friedman(means))
    for first, last in aggregates._groups(comparison, comparison.ranking, "nemenyi"):
        assert all(p[a, b] >= 0.05 for a in range(first, last + 1) for b in range(a + 1, last + 1))
    fig = aggregates.critical_difference(runs, test="nemenyi", labels={"replay": "ER"})
    said = [text.get_text() for text in fig.axes[0].texts]
    assert any("ER" in text for text in said) and any("Nemenyi" in text for text in said)


def test_without_the_library_of_a_test_it_says_what_to_install(runs: list[Run], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scikit_posthocs", None)
    with pytest.raises(
        UsageError, match=r"needs scikit-posthocs: pip install 'cl-engine\[paper\]', or take test='wilcoxon'"
    ):
        aggregates.critical_difference(runs, test="conover")
    assert aggregates.critical_difference(runs) is not None


def test_a_table_has_a_row_a_method_the_best_bold_and_says_what_stands_behind_the_sign(runs: list[Run]):
    text = latex_table(runs, ["acc", "forgetting"], labels={"replay": "ER & co", "acc": "Accuracy"}, caption="Digits.")
    lines = text.splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(body) == 4 and all(line.count(" & ") == 6 and line.endswith(r"\\") for line in body)
    assert any(line.startswith(r"ER \& co & ") for line in body)
    assert r"\caption{Digits. Mean over 8 seeds $\pm$ sample standard deviation; best in bold.}" in lines
    assert lines[lines.index(r"\toprule") + 1].count(r"\multicolumn{2}{c}") == 3
    assert text.count(r"Accuracy (\%) $\uparrow$") == 3 and text.count(r"forgetting (\%) $\downarrow$") == 3
    rows = [line.replace(r"ER \& co", "ER").replace("$-$", "-").split(" & ") for line in body]
    means = {row[0]: [float(re.findall(r"-?\d+\.\d+", cell)[0]) for cell in row[1:]] for row in rows}
    columns = np.array(list(means.values())).T
    for at, column in enumerate(columns):
        best = column.max() if at % 2 == 0 else column.min()
        bold = [r"\textbf" in row[at + 1] for row in rows]
        assert bold == (column == best).tolist()
    own = next(run for run in runs if (run.strategy, run.scenario) == ("replay", "permuted_digits"))
    assert own.final is not None
    assert means["ER"][0] == pytest.approx(100 * float(own.final["acc"].mean()), abs=0.051)


def test_a_table_of_unlike_scores_has_units_of_its_own(tiny: Run):
    text = latex_table([tiny], ["acc", "loss", "memory"], spread="none")
    assert r"ACC (\%) $\uparrow$ & test loss $\downarrow$ & memory (byte) $\downarrow$" in text
    assert r"$\pm$" not in text
    with pytest.raises(UsageError, match="no spread named 'std'"):
        latex_table([tiny], spread="std")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no method, stream or score named 'repaly'"):
        latex_table([tiny], labels={"repaly": "ER"})


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no LaTeX")
def test_latex_takes_the_table(runs: list[Run], tmp_path: Path):
    table = latex_table(runs, ["acc", "bwt"], labels={"replay": "a_b^c~d<e>\\f{g}$h%#"})
    page = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n" + table + "\\end{document}\n"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-800:]


def test_braces_of_a_table_are_balanced_and_its_environments_closed(runs: list[Run]):
    text = latex_table(runs, ["acc", "bwt"], labels={"replay": "a_b^c~d<e>\\f{g}$h%#&"})
    bare = re.sub(r"\\[{}$&%#_\\]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1] == ["table", "tabular"]


@pytest.mark.parametrize("size", ["column", (4.0, 2.0)])
def test_figures_take_labels_title_axes_and_size(runs: list[Run], size: str | tuple[float, float]):
    one = [run for run in runs if run.scenario == "permuted_digits"]
    look = {"labels": {"replay": "ER"}, "title": "T", "xlabel": "x", "ylabel": "y", "size": size}
    drawn = [
        figures.over_stream(one, **look),  # type: ignore[arg-type]
        figures.at_the_end(runs, **look),  # type: ignore[arg-type]
        aggregates.interquartile_means(runs, **look),  # type: ignore[arg-type]
        aggregates.performance_profiles(runs, **look),  # type: ignore[arg-type]
        aggregates.improvement(runs, "replay", **look),  # type: ignore[arg-type]
    ]
    for fig in drawn:
        axes = fig.axes[0]
        assert (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()) == ("T", "x", "y")
        width = SIZES["column"][0] if size == "column" else 4.0
        assert fig.get_figwidth() == pytest.approx(width)
        assert size == "column" or fig.get_figheight() == pytest.approx(2.0)
    with pytest.raises(UsageError, match="no size of figures named 'poster'"):
        figures.over_stream(one, size="poster")
    with pytest.raises(UsageError, match="a figure over the stream is of one stream"):
        figures.over_stream(runs)


def test_a_strategy_has_its_colour_wherever_it_stands(runs: list[Run]):
    few, many = ["replay", "finetune"], ["joint", "finetune", "hat", "replay", "packnet"]
    assert numbers_of(few)[0] == numbers_of(many)[3] and numbers_of(few)[1] == numbers_of(many)[1]
    names = [f"own.py:{letter}" for letter in "abcdefgh"]
    assert len(set(numbers_of(names))) == len(names)
    assert all(look(name).light == colour(number) for name, number in zip(many, numbers_of(many), strict=True))
    assert len({*numbers_of(["replay"] * 20)}) == 20
    one = [run for run in runs if run.scenario == "permuted_digits"]
    of_report = across_runs.accuracy_over_stream(one).axes[0]
    of_paper = figures.over_stream(one).axes[0]
    shades = [{line.get_label(): line.get_color() for line in axes.lines} for axes in (of_report, of_paper)]
    assert shades[0] == shades[1] and shades[0]["replay"] == colour(0)


def test_forward_transfer_by_task_is_what_fwt_is_the_mean_of(tiny: Run):
    gained = tiny.forward_transfer
    assert np.isnan(gained[0]).all() and tiny.final is not None
    np.testing.assert_allclose(gained[1:].mean(axis=0), tiny.final["fwt"].values)
    drawn = figures.forward_transfer([tiny]).axes[0].lines[0]
    np.testing.assert_allclose(drawn.get_ydata(), gained[1:].mean(axis=1))


def test_a_run_is_a_small_table_in_a_notebook(tiny: Run):
    held = tiny._repr_html_()
    assert "<b>tiny, finetune</b>" in held and "finished, 3 experiences, 3 tasks" in held
    assert all(f">{name}</th>" in held for name in ("ACC", "BWT", "test loss", "time"))
    odd = open_run(tiny.path)
    odd.attributes["scenario"] = "<script>x</script>"
    assert "<script>" not in odd._repr_html_()


def test_a_run_says_what_it_is_in_a_line(tiny: Run):
    seeds = ", ".join(map(str, tiny.experiment["seeds"]))
    assert repr(tiny).startswith("<Run: finetune on tiny, finished, 3 tasks, seed")
    assert repr(tiny).endswith(f" {seeds}>") and "\n" not in repr(tiny)


def test_the_command_writes_table_and_figures_under_other_names(tmp_path: Path):
    places = [str(path) for path in sorted(REFERENCE.glob("*_digits-*")) if "compositional" not in path.name]
    names = ("--rename", "replay=ER", "--rename", "split_digits=Split")
    where = ("-o", str(tmp_path / "table.tex"), "--pictures", str(tmp_path / "figures"))
    done = CliRunner().invoke(main, ["compare", *places, "--latex", "--scores", "acc,forgetting", *names, *where])
    assert done.exit_code == 0, done.output
    assert "\nER & " in (tmp_path / "table.tex").read_text() and "{Split}" in (tmp_path / "table.tex").read_text()
    made = {path.stem for path in (tmp_path / "figures").glob("*.pdf")}
    assert {
        "iqm-acc",
        "profiles-acc",
        "improvement-acc",
        "ranks-acc",
        "at-the-end-acc",
        "over-stream-acc-split_digits",
    } <= made


def test_every_format_takes_other_names_and_refuses_those_of_nothing():
    places = [str(path) for path in sorted(REFERENCE.glob("permuted_digits-*"))]
    done = CliRunner().invoke(main, ["compare", *places, "--format", "csv", "--rename", "replay=ER"])
    assert ",ER," in done.output and ",replay,replay" not in done.output
    for renames, said in (
        (["repaly=ER"], "no method, stream or score named 'repaly' (did you mean 'replay'?)"),
        (["replay"], "write OLD=NEW"),
        (["replay=finetune"], "two would be called 'finetune'"),
    ):
        done = CliRunner().invoke(main, ["compare", *places, *[part for r in renames for part in ("--rename", r)]])
        assert done.exit_code == 2 and said in done.output
