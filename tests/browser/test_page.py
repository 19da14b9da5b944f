"""The report page in a browser: it draws itself in light and dark, on a wide screen and a phone."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from PIL import Image

from browser.conftest import Search, keep

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

pytestmark = pytest.mark.slow
WIDE: "ViewportSize" = {"width": 1280, "height": 900}
FIRST: "ViewportSize" = {"width": 1280, "height": 800}
PHONE: "ViewportSize" = {"width": 390, "height": 844}
Scheme = Literal["light", "dark"]
MINUTE = 60_000
HALVES: tuple[tuple[Scheme, tuple[str, ...]], ...] = (
    ("light", ("Verdict", "What was tried")),
    ("dark", ("Thresholds", "Worst")),
)
"""The sections of the picture for docs/."""
HALF, HEIGHT = 1120, 2300
"""Size of a half of that picture [pixels], before it is made half as large."""
GROUND = {"light": "#fbfbfa", "dark": "#14171c"}
INK = """canvas => {
  const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(image.data.buffer)).size;
}"""


@pytest.fixture(scope="module")
def file(search: Search) -> Path:
    """Make the page of the search."""
    from lartpc_ray.report import __main__ as report
    from lartpc_ray.terminal.command import run

    page = search.runs / "page.html"
    wanted = ["clustering", "--html", str(page), "--runs", str(search.runs)]
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
    keep(page, "report-first-screen.png")
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


def test_no_title_of_an_axis_is_cut_off(page: "Page", file: Path) -> None:
    page.set_viewport_size(FIRST)
    opened(page, file)
    titles = page.locator(".thresholds .plot svg .ytitle, .thresholds .plot svg .xtitle")
    texts = " ".join(titles.all_text_contents())
    assert "min_cluster_voxels" in texts
    assert "join_probability" in texts
    sizes = titles.evaluate_all("""titles => titles.map(title => {
      const [text, plot] = [title, title.closest('.plot')].map(one => one.getBoundingClientRect());
      return [text.top - plot.top, plot.bottom - text.bottom,
              text.left - plot.left, plot.right - text.right];
    })""")
    assert len(sizes) == 10, "two axes of five classes"
    assert min(map(min, sizes)) >= 0


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


def test_a_picture_of_the_page_in_light_and_dark(
    browser: "Browser", file: Path, tmp_path: Path
) -> None:
    """`make screenshots` keeps it; LARTPC_PAGE names the page of a longer search."""
    folder = Path(os.environ.get("LARTPC_SCREENSHOTS", tmp_path))
    halves = [_half(browser, Path(os.environ.get("LARTPC_PAGE") or file), *half) for half in HALVES]
    shown = Image.new("RGB", (sum(half.width for half in halves), HEIGHT), "#fbfbfa")
    for place, half in enumerate(halves):
        assert half.height >= HEIGHT * 0.6, "the sections fill their half"
        shown.paste(half, (place * HALF, 0))
    small = shown.resize((HALF, HEIGHT // 2), Image.Resampling.LANCZOS)
    small.quantize(256, kmeans=1).save(folder / "report-page.png", optimize=True)


def _half(browser: "Browser", file: Path, scheme: Scheme, heads: Sequence[str]) -> Image.Image:
    """Draw sections of a page one below the other, each as wide as the half."""
    page = browser.new_context(viewport=WIDE, color_scheme=scheme).new_page()
    opened(page, file.resolve())
    drawn, top = Image.new("RGB", (HALF, HEIGHT), GROUND[scheme]), 0
    for head in heads:
        page.get_by_role("link", name=head).first.click()
        section = page.locator("section", has=page.locator("h2", has_text=head)).first
        section.scroll_into_view_if_needed()
        page.wait_for_timeout(2000)
        whole = Image.open(BytesIO(section.screenshot()))
        part = whole.resize((HALF, round(whole.height * HALF / whole.width)))
        drawn.paste(part, (0, top))
        top += part.height
    page.context.close()
    return drawn.crop((0, 0, HALF, min(top, HEIGHT)))
