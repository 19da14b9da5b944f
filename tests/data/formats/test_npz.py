"""One event as arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats.layout import ClassMap, Layout

REAL = Path(__file__).parents[1] / "files" / "pilarnet_m_event7675.npz"


def test_the_real_event() -> None:
    with np.load(REAL) as arrays:
        motif, energy, instance = (arrays[name] for name in ("motif", "energy", "instance"))
    with open_events(REAL, Layout(side=768)) as events:
        assert len(events) == 1
        event = events[0]
    assert len(event) == (motif != 4).sum() == 1277
    assert event.energy.tolist() == energy[motif != 4].tolist()
    assert event.cluster.tolist() == instance[motif != 4].tolist()
    layout = Layout(side=768, classes=ClassMap(low_energy="unlabelled"))
    with open_events(REAL, layout) as events:
        assert (events[0].semantic == -1).sum() == (motif == 4).sum() == 113


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy": None}, r"a\.npz: no array energy"),
        ({"pid": np.zeros(3, int)}, r"event 0: sizes do not agree: coord \(2, 3\).*pid \(3,\)"),
        ({"motif": np.zeros(2)}, "event 0: motif holds float64"),
        ({"motif": np.array([0, 9])}, "event 0: semantic code 9"),
        ({"instance": np.array([0, 2**40])}, "event 0: cluster number 1099511627776"),
        ({"energy": np.array([1.0, np.nan])}, "event 0: voxel 1: energy nan"),
        ({"energy": np.array([object(), 1])}, "event 0: energy claims object"),
    ],
)
def test_what_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    ones = np.ones(2, int)
    arrays = {"coord": np.eye(3, dtype=int)[:2], "energy": ones / 2, "motif": ones, "pid": ones}
    arrays |= {"instance": ones, **changes}
    there: dict[str, Any] = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "a.npz", **there)
    with pytest.raises(ValueError, match=message) as caught, open_events(tmp_path / "a.npz") as a:
        list(a)
    assert "\n" not in str(caught.value)
