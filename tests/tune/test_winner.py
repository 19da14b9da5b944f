"""The winner of a search: the default stays unless a trial is surely better."""

import errno
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from lartpc_ray.data.formats import arrays
from lartpc_ray.data.formats.source import BrokenFileError
from lartpc_ray.runtime import failures
from lartpc_ray.train.part import WHOLE, TrainingPart
from lartpc_ray.trials import event_scores
from lartpc_ray.trials.event_scores import read_scores, scores_file, write_scores
from lartpc_ray.tune.history import Measurement
from lartpc_ray.tune.sampled import trial_folder
from lartpc_ray.tune.trial_scores import trial_scores
from lartpc_ray.tune.winner import KEPT_BELOW, Winner, choose_winner


def measurement(gain: float, noise: float, seed: int = 1) -> Measurement:
    """Return scores of 50 events: the difficulty of the events, a gain, noise."""
    events = np.random.default_rng(0).normal(0.5, 0.1, 50)
    noises = np.random.default_rng(seed).normal(0, 1, 50)
    noises = noise * (noises - noises.mean()) / noises.std(ddof=1)
    scores = dict(enumerate(map(float, events + gain + noises)))
    return Measurement(float(np.mean(list(scores.values()))), {"MIP": scores})


@pytest.mark.parametrize(("gain", "wins"), [(0.05, True), (0.012, False)])
def test_a_better_trial_wins_only_where_its_estimated_gain_is_sure(gain: float, wins: bool) -> None:
    """A gain over 50 events has the error noise / sqrt(50)."""
    trials = {0: measurement(0, 0.05, 2), 4: measurement(gain, 0.05), 2: measurement(0, 0.05, 3)}
    found = choose_winner({100: trials})
    assert found.rival == 4
    assert found.difference is not None
    assert found.gain is not None
    assert found.difference.difference == pytest.approx(gain)
    assert found.difference.p_better >= KEPT_BELOW, "the pair alone would always win"
    assert found.number == (4 if wins else 0)
    assert (found.gain.p_better >= KEPT_BELOW) == wins
    assert found.trials == 3


def test_without_the_default_or_without_others_there_is_nothing_to_compare() -> None:
    assert choose_winner({9: {3: Measurement(0.2), 1: Measurement(0.4)}}) == Winner(1, 1, trials=2)
    assert choose_winner({9: {0: Measurement(0.2)}}) == Winner(0, trials=1)


def test_trials_without_scores_of_events_are_compared_by_their_objectives() -> None:
    assert choose_winner({9: {0: Measurement(0.2), 1: Measurement(0.3)}}).number == 1
    assert choose_winner({9: {0: Measurement(0.3), 1: Measurement(0.2)}}).number == 0


def test_scores_come_back_and_damaged_ones_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = {"MIP": {0: 0.5, 7: 0.25}, "all": {3: 1.0}}
    write_scores(tmp_path, 20, scores)
    assert read_scores(tmp_path, 20) == scores
    assert read_scores(tmp_path, 30) == {}
    assert not caplog.text
    file = scores_file(tmp_path, 20)
    file.write_bytes(file.read_bytes()[:100])
    assert read_scores(tmp_path, 20) == {}
    assert "the trial is compared by its objective" in caplog.text


def test_scores_with_any_damage_are_none_and_end_no_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged, or of other types, or an array that claims a terabyte."""
    write_scores(tmp_path, 20, {"MIP": {event: event / 100 for event in range(300)}})
    file = scores_file(tmp_path, 20)
    base = file.read_bytes()
    for seed in range(300):
        random, damaged = np.random.default_rng(seed), bytearray(base)
        for place in random.integers(len(base), size=4):
            damaged[place] ^= 1 << int(random.integers(8))
        file.write_bytes(damaged)
        read_scores(tmp_path, 20)
    whole = np.arange(3, dtype=np.int32)
    values: list[Any] = [
        np.float32(3),
        np.zeros((3, 2)),
        np.array(["a", "b", "c"]),
        whole,
        whole[:2],
    ]
    for value in values:
        with file.open("wb") as opened:
            np.savez(opened, **{"MIP/event": whole, "MIP/score": value})
        caplog.clear()
        assert read_scores(tmp_path, 20) == {}
        assert str(file) in caplog.text
    claims = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**38,)}
    np.lib.format.write_array_header_1_0(claims, header)
    with ZipFile(file, "w") as packed:
        packed.writestr("MIP/event.npy", claims.getvalue())
    assert read_scores(tmp_path, 20) == {}
    with file.open("wb") as opened:
        np.save(opened, whole)
    assert read_scores(tmp_path, 20) == {}


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "EMFILE", "EACCES"])
@pytest.mark.parametrize("place", ["open", "read"])
def test_scores_that_the_machine_cannot_read_now_are_not_called_damaged(
    name: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are read again; with an error that stays the search stops and does not mix them up."""
    scores = {"MIP": {0: 0.5, 7: 0.25}}
    write_scores(trial_folder(tmp_path, 3), 20, scores)
    number, left = getattr(errno, name), [2]
    owner: Any = event_scores if place == "open" else arrays
    function = {"open": "read_arrays", "read": "read_member"}[place]
    real = getattr(owner, function)

    def fails(*given: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return real(*given)

    monkeypatch.setattr(owner, function, fails)
    monkeypatch.setattr(failures, "time", SimpleNamespace(sleep=lambda _: None))
    with pytest.raises(BrokenFileError, match=f"scores-000000020.npz: .*{os.strerror(number)}"):
        read_scores(trial_folder(tmp_path, 3), 20)
    left[0] = 2
    assert trial_scores(tmp_path, 3, 20) == scores
    assert [text.endswith("s and tries again") for text in caplog.messages] == [True, True]
    assert "damaged" not in caplog.text
    left[0] = 99
    with pytest.raises(BrokenFileError) as stays:
        trial_scores(tmp_path, 3, 20)
    assert failures.cause_of(stays.value) == "machine"


def test_a_part_reports_after_its_start_until_the_validation_that_ends_it() -> None:
    history = [{"step": step} for step in (10.0, 20.0, 30.0, 40.0)]
    steps = [numbers["step"] for numbers in TrainingPart(10, 25).reports(history)]
    assert steps == [20, 30]
    assert [numbers["step"] for numbers in WHOLE.reports(history)] == [10, 20, 30, 40]
    assert not list(TrainingPart(40, 90).reports(history))
    assert TrainingPart(0, 40).ends_with(history)
    assert not TrainingPart(0, 50).ends_with(history)
