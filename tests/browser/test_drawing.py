"""The page of an event in a browser: nothing lies on another, also in a small window."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lartpc_ray.data.draw import write_drawing
from lartpc_ray.data.files import open_events
from lartpc_ray.data.splits import sample
from lartpc_ray.data.views import views

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

pytestmark = pytest.mark.slow
SIZES: tuple["ViewportSize", ...] = ({"width": 800, "height": 600}, {"width": 1280, "height": 800})
PARTS = (".gtitle", ".updatemenu-button", ".annotation", ".legend .bg")


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw an event with predicted clusters."""
    page = tmp_path_factory.mktemp("drawing") / "event.html"
    with open_events(sample("test")) as events:
        event = events[0]
    write_drawing(page, event, "test.h5, event 0", views(event, clusters=event.cluster))
    return page


@pytest.mark.parametrize("size", SIZES, ids=["small", "wide"])
def test_title_buttons_and_headings_lie_apart(
    page: "Page", errors: list[str], drawing: Path, size: "ViewportSize"
) -> None:
    page.set_viewport_size(size)
    page.goto(drawing.as_uri())
    page.wait_for_selector(".annotation")
    page.wait_for_timeout(1000)
    assert errors == []
    assert page.title() == "test.h5, event 0"
    boxes = []
    for part in PARTS:
        found = page.locator(part)
        sides = found.evaluate_all("""parts => parts.map(part => {
          const box = part.getBoundingClientRect();
          return [box.left, box.top, box.right, box.bottom];
        })""")
        assert sides, part
        boxes.append((part, sides))
        for left, top, right, bottom in sides:
            assert 0 <= left < right <= size["width"], part
            assert 0 <= top < bottom <= size["height"], part
    for n, (part, sides) in enumerate(boxes):
        for other, others in boxes[n + 1 :]:
            for one in sides:
                assert not any(_overlap(one, two) for two in others), f"{part} on {other}"


def _overlap(one: list[float], two: list[float]) -> bool:
    """Return whether two boxes (left, top, right, bottom) overlap."""
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
