"""Figures of a report that can be worked in: hovered, filtered, zoomed, taken along; and the numbers they are made of."""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from cl_engine.analysis.discovery import find_runs
from cl_engine.analysis.report import page as report
from cl_engine.analysis.report.page import write_report
from cl_engine.experiment import Experiment
from tests.browser import Browser
from tests.conftest import TINY

ACCURACY = "figure[data-name=accuracy]"
FIGURE = "figures.find(each => each.element.dataset.name === 'accuracy')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about six strategies, one with a hostile name."""
    folder = tmp_path_factory.mktemp("figures")
    for name in ("finetune", "independent"):
        Experiment.of(TINY, name, (0, 1)).run(folder / "runs" / name)
    for name in ("ewc", "si", "</script><b>mas", "lwf"):
        (folder / "runs" / name.replace("/", "")).mkdir()
        log = shutil.copy(folder / "runs" / "finetune" / "log.h5", folder / "runs" / name.replace("/", ""))
        with h5py.File(log, "r+") as file:
            file.attrs["strategy"] = name
    runs, _ = find_runs([folder / "runs"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "PICTURED", 1)  # one run with pictures of its own is enough here
        return write_report(runs, folder / "report.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def shown(browser: Browser, page: Path) -> Browser:
    """The page with the figure of ACC in the window, drawn."""
    return at_accuracy(browser, page)


def at_accuracy(browser: Browser, page: Path, width: int = 1400, dark: bool = False) -> Browser:
    browser.open(page, width, dark=dark)
    browser.get(f"document.querySelector('{ACCURACY}').scrollIntoView({{block: 'center'}})")
    browser.until(f"Boolean({FIGURE}.view)")
    return browser


def settled(browser: Browser) -> None:
    """Wait until the figure has been drawn as it is asked for by now."""
    browser.until(f"{FIGURE}.stale === false")
    drawn = f"{FIGURE}.drawn.then(() => {FIGURE}.view.runAsync())"
    browser.get(f"window.still = false; {drawn}.then(() => {{ window.still = true; }}); 0")
    browser.until("window.still")


def entry(name: str) -> str:
    return f"[...document.querySelectorAll('{ACCURACY} .legend button')].find(each => each.textContent === '{name}')"


def runs_in(browser: Browser) -> set[str]:
    settled(browser)
    return set(browser.get(f"{FIGURE}.shown.main.map(row => row.run)"))


def test_figures_are_drawn_under_the_policy_of_the_page_when_they_are_scrolled_to(browser: Browser, page: Path):
    browser.open(page, 1400)
    assert browser.get("figures.length") > 10
    assert browser.get("figures.filter(each => each.view).length") <= 4
    browser.get("document.querySelector('figure[data-name=matrices]').scrollIntoView()")
    browser.until("figures.some(each => each.element.dataset.name === 'matrices' && each.view)")
    assert browser.get("window.vegaEmbed !== undefined")
    assert browser.complaints() == []


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, True)])
def test_all_figures_can_be_drawn_wide_and_light_narrow_and_dark(browser: Browser, page: Path, width: int, dark: bool):
    browser.open(page, width, dark=dark)
    browser.get("document.querySelectorAll('details').forEach(each => each.open = true)")
    for place in range(browser.get("figures.length")):
        browser.get(f"figures[{place}].element.scrollIntoView()")
        browser.until(f"Boolean(figures[{place}].view)")
    assert browser.complaints() == []
    assert browser.get("document.documentElement.scrollWidth") <= width
    assert browser.get("document.querySelectorAll('.works > .drawn').length") > 10
    assert (
        browser.get("[...document.querySelectorAll('.works > .drawn')].filter(each => each.offsetHeight).length") == 0
    )


def test_a_hover_tells_the_values_of_the_nearest_point(shown: Browser):
    settled(shown)
    found = shown.get(
        f"(() => {{ const f = {FIGURE}; const row = f.shown.main.find(r => r.run === 'independent'); const p = pixelsOf(f, row);"
        "const b = f.canvas.getBoundingClientRect(); return [b.left + p[0], b.top + p[1], row.mean]; })()"
    )
    shown.call("Input.dispatchMouseEvent", type="mouseMoved", x=found[0], y=found[1])
    shown.until(f"!document.querySelector('{ACCURACY} .tip').hidden")
    said = shown.get(f"document.querySelector('{ACCURACY} .tip').textContent")
    assert "experiences learned 1" in said
    marks = (
        f"[...document.querySelectorAll('{ACCURACY} .canvas .mark-symbol path')].map(m => m.getBoundingClientRect())"
    )
    middles = shown.get(f"{marks}.map(b => [b.left + b.width / 2, b.top + b.height / 2])")
    assert min(abs(x - found[0]) + abs(y - found[1]) for x, y in middles) < 1  # where a mark is
    assert f"{found[2]:.4g}" in said


def test_values_are_reached_with_arrows_and_told_to_who_listens(shown: Browser):
    shown.get(f"document.querySelector('{ACCURACY} .plot').focus()")
    tip = f"document.querySelector('{ACCURACY} .tip')"
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        shown.press(key, 0)
        said.append(shown.get(f"{tip}.textContent"))
    assert len(set(said)) == 3
    assert shown.get(f"{tip}.getAttribute('role')") == "status"


def test_an_entry_of_the_legend_hides_its_run_in_all_figures_and_its_double_leaves_it_alone(shown: Browser):
    assert len(runs_in(shown)) == 6
    shown.get(f"{entry('ewc')}.click()")
    assert len(runs_in(shown)) == 5
    assert shown.get(f"{entry('ewc')}.getAttribute('aria-pressed')") == "false"
    shown.get("document.querySelector('figure[data-name=forgetting]').scrollIntoView()")
    shown.until("figures.some(each => each.element.dataset.name === 'forgetting' && each.view)")
    other = "figures.find(each => each.element.dataset.name === 'forgetting').shown.main.map(row => row.run)"
    assert "ewc" not in shown.get(other)
    shown.get(f"document.querySelector('{ACCURACY}').scrollIntoView()")
    shown.get(f"{entry('si')}.dispatchEvent(new MouseEvent('click', {{shiftKey: true}}))")
    assert runs_in(shown) == {"si"}
    shown.get(f"document.querySelector('{ACCURACY} .legend .all').click()")
    assert len(runs_in(shown)) == 6


def test_pointing_at_the_legend_makes_the_others_pale(shown: Browser):
    settled(shown)
    shown.get(f"{entry('si')}.dispatchEvent(new PointerEvent('pointerenter'))")
    assert shown.get(f"{FIGURE}.view.signal('lit')") == "si"
    shown.get(f"{entry('si')}.dispatchEvent(new PointerEvent('pointerleave'))")
    assert shown.get(f"{FIGURE}.view.signal('lit')") is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ewc", {"ewc"}),
        ("ewc, si, -finetune", {"ewc", "si"}),
        ("-independent -finetune -mas", {"ewc", "si", "lwf"}),
        ("nothing", set()),
    ],
)
def test_one_box_filters_figures_tables_and_contents(shown: Browser, text: str, left: set[str]):
    box = "document.querySelector('#filter input')"
    shown.get(f"{box}.value = {json.dumps(text)}; {box}.dispatchEvent(new Event('input'))")
    shown.until(f"document.querySelector('#filter output').textContent === '{len(left)} of 6 runs'")
    assert runs_in(shown) == left
    rows = (
        "[...document.querySelector('[data-group] tbody').rows].filter(row => !row.hidden).map(row => row.dataset.name)"
    )
    assert set(shown.get(rows)) == left
    articles = (
        "[...document.querySelectorAll('article')].filter(each => each.offsetHeight).map(each => each.dataset.name)"
    )
    assert set(shown.get(articles)) == left
    entries = "[...document.querySelectorAll('nav li li')].filter(li => !li.hidden).map(li => li.textContent)"
    assert set(shown.get(entries)) - {"Scores", "Pictures"} == left


def test_buttons_and_a_drag_zoom_and_reset_shows_all_again(shown: Browser):
    settled(shown)
    ends = f"JSON.stringify([{FIGURE}.view.scale('x').domain(), {FIGURE}.view.scale('y').domain()])"
    whole = json.loads(shown.get(ends))
    shown.get(
        f"[...document.querySelectorAll('{ACCURACY} .bar button')].find(each => each.textContent === '+').click()"
    )
    settled(shown)
    near = json.loads(shown.get(ends))
    assert all(
        low < inner_low < inner_high < high for (low, high), (inner_low, inner_high) in zip(whole, near, strict=True)
    )
    reset = f"[...document.querySelectorAll('{ACCURACY} .bar button')].find(each => each.textContent === 'Reset')"
    shown.get(f"{reset}.click()")
    settled(shown)
    assert json.loads(shown.get(ends)) == whole
    assert shown.get(f"{reset}.disabled") is True
    left, top = shown.get(
        f"(() => {{ const b = {FIGURE}.canvas.getBoundingClientRect(), o = cornerOf({FIGURE}.view);"
        "return [b.left + o[0], b.top + o[1]]; })()"
    )
    for kind, x, y in (
        ("mouseMoved", 20, 20),
        ("mousePressed", 20, 20),
        ("mouseMoved", 120, 22),
        ("mouseReleased", 120, 22),
    ):
        button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        held = {"buttons": 1} if x == 120 else {}
        shown.call("Input.dispatchMouseEvent", type=kind, x=left + x, y=top + y, **button, **held)
    settled(shown)
    dragged = json.loads(shown.get(ends))
    assert dragged[0] != whole[0]
    assert dragged[1] == whole[1]  # along one axis: that alone


def test_the_axis_is_fitted_to_what_is_shown_and_can_be_the_whole_scale(shown: Browser):
    settled(shown)
    domain = f"{FIGURE}.view.scale('y').domain()"
    low, high = shown.get(domain)
    least, most = shown.get(f"spanOf({FIGURE}.shown.main, ['mean'])")
    assert low <= least < most <= high < 2 * most
    shown.get(
        f"[...document.querySelectorAll('{ACCURACY} .bar button')].find(each => each.textContent === '0–1').click()"
    )
    settled(shown)
    assert shown.get(domain) == [0, 1]


def downloaded(browser: Browser, folder: Path, kind: str, figure: str = ACCURACY) -> bytes:
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.get(
        f"[...document.querySelectorAll('{figure} button')].find(each => each.textContent === '{kind}').click()"
    )
    end = time.monotonic() + 60
    while not (found := [each for each in folder.glob(f"*.{kind.lower()}") if each.stat().st_size]):
        assert time.monotonic() < end, f"no {kind}"
        time.sleep(0.02)
    return found[0].read_bytes()


def test_the_data_of_a_figure_are_a_download_as_they_are_shown(shown: Browser, tmp_path: Path):
    shown.get(
        f"[...document.querySelectorAll('{ACCURACY} .bar button')].find(each => each.textContent === 'Seeds').click()"
    )
    shown.get(f"{entry('ewc')}.click()")
    settled(shown)
    rows = list(csv.DictReader(io.StringIO(downloaded(shown, tmp_path, "CSV").decode())))
    assert {row["run"] for row in rows} == {"finetune", "independent", "si", "lwf", "</script><b>mas"}
    means = [row for row in rows if row["run"] == "si" and not row["seed"]]
    single = [row for row in rows if row["run"] == "si" and row["seed"]]
    assert len(single) == 2 * len(means) > 0
    first = [float(row["value"]) for row in single if row["experiences learned"] == "1"]
    assert float(means[0]["mean"]) == pytest.approx(sum(first) / 2, rel=1e-4)


def test_a_figure_is_a_download_as_svg_with_its_legend_and_as_png(shown: Browser, tmp_path: Path):
    settled(shown)
    svg = downloaded(shown, tmp_path, "SVG").decode()
    assert svg.startswith("<svg")
    assert "independent" in svg
    assert "ACC over the stream" in svg
    assert "<b>" not in svg
    assert downloaded(shown, tmp_path, "PNG").startswith(b"\x89PNG")
    assert shown.complaints() == []


def test_a_picture_that_is_no_figure_is_a_download_too(shown: Browser, tmp_path: Path):
    other = "figure[data-name=timeline]"
    shown.get("document.querySelector('article details').open = true")
    svg = downloaded(shown, tmp_path, "SVG", other).decode()
    assert "var(" not in svg
    assert svg.count("<path id=") > 5  # its letters are in it
    assert downloaded(shown, tmp_path, "PNG", other).startswith(b"\x89PNG")


def test_a_figure_fills_the_window_and_comes_back_to_its_place(shown: Browser):
    settled(shown)
    small = shown.get(f"{FIGURE}.plot.clientWidth")
    shown.get(f"document.querySelector('{ACCURACY} .enlarge-live').click()")
    settled(shown)
    assert shown.get(f"{FIGURE}.plot.clientWidth") > 1.5 * small
    shown.press("Escape", 27)
    shown.until(f"Boolean(document.querySelector('{ACCURACY} .live'))")
    settled(shown)
    assert shown.get(f"{FIGURE}.plot.clientWidth") == small
    assert shown.complaints() == []


def test_on_paper_pictures_stand_where_figures_were(browser: Browser, page: Path):
    at_accuracy(browser, page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.get(f"document.querySelector('{ACCURACY} .drawn').offsetHeight") > 50
    assert browser.get(f"document.querySelector('{ACCURACY} .live').offsetHeight") == 0
    assert browser.get("document.querySelector('#filter').offsetHeight") == 0


def test_without_scripts_pictures_and_tables_are_all_there(browser: Browser, page: Path):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, 1400)
        assert browser.get("document.documentElement.classList.length") == 0  # no script has run
        assert browser.get(f"document.querySelector('{ACCURACY} .drawn').offsetHeight") > 50
        assert browser.get("document.querySelector('table').offsetHeight") > 50
        assert browser.get("document.querySelector('#filter').offsetHeight") == 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
