"""Every format to Event and back, exact; nothing half-written."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from conftest import make_event

from lartpc_ray.data import __main__ as data
from lartpc_ray.data import convert as module
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.convert import difference
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events, read_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.tables import event_tables
from lartpc_ray.terminal.command import run

FILES = Path(__file__).parent / "files"
KEPT = ClassMap(low_energy="unlabelled")

Version = Literal["v1", "v2", "v3"]


def command(*arguments: object) -> int:
    return run(data.parser(), data.main, [str(argument) for argument in arguments])


def same(one: Path, other: Path, layout: Layout) -> bool:
    pairs = zip(read_events(one, layout=layout), read_events(other, layout=layout), strict=True)
    return all(difference(*pair) is None for pair in pairs)


def labelled(event: Event, *, hip: bool = True) -> Event:
    """As a file can hold it: no cluster without a class; v1 knows no HIP."""
    semantic = event.semantic if hip else np.where(event.semantic == 0, 1, event.semantic)
    cluster = np.where(event.semantic < 0, -1, event.cluster)
    return replace(event, semantic=semantic.astype(np.int32), cluster=cluster.astype(np.int32))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_pilarnet_goes_round(tmp_path: Path, rng: np.random.Generator, version: Version) -> None:
    events = [labelled(make_event(rng, n), hip=version != "v1") for n in (60, 0, 1, 7)]
    one, two, layout = tmp_path / "a.h5", tmp_path / "b.h5", Layout(side=16, classes=KEPT)
    write_events(one, events, version=version)
    assert command("convert", one, two, "--side", 16, "--check") == 0
    with open_events(one, layout) as before, open_events(two, layout) as after:
        assert (before.kind, after.kind) == (f"PILArNet-M {version}", "PILArNet-M v3")
        for event, *found in zip(events, before, after, strict=True):
            assert [difference(event, other) for other in found] == [None, None]
    write_events(two, read_events(two, layout=layout), version=version)
    assert same(one, two, layout)


@pytest.mark.parametrize(
    ("name", "side", "count"),
    [
        ("larcv2_5events.root", 512, 5),
        ("larcv3_3events.h5", 512, 3),
        ("pilarnet_m_event7675.npz", 768, 1),
    ],
)
def test_the_other_formats_go_round(tmp_path: Path, name: str, side: int, count: int) -> None:
    out = tmp_path / "out.h5"
    assert command("convert", FILES / name, out, "--check", "--side", side) == 0
    layout = Layout(side=side, classes=KEPT)
    assert same(FILES / name, out, layout)
    assert len(list(read_events(out, layout=layout))) == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5"]


def test_a_layout_without_particle_codes_has_no_hip(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.h5"
    with caplog.at_level("INFO", "lartpc_ray"):
        assert command("convert", FILES / "larcv2_5events.root", out, "--layout", "v1") == 0
        assert command("convert", FILES / "larcv2_5events.root", out, "--check", "--force") == 0
    assert "left out: cluster: layout v1 has no pid" in caplog.text
    arguments = ("--layout", "v1", "--check", "--force")
    assert command("convert", FILES / "larcv2_5events.root", out, *arguments) == 0
    with open_events(out) as events:
        assert events.kind == "PILArNet-M v1"
        assert not any((event.semantic == ParticleClass.HIP).any() for event in events)


def test_some_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = FILES / "larcv2_5events.root", tmp_path / "out.h5"
    assert command("convert", root, out, "--events", "1:3") == 0
    assert "2 events in" in capsys.readouterr().err
    layout = Layout(classes=KEPT)
    for found, index in zip(read_events(out, layout=layout), (1, 2), strict=True):
        with open_events(root, layout) as events:
            assert difference(events[index], found) is None
    for wrong in ("3:9", "2:2", "x", "-1:2"):
        assert command("convert", root, out, "--force", f"--events={wrong}") == 2
    assert "it has the events 0:5" in capsys.readouterr().err


def test_found_clusters_stay_found_ones(tmp_path: Path, rng: np.random.Generator) -> None:
    write_events(tmp_path / "a.h5", [labelled(make_event(rng))], predicted=True)
    assert command("convert", tmp_path / "a.h5", tmp_path / "b.h5", "--side", 16) == 0
    with open_events(tmp_path / "b.h5") as events:
        assert events.predicted


def test_a_check_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(event: Event) -> Any:
        return event_tables(replace(event, energy=event.energy * np.float32(1.001)))

    monkeypatch.setattr(module, "event_tables", wrong)
    root = FILES / "larcv2_5events.root"
    assert command("convert", root, tmp_path / "out.h5", "--check") == 2
    assert "event 0 of" in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_converted_into_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.h5"
    out.write_text("mine")
    for more in ((), ("--force",)):
        assert command("convert", out, tmp_path / "." / "out.h5", *more) == 2
        assert "out.h5: is the input; give OUT.h5 another name" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_plane_is_no_pilarnet_and_no_file_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.h5"
    out.write_text("mine")
    assert command("convert", "sample/tune", out) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert command("convert", "sample/tune", out, "--force", "--larcv", "energi=a") == 2
    assert "the names are energy, classes" in capsys.readouterr().err
    assert out.read_text() == "mine"
    flat = Event.of(np.array([[1, 2]]), np.ones(1), (4, 4), semantic=np.array([ParticleClass.MIP]))
    with pytest.raises(ValueError, match="holds 3D images, not 2D"):
        write_events(out, [flat])
    assert out.read_text() == "mine"


SLOWLY = """
import sys, time
from lartpc_ray.terminal.command import run
from lartpc_ray.data import __main__ as data, convert
def slowly(events, total, title):
    for count, event in enumerate(events):
        if count == 100:
            print("half", flush=True)
            time.sleep(60)
        yield event
convert.track = slowly
run(data.parser(), data.main, sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_killed_conversion_leaves_no_half_file(
    tmp_path: Path, rng: np.random.Generator, before: bytes | None
) -> None:
    source, out = tmp_path / "in.h5", tmp_path / "out.h5"
    write_events(source, [labelled(make_event(rng, 20))] * 200)
    if before:
        out.write_bytes(before)
    arguments = ["convert", str(source), str(out), "--side", "16", "--force", "--check"]
    child = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert (out.read_bytes() if out.exists() else None) == before
    assert command(*arguments) == 0, "what the killed one left is in nobody's way"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5", "out.h5"]
