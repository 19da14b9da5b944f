"""The particle bomb: seeded, of any size, in the classes of the Geant4 sample."""

from pathlib import Path

import numpy as np
import pytest

from lartpc_ray.data import __main__ as data
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.pilarnet import EventFile
from lartpc_ray.data.simulation.generator import MIXED, Bomb, BombSettings, Primaries
from lartpc_ray.data.splits import sample
from lartpc_ray.terminal.command import run

SMALL = BombSettings(side=256)


def same(one: Event, other: Event) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("coords", "energy", "semantic", "cluster")
    )


@pytest.mark.slow
def test_an_event_depends_on_its_seed_and_number_only() -> None:
    events = list(Bomb(4, 3, SMALL))
    np.random.default_rng().random()
    again = Bomb(100, 3, SMALL)
    for number in (2, 0, 3):
        assert same(again[number], events[number])
    assert not same(Bomb(4, 4, SMALL)[0], events[0])
    assert not same(events[0], events[2])


def test_events_are_what_they_say() -> None:
    for event in Bomb(6, 1, SMALL):
        assert event.shape == (256, 256, 256)
        assert event.energy.min() >= 0.05
        assert ((event.cluster < 0) == (event.semantic < 0)).all()
        labelled = event.cluster >= 0
        pairs = np.unique(np.stack([event.cluster, event.semantic])[:, labelled], axis=1)
        clusters, classes = np.unique(pairs[0], return_counts=True)
        for cluster in clusters[classes > 1]:  # a Michel electron and its radiation
            found = set(pairs[1][pairs[0] == cluster].tolist())
            assert found == {ParticleClass.SHOWER, ParticleClass.MICHEL}


@pytest.mark.parametrize(
    ("density", "low", "high"), [(0.2, 200, 1500), (1.0, 1500, 6000), (70.0, 150_000, 300_000)]
)
def test_events_of_any_size(density: float, low: int, high: int) -> None:
    settings = BombSettings(side=512, density=density)
    events = 1 if density > 10 else 20
    assert low < np.mean([len(event) for event in Bomb(events, 2, settings)]) < high


def test_an_event_can_be_empty_and_the_image_tiny() -> None:
    assert min(len(event) for event in Bomb(10, 1, BombSettings(side=8, density=0.01))) == 0
    assert all(event.shape == (8, 8, 8) for event in Bomb(4, 1, BombSettings(side=8)))


def test_stopping_muons_give_michel_electrons() -> None:
    protons = Primaries(vertex=(1, 1), shares=(1.0, 0, 0, 0, 0, 0), proton_energy=(50.0, 60.0),
              muons=(1, 1), muon_energy=(50.0, 80.0), crossing=False)  # fmt: skip
    events = list(Bomb(20, 5, BombSettings(side=512, primaries=(protons,))))
    found = [{int(one) for one in np.unique(event.semantic)} for event in events]
    with_michel = sum(ParticleClass.MICHEL in one for one in found)
    assert with_michel >= 17  # µ+ of at most 15 cm, not all inside
    energies = [event.energy[event.semantic == ParticleClass.MICHEL].sum() for event in events]
    assert max(energies) < 53


def test_the_sorts_of_events_take_turns() -> None:
    quiet = Primaries(vertex=(0, 0), muons=(0, 0))
    events = Bomb(4, 1, BombSettings(side=256, primaries=(quiet, MIXED)))
    assert [len(event) > 0 for event in events] == [False, True, False, True]


def test_energies_are_near_geant4_s() -> None:
    bomb = list(Bomb(20, 1, BombSettings(side=512)))
    with EventFile(sample("tune")) as file:
        geant = list(file)
    for particle in ParticleClass:
        mine, theirs = (
            np.median(np.concatenate([one.energy[one.semantic == particle] for one in events]))
            for events in (bomb, geant)
        )
        assert mine == pytest.approx(theirs, rel=0.25), particle.name


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="seed -1: neither can be negative"):
        Bomb(3, -1)
    with pytest.raises(IndexError, match="event 3 of 3"):
        Bomb(3, 1)[3]
    with pytest.raises(ValueError, match="density"):
        BombSettings(density=0.0)


def simulate(path: Path, *more: str) -> int:
    arguments = ["simulate", str(path), "--events", "3", "--seed", "5", "--side", "128", *more]
    return run(data.parser(), data.main, arguments)


def test_simulate_writes_what_the_bomb_makes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bomb.h5"
    assert simulate(path) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"3 events in {path}" in err
    assert [one.name for one in tmp_path.iterdir()] == ["bomb.h5"]
    layout = Layout(side=128, classes=ClassMap(low_energy="unlabelled"))
    with EventFile(path, layout) as events:
        for mine, theirs in zip(Bomb(3, 5, BombSettings(side=128)), events, strict=True):
            a, b = (np.lexsort(event.coords.T) for event in (mine, theirs))
            for name in ("coords", "energy", "semantic", "cluster"):
                np.testing.assert_array_equal(getattr(mine, name)[a], getattr(theirs, name)[b])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--density", "0"], "density"),
        (["--seed", "-2"], "argument --seed: -2: give a whole number from 0"),
        (["--events", "0"], "argument --events: 0: give a whole number from 1"),
    ],
)
def test_simulate_refuses_in_one_line(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(tmp_path / "bomb.h5", *more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []
    assert simulate(tmp_path / "none" / "bomb.h5") == 2
    assert "there is no folder" in capsys.readouterr().err
