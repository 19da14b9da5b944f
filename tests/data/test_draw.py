"""The page and the picture of an event."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_event
from plotly import graph_objects as plotly

from lartpc_ray.data import __main__ as data
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.draw import (
    MAX_VOXELS,
    _make_picture,
    brightest,
    describe,
    draw,
    match_voxels,
    write_drawing,
)
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import write_events
from lartpc_ray.data.views import GREY, views
from lartpc_ray.terminal import phases
from lartpc_ray.terminal.command import run

FILES = Path(__file__).parent / "files"


def command(*arguments: object) -> int:
    return run(data.parser(), data.main, [str(argument) for argument in arguments])


def labels(page: Path) -> list[str]:
    """Return the buttons of a page: its ways to colour."""
    return re.findall(r'"label":"([^"]*)","method":"update"', page.read_text())


def test_the_real_event_is_drawn(tmp_path: Path) -> None:
    page = tmp_path / "event.html"
    file = FILES / "pilarnet_m_event7675.npz"
    assert command("draw", file, "--side", 768, "--event", 0, "-o", page) == 0
    text, picture = page.read_text(), (tmp_path / "event.png").read_bytes()
    assert not re.search(r"<(script|link)[^>]*(src|href)=", text), "nothing is fetched"
    assert "Plotly.newPlot" in text
    assert "1277 voxels, 856 MeV" in text
    title = "<title>pilarnet_m_event7675.npz, event 0: 1277 voxels, 856 MeV</title>"
    assert title in text.split("</head>")[0]
    assert labels(page) == ["energy", "class", "true cluster"]
    assert 4e6 < len(text) < 10e6
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["event.html", "event.png"]


def test_predicted_clusters_beside_the_true_ones(tmp_path: Path, rng: np.random.Generator) -> None:
    event = make_event(rng, 40)
    write_events(tmp_path / "a.h5", [event])
    found = event.select(event.semantic >= 0)
    write_events(tmp_path / "b.h5", [found], predicted=True)
    page, rest = tmp_path / "a.html", ("--side", 16, "--event", 0, "-o", tmp_path / "a.html")
    assert command("draw", tmp_path / "b.h5", *rest) == 0
    assert labels(page) == ["energy", "class", "predicted cluster"]
    assert command("draw", tmp_path / "a.h5", *rest, "--predicted", tmp_path / "b.h5") == 0
    assert labels(page) == ["energy", "class", "true cluster"]
    assert '"scene2"' in page.read_text(), "predicted clusters at the right"


def test_a_figure_for_a_notebook(rng: np.random.Generator) -> None:
    event = make_event(rng, 40)
    found = replace(event, cluster=(event.cluster + 7).astype(np.int32))
    for predicted in (found, found.cluster, found.select(np.arange(40) < 30)):
        figure = draw(event, predicted)
        assert figure.layout.title.text == f"40 voxels, {event.energy.sum():.0f} MeV"
        for scene in ("scene", "scene2"):
            drawn = [trace for trace in figure.data if trace.visible and trace.scene == scene]
            assert sum(len(trace.x) for trace in drawn) == 40
        assert [note.text for note in figure.layout.annotations] == [
            "true cluster", "predicted cluster",
        ]  # fmt: skip
        energy = figure.layout.updatemenus[0].buttons[0].args[0]["visible"]
        (bright, *_) = (t for t, on in zip(figure.data, energy, strict=True) if on)
        assert bright.marker.colorbar.title.text == "energy [MeV]"
        position, *hover = bright.hovertemplate.removesuffix("<extra></extra>").split("<br>")
        assert position == "(%{x}, %{y}, %{z}) voxel"
        assert hover == [
            "%{customdata[0]:.3g} MeV", "true cluster %{customdata[1]}",
            "predicted cluster %{customdata[2]}", "class %{text}",
        ]  # fmt: skip
        assert bright.customdata[:, 0].tolist() == pytest.approx(event.energy.tolist(), 1e-5)
        assert bright.customdata[:, 1].tolist() == event.cluster.tolist()
        assert set(bright.text) <= {*CLASS_NAMES, "none"}
    assert len(draw(event).layout.updatemenus[0].buttons) == 3
    with pytest.raises(ValueError, match="not the same event"):
        draw(event, make_event(rng, 40, side=8))


def test_a_voxel_in_no_cluster_has_the_same_word_beside_the_mouse_and_in_the_legend(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    cluster = np.where(np.arange(40) < 9, -1, 3).astype(np.int32)
    event, predicted = replace(make_event(rng, 40), cluster=cluster), np.tile([5, -1], 20)
    figure = draw(event, predicted)
    bright, *coloured = figure.data
    assert bright.customdata[:, 1].tolist() == ["none"] * 9 + [3] * 31
    assert bright.customdata[:, 2].tolist() == [5, "none"] * 20
    assert {trace.name for trace in coloured if trace.marker.color == GREY} == {"none"}
    page = tmp_path / "page.html"
    write_drawing(page, event, "an event", views(event, clusters=predicted))
    assert re.search(r'"customdata":\[\[[0-9.]+,"none",5\]', page.read_text())


def pressed(page_or_figure: Path | plotly.Figure) -> tuple[str, list[str]]:
    """Return the button that is pressed first, and the titles of the drawings that it shows."""
    figure = page_or_figure
    if isinstance(figure, Path):
        layout = re.search(r'"updatemenus":\[\{"active":(\d+)', figure.read_text())
        assert layout is not None
        return labels(figure)[int(layout[1])], []
    (menu,) = figure.layout.updatemenus
    titles = [note.text for note in figure.layout.annotations]
    return menu.buttons[menu.active].label, titles


def test_predicted_classes_stand_beside_the_true_ones(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    event = make_event(rng, 40)
    other = np.where(event.semantic == 0, 1, event.semantic).astype(np.int32)
    figure = draw(event, replace(event, semantic=other))
    assert pressed(figure) == ("class", ["class", "predicted class"])
    texts = {trace.name for trace in figure.data if trace.visible and trace.scene == "scene2"}
    assert texts == {[*CLASS_NAMES, "none"][index] for index in set(other.tolist())}
    shown = {note["text"] for button in figure.layout.updatemenus[0].buttons
             for note in button.args[1]["annotations"]}  # fmt: skip
    assert "predicted cluster" not in shown, "the clusters are those of the event"
    both = replace(event, semantic=other, cluster=(event.cluster + 5).astype(np.int32))
    assert pressed(draw(event, both)) == ("true cluster", ["true cluster", "predicted cluster"])
    write_events(tmp_path / "a.h5", [event])
    write_events(tmp_path / "b.h5", [replace(event, semantic=other)], predicted=True)
    page, rest = tmp_path / "a.html", ("--side", 16, "--event", 0, "-o", tmp_path / "a.html")
    assert command("draw", tmp_path / "a.h5", *rest, "--predicted", tmp_path / "b.h5") == 0
    assert pressed(page)[0] == "class"
    assert '"text":"predicted class"' in page.read_text()
    assert '"text":"predicted cluster"' not in page.read_text()


def test_the_default_page_bears_the_file_and_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("draw", "sample/tune", "--event", 2) == 0
    assert capsys.readouterr().out == "tune-event-2.html and tune-event-2.png\n"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["tune-event-2.html", "tune-event-2.png"]


def test_voxels_are_matched_by_position(rng: np.random.Generator) -> None:
    event = make_event(rng, 30)
    order = rng.permutation(30)
    other = event.select(order >= 5)
    found = match_voxels(event, other)
    assert found[order >= 5].tolist() == event.cluster[order >= 5].tolist()
    assert (found[order < 5] == -1).all()
    with pytest.raises(ValueError, match="not one voxel in common"):
        match_voxels(event.select(order < 5), other)
    with pytest.raises(ValueError, match="not the same event"):
        match_voxels(event, make_event(rng, 5, side=8))


def test_a_cluster_lives_within_a_class() -> None:
    event = Event.of(
        np.array([[n, 0, 0] for n in range(5)]),
        np.ones(5),
        (8, 8, 8),
        semantic=np.array([0, 1, 1, 1, 1]),
        cluster=np.array([3, 3, 3, -1, 5]),
    )
    assert views(event)[2].value.tolist() == [1, 0, 0, -1, 2]


def test_planes_and_empty_events(tmp_path: Path) -> None:
    flat = Event.of(np.array([[1, 2], [3, 3]]), np.ones(2), (4, 8), semantic=np.array([1, -1]))
    none = Event.of(np.zeros((0, 3), int), np.zeros(0), (8, 8, 8))
    for event in (flat, none):
        write_drawing(tmp_path / "a.html", event, "title", views(event))
        assert len(labels(tmp_path / "a.html")) == 3
        assert len(draw(event, event).layout.updatemenus[0].buttons) == 3
    figure = draw(flat)
    image, points = (trace for trace in figure.data if trace.visible)
    assert (image.x0, image.y0) == (1, 2)
    assert np.isfinite(image.z).sum() == 2
    assert figure.layout.xaxis.title.text == "wire"
    assert figure.layout.yaxis.title.text == "tick"
    assert points.hovertemplate.startswith("wire %{x}, tick %{y}<br>%{customdata[0]:.3g} ADC<br>")
    with pytest.raises(ValueError, match=r"voxel_cm 0\.3: a 2D event has axes of wires and ticks"):
        draw(flat, voxel_cm=0.3)
    assert list(points.text) == ["MIP", "none"]


@pytest.mark.parametrize("extent", [(300, 60), (60, 300), (150, 150)], ids=str)
def test_nothing_of_the_picture_of_a_plane_is_hidden(
    extent: tuple[int, int], rng: np.random.Generator
) -> None:
    coords = np.unique(rng.integers(extent, size=(400, 2)), axis=0)
    semantic = rng.integers(5, size=len(coords))
    event = Event.of(coords, np.ones(len(coords)), (512, 512), semantic=semantic)
    assert describe(event) == f"{len(coords)} pixels, {len(coords)} ADC counts"
    figure = _make_picture(event, describe(event), views(event), None)
    figure.canvas.draw()
    (title,) = figure.texts
    for axes in figure.axes:
        image, whole = axes.get_window_extent(), axes.get_tightbbox()
        assert whole is not None
        assert figure.bbox.x0 <= whole.x0 < whole.x1 <= figure.bbox.x1, "all on the picture"
        assert figure.bbox.y0 <= whole.y0 < whole.y1 <= title.get_window_extent().y0
        below = [*axes.child_axes, *filter(None, [axes.get_legend()])]
        assert all(part.get_window_extent().y1 < image.y0 for part in below)
    assert sum(len(axes.child_axes) for axes in figure.axes) == 1, "a colour bar"
    assert figure.axes[1].get_legend() is not None


def test_matched_clusters_have_the_colours_of_the_true_ones(rng: np.random.Generator) -> None:
    event = make_event(rng, 60)
    event = replace(event, semantic=np.zeros(60, np.int32))
    figure = draw(event, (event.cluster + 100).astype(np.int32))
    colours: dict[str, set[str]] = {"scene": set(), "scene2": set()}
    for trace in figure.data:
        if trace.visible:
            colours[trace.scene].add(f"{trace.marker.color} {trace.name.split(' ', 1)[1]}")
    assert colours["scene"] == colours["scene2"]
    assert len(colours["scene"]) == 3


def test_axes_in_cm_and_a_legend_of_clusters(rng: np.random.Generator) -> None:
    event = make_event(rng, 40)
    figure = draw(event, voxel_cm=0.3)
    assert figure.layout.scene.xaxis.title.text == "x [cm]"
    assert figure.data[0].hovertemplate.startswith("(%{x}, %{y}, %{z}) cm<br>")
    assert draw(event, voxel_cm=1.0).data[0].hovertemplate.startswith("(%{x}, %{y}, %{z}) cm<br>")
    assert draw(event).layout.scene.zaxis.title.text == "z [voxel]"
    assert max(figure.data[0].x) == pytest.approx(0.3 * event.coords[:, 0].max())
    buttons = {button.label: button.args[0] for button in figure.layout.updatemenus[0].buttons}
    shown = buttons["true cluster"]["visible"]
    names = [trace.name for trace, on in zip(figure.data, shown, strict=True) if on]
    numbers = event.cluster[event.semantic == 0]
    assert any(f"{numbers[0]} {CLASS_NAMES[0]} (" in name for name in names)
    with pytest.raises(ValueError, match=r"voxel_cm -1\.0: the side of a voxel in cm is above 0"):
        draw(event, voxel_cm=-1.0)


@pytest.mark.slow
def test_pages_of_several_events_link_to_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "e.html"
    assert command("draw", "sample/tune", "--event", 198, "--count", 5, "-o", page) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2, "the file has 200 events"
    first, last = ((tmp_path / f"e-{number}.html").read_text() for number in (198, 199))
    assert '<a href="e-199.html">next event</a>' in first
    assert "previous event" not in first
    assert '<a href="e-198.html">previous event</a>' in last
    assert "next event" not in last
    assert command("draw", "sample/tune", "--event", 0, "--count", 0) == 2
    assert "argument --count: 0: give a whole number from 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_of_a_huge_event_stays_small(tmp_path: Path, rng: np.random.Generator) -> None:
    huge = brightest(make_event(rng, MAX_VOXELS + 20_000, side=64))
    assert len(huge) == MAX_VOXELS
    write_drawing(tmp_path / "a.html", huge, "huge", views(huge, clusters=huge.cluster))
    assert (tmp_path / "a.html").stat().st_size < 10e6


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("draw", "sample/tune", "--event", 200, "-o", "a.html") == 2
    assert "event 200 of 200; count from 0" in capsys.readouterr().err
    assert command("draw", "sample/tune", "--event", 1, "-o", "a.png") == 2
    assert "the page ends in .html" in capsys.readouterr().err
    arguments = ("--event", 1, "--cm", -1, "-o", "a.html")
    assert command("draw", "sample/tune", *arguments) == 2
    assert "voxel_cm -1.0: the side of a voxel in cm is above 0" in capsys.readouterr().err


def test_the_work_of_draw_is_named_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    begin = phases.line.begin

    def recorded(text: str, waits: Callable[[], str]) -> None:
        begun.append(text)
        begin(text, waits)

    monkeypatch.setattr(phases.line, "begin", recorded)
    assert command("draw", "sample/test", "--event", 0, "-o", tmp_path / "a.html") == 0
    assert len(begun) > 2
    assert len(set(begun)) == len(begun)
