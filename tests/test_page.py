"""The report as it is opened: in a browser, wide and narrow, light and dark, on paper, with mouse and keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from cl_engine.analysis.discovery import find_runs
from cl_engine.analysis.report.page import write_report
from cl_engine.experiment import Experiment
from tests.browser import Browser
from tests.conftest import TINY

HOSTILE = (
    "</script><script>alert(1)</script>",
    "$\\frac{",
    "\x1b[2J\x1b]0;owned\x07" + "\u202eآخر " * 3 + "🚀" + "W" * 10_000,
)
WIDTHS = (1400, 390)
FIRST_COLUMN = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].textContent.trim())"
KEYS = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[1].dataset.key)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about two scenarios, with hostile names, a run that is not finished, and a log that is damaged."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("finetune", "independent", "replay"):
        Experiment.of(TINY, name, (0, 1)).run(folder / "runs" / "one" / name)
    for name in ("finetune", "replay"):
        log = folder / "runs" / "two" / name / "log.h5"
        log.parent.mkdir(parents=True)
        shutil.copy(folder / "runs" / "one" / name / "log.h5", log)
        with h5py.File(log, "r+") as file:
            file.attrs["scenario"] = "another <b>scenario</b>" + "X" * 300
            file.attrs["status"] = "stopped" if name == "replay" else "finished"
            file.attrs["strategy"] = name + (HOSTILE[0] + HOSTILE[2] if name == "finetune" else "")
            file["results/task_name"][:] = list(HOSTILE)
            file["results/part"][0] = HOSTILE[2]
    damaged = folder / "runs" / "damaged" / "log.h5"
    damaged.parent.mkdir()
    damaged.write_bytes((folder / "runs" / "one" / "replay" / "log.h5").read_bytes()[:3000])
    runs, refused = find_runs([folder / "runs"])
    return write_report(runs, folder / "report.html", refused)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_the_window_and_nothing_in_it_is_forbidden_or_fails(
    browser: Browser, page: Path, width: int, dark: bool
):
    browser.open(page, width, dark=dark)
    browser.get("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.get("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []
    assert browser.get("document.querySelectorAll('main figure svg').length") > 20


def test_what_is_missing_is_said_before_anything_else(browser: Browser, page: Path):
    browser.open(page, 1400)
    said = browser.get("document.querySelector('.state').textContent")
    assert "damaged" in said
    assert "replay was stopped: 3 experiences in its log" in said
    above = "document.querySelector('.state').compareDocumentPosition(document.querySelector('table'))"
    assert browser.get(above) == 4  # the table follows


@pytest.mark.parametrize("width", WIDTHS)
def test_every_entry_of_the_contents_leads_somewhere(browser: Browser, page: Path, width: int):
    browser.open(page, width)
    targets = browser.get("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    assert len(targets) == len(set(targets)) > 10
    assert browser.get(f"{targets}.filter(id => !document.getElementById(id))") == []
    browser.click("nav a[href='#definitions']")
    assert browser.get("location.hash") == "#definitions"


def test_no_two_elements_share_a_name_and_every_reference_is_met(browser: Browser, page: Path):
    browser.open(page, 1400)
    names = browser.get("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(names) == len(set(names))
    uses = browser.get("[...new Set([...document.querySelectorAll('use')].map(u => u.getAttribute('href').slice(1)))]")
    assert set(uses) <= set(names)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_click_on_a_head_sorts_the_table_and_another_turns_it_around(browser: Browser, page: Path, width: int):
    browser.open(page, width)
    browser.get("document.querySelector('#scenario-1, table')")
    table = "document.querySelectorAll('table.sortable')[1]"  # the first is the overview
    keys = f"[...{table}.tBodies[0].rows].map(row => Number(row.cells[1].dataset.key))"
    browser.get(f"{table}.tHead.rows[0].cells[1].firstElementChild.id = 'wanted'")
    browser.click("#wanted")
    assert browser.get(keys) == sorted(browser.get(keys), reverse=True)
    assert browser.get(f"{table}.tHead.rows[0].cells[1].getAttribute('aria-sort')") == "descending"
    browser.click("#wanted")
    assert browser.get(keys) == sorted(browser.get(keys))
    assert len(set(browser.get(keys))) > 1


def test_tables_are_sorted_by_keyboard_too_and_what_is_undefined_stays_last(browser: Browser, page: Path):
    browser.open(page, 1400)
    assert "" in browser.get(KEYS)  # the overview: not every strategy ran on every scenario
    for _ in range(2):
        browser.get("document.querySelector('table th:nth-child(2) button').focus()")
        browser.press("Enter", 13, "\r")
        assert browser.get(KEYS)[-1] == ""
    assert browser.get("document.querySelector('table th:nth-child(2)').getAttribute('aria-sort')") == "ascending"
    browser.get("document.querySelector('table th button').focus()")
    browser.press("Enter", 13, "\r")
    names = browser.get(FIRST_COLUMN)
    assert names == sorted(names)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_picture_is_enlarged_by_a_click_and_closed_by_escape(browser: Browser, page: Path, width: int):
    browser.open(page, width)
    browser.get("document.querySelectorAll('details').forEach(each => each.open = true)")
    picture = "figure[data-name=timeline] .drawn"  # no figure to work in takes its place
    small = browser.get(f"document.querySelector('{picture} svg').getBoundingClientRect().width")
    browser.click(picture)
    assert browser.get("document.querySelector('dialog').open") is True
    large = browser.get("document.querySelector('dialog svg').getBoundingClientRect()")
    assert browser.get("document.querySelector('dialog svg').getBoundingClientRect().width") > small * 0.9
    assert browser.get("document.querySelectorAll('dialog svg use').length") > 0
    browser.press("Escape", 27)
    assert browser.get("document.querySelector('dialog').open") is False
    browser.until(
        "document.querySelector('dialog svg') === null"
    )  # what the dialog's closing brings about comes after it
    assert large is not None
    assert browser.complaints() == []


def test_pictures_have_the_colours_of_the_scheme(browser: Browser, page: Path):
    fills = []
    for dark in (False, True):
        browser.open(page, 1400, dark=dark)
        paper = "getComputedStyle(document.querySelector('main figure svg path')).fill"
        ink = "getComputedStyle(document.querySelector('main figure svg g[style*=p222222]')).fill"
        fills.append((browser.get(paper), browser.get(ink)))
    assert fills == [("rgb(255, 255, 255)", "rgb(34, 34, 34)"), ("rgb(31, 36, 41)", "rgb(227, 230, 234)")]


def test_on_paper_nothing_is_cut_off_and_all_that_was_folded_is_there(browser: Browser, page: Path):
    browser.open(page, 700, medium="print")  # as wide as A4 between its margins
    assert browser.get("document.documentElement.scrollWidth") <= 700
    wide = "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > 701).length"
    assert browser.get(wide) == 0
    folded = "[...document.querySelectorAll('details dl')].filter(each => each.offsetHeight === 0).length"
    assert browser.get(folded) == 0
    assert browser.get("getComputedStyle(document.querySelector('nav')).display") == "none"
    heads = (
        "[...document.querySelectorAll('th')].filter(head => head.textContent.trim() && !head.innerText.trim()).length"
    )
    assert browser.get(heads) == 0


def test_hostile_names_are_text_and_run_nothing(browser: Browser, page: Path):
    browser.open(page, 1400)
    assert page.read_text().count("<script>") == 1  # the other elements hold data
    assert browser.get("document.querySelectorAll('main b').length") == 0
    text = browser.get("document.body.textContent")
    assert "alert(1)" in text
    assert not {"\x1b", "\u202e", "\x07"} & set(text)


@pytest.mark.usefixtures("without_drawing")
def test_an_overview_of_many_scenarios_does_not_widen_the_page(browser: Browser, page: Path, tmp_path: Path):
    for number in range(12):
        log = tmp_path / str(number) / "log.h5"
        log.parent.mkdir()
        shutil.copy(page.parent / "runs" / "one" / "replay" / "log.h5", log)
        with h5py.File(log, "r+") as file:
            file.attrs["scenario"] = f"a_scenario_of_some_length_{number}"
    runs, _ = find_runs([tmp_path])
    wide = write_report(runs, tmp_path / "wide.html")
    for width in (1400, 1150, 390):
        browser.open(wide, width)
        assert browser.get("document.documentElement.scrollWidth") <= width
        assert browser.get("document.querySelector('main').getBoundingClientRect().right") <= width
