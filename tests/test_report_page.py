"""The page of `rtc report` in a real browser: layout, numbers, keyboard, dark mode, no word to anybody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from sweep_folder import DELAYS, STRATEGIES, TASKS, make_summary, write_sweep

from rtc.report.html.looks import MARKERS
from rtc.report.html.write import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs Debian's")

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported sweep."""
    folder = write_sweep(tmp_path_factory.mktemp("sweep"), make_summary())
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM)


@pytest.fixture
def open_page(browser: Browser, folder: Path) -> Iterator[Open]:
    """Opens the report from disk; afterwards: nothing was logged, and nothing but the file was asked for."""
    seen: list[str] = []
    contexts = []

    def open_page(width: int = 1280, path: Path | None = None, **settings: Any) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **settings))
        page = contexts[-1].new_page()
        file = (path or folder / "report.html").as_uri()
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None if request.url in (file, page.url) else seen.append(f"request: {request.url}")
            ),
        )
        page.goto(file)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [line for line in seen if not line.startswith("request: data:")] == []


def hover(chart: Locator, column: int) -> None:
    """Point at a delay, where no marker is."""
    svg, wanted = chart.locator("svg").first, chart.locator(".column").nth(column)
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    assert box
    left, right = (float(wanted.get_attribute(name) or "") for name in ("data-left", "data-right"))
    view = [float(number) for number in (svg.get_attribute("viewBox") or "").split()]
    chart.page.mouse.move(
        box["x"] + (left + right) / 2 * box["width"] / view[2], box["y"] + box["height"] - 3
    )


def shown_rows(chart: Locator) -> dict[str, list[str]]:
    """The numbers that are to be seen beside a chart: strategy -> texts."""
    rows = chart.locator("tbody:visible tr[data-series]").all()
    return {row.locator("th").inner_text().strip(): row.locator("td").all_inner_texts() for row in rows}


def cells_at(folder: Path, task: str, delay: str) -> dict[str, dict[str, Any]]:
    cells = json.loads((folder / "summary.json").read_text())["cells"]
    return {cell["strategy"]: cell for cell in cells if (cell["task"], cell["delay"]) == (task, delay)}


@pytest.mark.parametrize("column", range(len(DELAYS)))
def test_pointing_at_a_delay_shows_the_numbers_of_the_summary(
    open_page: Open, folder: Path, column: int
) -> None:
    page = open_page()
    tab = page.locator(".tab:visible")
    cells = cells_at(folder, "Catch-v0", DELAYS[column])
    success, jump, jerk = (tab.locator(f"[data-chart={name}]") for name in ("success", "jump", "jerk"))
    hover(success, column)
    assert shown_rows(success) == {
        label: [
            f"{100 * cell['success']['value']:.0f} %",
            f"[{100 * cell['success']['low']:.0f}, {100 * cell['success']['high']:.0f}]",
            f"{cell['successes']}/{cell['episodes']}",
            str(cell["execution_horizon"]),
        ]
        for label, cell in cells.items()
    }
    for chart, name in ((jump, "boundary_jump"), (jerk, "rms_jerk")):
        hover(chart, column)
        assert shown_rows(chart) == {
            label: ["–" if cell[name] is None else f"{cell[name]:.3g}"] for label, cell in cells.items()
        }


def test_the_markers_stand_where_the_numbers_say(open_page: Open, folder: Path) -> None:
    page = open_page()
    chart = page.locator("#task-Catch-v0 [data-chart=success]")
    values = {label: cell["success"]["value"] for label, cell in cells_at(folder, "Catch-v0", "4").items()}
    ticks = chart.locator("text.value").all()
    zero, one = (float(tick.get_attribute("y") or "") - 5 for tick in (ticks[0], ticks[-1]))
    for index, label in enumerate(STRATEGIES):
        mark = chart.locator(f"g[data-series='{index}'] use[data-column='{DELAYS.index('4')}']")
        share = (float(mark.get_attribute("y") or "") - zero) / (one - zero)
        assert share == pytest.approx(values[label], abs=0.002)


def test_every_marker_has_a_shape_of_its_own(open_page: Open) -> None:
    page = open_page()
    shapes = page.locator("[id^=m]").evaluate_all(
        "found => found.map(m => m.getAttribute('d') + m.getAttribute('fill'))"
    )
    assert len(shapes) == len(set(shapes)) == MARKERS


def test_a_tap_shows_numbers_too(open_page: Open, folder: Path) -> None:
    page = open_page(390, has_touch=True)
    chart = page.locator(".tab:visible [data-chart=success]")
    mark = chart.locator("g[data-series='1'] use[data-column='1']")
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    cell = cells_at(folder, "Catch-v0", DELAYS[1])["naive"]
    assert shown_rows(chart)["naive"][2] == f"{cell['successes']}/{cell['episodes']}"
    assert chart.locator("tr.lit:visible").count() == 1


def test_the_arrow_keys_go_from_delay_to_delay(open_page: Open) -> None:
    page = open_page()
    chart = page.locator(".tab:visible [data-chart=success]")
    chart.locator(".plot").focus()
    heads = []
    for _ in range(len(DELAYS) + 1):
        heads.append(chart.locator("tbody:visible .head th").first.inner_text())
        page.keyboard.press("ArrowLeft")
    assert heads == [
        *("d = 8 ticks (160 ms)", "d = 4 ticks (80 ms)", "d = 2 ticks (40 ms)", "d = 0 ticks (0 ms)"),
        *["d = 0 ticks (0 ms)"] * 2,
    ]
    for _ in DELAYS:
        page.keyboard.press("ArrowRight")
    assert chart.locator("tbody:visible .head th").first.inner_text() == "spiky:2:8:0.1"


def test_one_task_is_open_and_a_click_opens_another(open_page: Open) -> None:
    page = open_page()
    assert page.locator(".tab:visible").evaluate_all("found => found.map(tab => tab.id)") == ["task-Catch-v0"]
    page.get_by_role("tab", name=TASKS["Peg-v0"]["title"]).click()
    assert page.locator(".tab:visible").evaluate_all("found => found.map(tab => tab.id)") == ["task-Peg-v0"]
    page.reload()  # the address has kept it
    assert page.locator("#task-Peg-v0").is_visible()


def test_tabs_work_by_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    tabs = page.get_by_role("tab")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "tab":
            break
    for key, open_one in (("ArrowRight", 1), ("ArrowRight", 0), ("ArrowLeft", 1), ("Home", 0), ("End", 1)):
        page.keyboard.press(key)
        assert tabs.nth(open_one).get_attribute("aria-selected") == "true"
        assert page.evaluate("document.activeElement.id") == tabs.nth(open_one).get_attribute("id")
        assert page.get_by_role("tabpanel").count() == 1
        assert page.get_by_role("tabpanel").get_attribute("aria-labelledby") == tabs.nth(
            open_one
        ).get_attribute("id")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_page(open_page: Open, width: int) -> None:
    page = open_page(width)
    for tab in page.get_by_role("tab").all():
        tab.click()
        for details in page.locator("details:visible > summary").all():
            details.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        outside = page.locator("main *:visible").evaluate_all(
            """found => found.filter(part => part.getBoundingClientRect().right > innerWidth + 1 &&
                !part.closest('.scroll, svg, .symbols')).map(part => part.outerHTML.slice(0, 80))"""
        )
        assert outside == []


def test_letters_on_a_phone_are_large_enough(open_page: Open) -> None:
    page = open_page(390)
    heights = page.locator(".tab:visible .plot text:visible").evaluate_all(
        "found => found.map(text => text.getBoundingClientRect().height)"
    )
    assert min(heights) > 11


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_stands_out_from_the_page_in_either_mode(open_page: Open, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    colours = page.evaluate(
        """() => { const of = (found, name) => getComputedStyle(document.querySelector(found))[name];
            return [of('body', 'backgroundColor'), of('body', 'color'), of('.quiet', 'color')] }"""
    )
    background, *texts = [brightness(colour) for colour in colours]
    assert background > 0.9 if scheme == "light" else background < 0.02
    for text in texts:
        assert (max(text, background) + 0.05) / (min(text, background) + 0.05) > 4.5
    lines = page.locator(".line").evaluate_all("found => found.map(line => getComputedStyle(line).color)")
    for line in {brightness(colour) for colour in lines}:
        assert (max(line, background) + 0.05) / (min(line, background) + 0.05) > 2


def brightness(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`."""
    shares = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [((share + 0.055) / 1.055) ** 2.4 if share > 0.04045 else share / 12.92 for share in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_without_javascript_every_task_is_open_and_has_its_numbers(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator(".tab:visible").count() == len(TASKS)
    assert page.locator("#task-Peg-v0 [data-chart=success] tbody:visible").count() == 1
    page.locator("#task-Peg-v0 details summary").last.click()
    assert page.locator("#task-Peg-v0 details table tbody tr:visible").count() == len(STRATEGIES) * len(
        DELAYS
    )


def test_the_copied_command_is_the_one_that_is_shown(open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator(".copy code").first.inner_text()
    assert copied.startswith("rtc rollout --task Catch-v0")


def test_names_cannot_smuggle_markup_into_the_page(open_page: Open, tmp_path: Path) -> None:
    summary = make_summary()
    summary["tasks"]["Catch-v0"]["title"] = "<script>console.log('smuggled')</script>"
    for cell in summary["cells"]:
        cell["failures"] = {"</svg><img src=x onerror=console.log(1)>": 1}
    page = open_page(path=write_report(write_sweep(tmp_path, summary)))
    assert page.get_by_role("tab").first.inner_text() == "<script>console.log('smuggled')</script>"
    assert page.locator("img").count() == 0


def test_films_play_from_inside_the_page(open_page: Open, tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, make_summary())
    (folder / "videos").mkdir()
    shutil.copy(Path(__file__).parents[1] / "docs/images/Peg.gif", folder / "videos/Peg-v0-naive-d4.gif")
    report = write_report(folder)
    shutil.rmtree(folder / "videos")
    page = open_page(path=report)
    page.get_by_role("tab").nth(1).click()
    picture = page.get_by_role("img", name="Peg-v0-naive-d4")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert page.locator("#task-Peg-v0 .films img").count() == 1
