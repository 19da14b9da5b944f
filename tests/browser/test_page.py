"""The report page in a browser: it draws itself in light and dark, on a wide screen and a phone.

`python tests/browser/test_page.py PAGE.html docs/report-page.png` makes the picture of README.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

pytestmark = pytest.mark.slow
WIDE: "ViewportSize" = {"width": 1280, "height": 900}
FIRST: "ViewportSize" = {"width": 1280, "height": 800}
PHONE: "ViewportSize" = {"width": 390, "height": 844}
Scheme = Literal["light", "dark"]
MINUTE = 60_000
INK = """canvas => {
  const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(image.data.buffer)).size;
}"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the page of a search of two trials on the packaged sample."""
    from lartpc_ray.report import __main__ as report
    from lartpc_ray.terminal.command import run
    from lartpc_ray.tune import __main__ as tune

    runs = tmp_path_factory.mktemp("study")
    where, page = ["--runs", str(runs)], runs / "page.html"
    assert run(tune.parser(), tune.main, ["clustering", "--budget", "smoke", *where]) == 0
    wanted = ["clustering", "--html", str(page), *where]
    assert run(report.parser(), report.main, wanted) == 0
    return page


def opened(page: "Page", file: Path) -> None:
    """Open the page; wait until its charts and its events are drawn."""
    page.goto(file.as_uri(), timeout=2 * MINUTE)
    page.wait_for_selector("html[data-drawn=yes]", timeout=2 * MINUTE)
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every(one => one.querySelector('svg'))",
        timeout=2 * MINUTE,
    )


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_itself(
    page: "Page",
    errors: list[str],
    file: Path,
    size: "ViewportSize",
    scheme: Literal["light", "dark"],
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url[:60]))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(size)
    opened(page, file)
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= size["width"], "nothing stands out to the right"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(251, 251, 250)", "dark": "rgb(20, 23, 28)"}[scheme]
    canvases = page.locator("canvas[role=img]")
    gallery = page.locator("section", has=page.locator("h2", has_text="Worst")).locator("canvas")
    assert gallery.count() == 18, "three worst and three best events, three drawings each"
    assert canvases.count() > 18, "and mistakes"
    count = canvases.count()
    assert all(canvases.nth(place).evaluate(INK) > 2 for place in range(count)), "voxels are drawn"


def test_the_first_screen_has_verdict_table_and_surfaces(page: "Page", file: Path) -> None:
    page.set_viewport_size(FIRST)
    opened(page, file)
    assert file.stat().st_size < 6e6
    picture = os.environ.get("LARTPC_SCREENSHOTS")
    if picture:
        page.screenshot(path=Path(picture) / "report-first-screen.png")
    parts = {
        "head": page.locator("dl"),
        "verdict": page.locator(".verdict p").first,
        "table": page.locator(".verdict table").first,
        "surface": page.locator(".thresholds .plot").nth(1),
    }
    for name, part in parts.items():
        box = part.bounding_box()
        assert box is not None, name
        assert box["y"] >= 0, name
        assert box["y"] + box["height"] <= FIRST["height"], name


def test_a_closed_section_opens_with_its_charts_at_full_width(page: "Page", file: Path) -> None:
    page.set_viewport_size(FIRST)
    opened(page, file)
    page.get_by_role("link", name="Many clusters").click()
    section = page.locator("section", has=page.locator("h2", has_text="Many clusters"))
    page.wait_for_function(
        "([plot]) => plot.querySelector('svg').clientWidth <= plot.clientWidth + 2",
        arg=[section.locator(".plot").first.element_handle()],
        timeout=MINUTE,
    )


def test_the_drawings_of_an_event_turn_together(page: "Page", file: Path) -> None:
    page.set_viewport_size(WIDE)
    opened(page, file)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    event = page.locator("figure.event").first
    event.scroll_into_view_if_needed()
    drawings = event.locator("canvas")
    look = "canvas => canvas.toDataURL()"
    count = drawings.count()
    assert count > 1
    before = [drawings.nth(place).evaluate(look) for place in range(count)]
    drawings.first.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(2000)
    after = [drawings.nth(place).evaluate(look) for place in range(count)]
    assert all(old != new for old, new in zip(before, after, strict=True))


def picture(browser: "Browser", file: Path, path: Path) -> None:
    """Draw the main parts of a page, light beside dark."""
    from io import BytesIO

    from PIL import Image

    halves = []
    for scheme in get_args(Scheme):
        page = browser.new_context(viewport=WIDE, color_scheme=scheme).new_page()
        opened(page, file)
        heads = ["Verdict", "What was tried"] if scheme == "light" else ["Thresholds", "Worst"]
        column = []
        for head in heads:
            page.get_by_role("link", name=head).first.click()
            section = page.locator("section", has=page.locator("h2", has_text=head)).first
            section.scroll_into_view_if_needed()
            page.wait_for_timeout(4000)
            column.append(Image.open(BytesIO(section.screenshot())))
        halves.append(column)
    width, height = 1120, 1500
    shown = Image.new("RGB", (2 * width, height), "#fbfbfa")
    for place, column in enumerate(halves):
        top = 0
        for number, part in enumerate(column):
            most = height * 9 // 16 if number == 0 and place == 0 else height
            most = min(most, part.height)
            shown.paste(part.crop((0, 0, part.width, most)), (place * width, top))
            top += most
    small = shown.resize((width, height // 2), Image.Resampling.LANCZOS)
    small.quantize(256, kmeans=1).save(path, optimize=True)


if __name__ == "__main__":
    import shutil

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        picture(chromium, Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
        chromium.close()
