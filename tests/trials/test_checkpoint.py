"""Checkpoints: whole or refused, bounded in number, the last sound one."""

import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.paths import make_trial

ROOT = Path(__file__).parents[2]

TRIAL = make_trial({"network.depth": 2, "network.filters": 1, "network.blocks": 1})


def state(step: int) -> checkpoints.Checkpoint:
    network = TRIAL.make_network().state_dict()
    return checkpoints.Checkpoint(TRIAL, step, network, {}, [{"objective": 0.5}])


def test_a_checkpoint_is_whole_or_refused(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, state(7))
    found = checkpoints.load(tmp_path)
    assert (found.trial, found.step, found.history) == (TRIAL, 7, [{"objective": 0.5}])
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint, or cut short"):
        checkpoints.load(tmp_path)
    with pytest.raises(ValueError, match="no such checkpoint"):
        checkpoints.load(tmp_path / "none")
    torch.save({"trial": Path("x")}, path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("place", [5, 40, 200, 5000, -200])
def test_one_wrong_bit_anywhere_is_seen(tmp_path: Path, place: int) -> None:
    path = checkpoints.save(tmp_path, state(7))
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a checkpoint, or cut short"):
        checkpoints.load(path)


def test_a_pickled_object_is_never_loaded(tmp_path: Path) -> None:
    """A sound checksum over a strange object: anyone can compute one."""
    bad = state(7)
    bad.network["stranger"] = Path("x")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint \(Weights only"):
        checkpoints.load(checkpoints.save(tmp_path, bad))


def test_the_last_two_are_kept_and_the_newest_sound_one_is_found(tmp_path: Path) -> None:
    said: list[str] = []
    assert checkpoints.newest(tmp_path, TRIAL, said.append) is None
    for step in (5, 10, 100000, 15):
        checkpoints.add(tmp_path, state(step))
    names = ["step-000000015.pt", "step-000100000.pt"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    (tmp_path / names[1]).write_bytes(b"")
    found = checkpoints.newest(tmp_path, TRIAL, said.append)
    assert found is not None
    assert found.step == 15
    assert len(said) == 1
    assert "step-000100000.pt: not a checkpoint" in said[0]
    (tmp_path / names[0]).write_bytes(b"x")
    assert checkpoints.newest(tmp_path, TRIAL, said.append) is None
    assert len(said) == 3


def test_what_a_killed_process_left_of_a_checkpoint_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SIGKILL runs no `finally`: here the unlink in it does nothing."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "notes.part").touch()
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.add(tmp_path, state(5))
    assert len(list(tmp_path.glob("step-000000005.pt.part*"))) == 1
    checkpoints.add(tmp_path, state(10))
    assert {file.name for file in tmp_path.iterdir()} == {"notes.part", "step-000000010.pt"}


def write(path: Path, content: bytes) -> Path:
    """Write content with its checksum."""
    path.write_bytes(checkpoints.HEAD + sha256(content).hexdigest().encode() + b"\n" + content)
    return path


def test_weights_of_other_shapes_are_refused_with_the_file(tmp_path: Path) -> None:
    bad = state(7)
    name = next(iter(bad.network))
    for values in (torch.zeros(()), torch.zeros(1).expand(10**6, 10**6)):
        bad.network[name] = values
        with pytest.raises(ValueError, match=rf"checkpoint\.pt: damaged: {name} has the shape"):
            checkpoints.load(checkpoints.save(tmp_path, bad))
    del bad.network[name]
    with pytest.raises(ValueError, match=rf"{name} has the shape None, this trial needs"):
        checkpoints.load(checkpoints.save(tmp_path, bad))


def test_settings_of_an_impossible_network_take_no_memory(tmp_path: Path) -> None:
    huge = make_trial({"network.depth": 2, "network.filters": 10**6, "network.blocks": 1})
    with pytest.raises(ValueError, match=r"checkpoint\.pt: (damaged|not a checkpoint)"):
        checkpoints.load(checkpoints.save(tmp_path, replace(state(7), trial=huge)))


@pytest.mark.parametrize("key", ["network", "history", "step", "trial"])
def test_values_of_other_types_are_refused_with_the_file(tmp_path: Path, key: str) -> None:
    content = BytesIO()
    values: dict[str, Any] = {**vars(state(7)), "trial": state(7).trial.model_dump_json()}
    torch.save(values | {key: [3]}, content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint \("):
        checkpoints.load(write(tmp_path / "checkpoint.pt", content.getvalue()))


def test_packed_tensors_are_refused(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, state(7))
    packed = BytesIO()
    with (
        ZipFile(BytesIO(path.read_bytes().partition(b"\n")[2])) as plain,
        ZipFile(packed, "w", ZIP_DEFLATED) as new,
    ):
        for name in plain.namelist():
            new.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match="it holds packed tensors"):
        checkpoints.load(write(path, packed.getvalue()))


def test_a_large_file_of_another_kind_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="no checksum in its first line"):
        checkpoints.load(path)


COMPILER = """
import sys
from pathlib import Path
from lartpc_ray.trials import checkpoint
for folder in sys.argv[1:]:
    checkpoint.load(Path(folder)).restored()
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_a_network_is_loaded_without_the_compiler_of_torch() -> None:
    """To draw weights without memory imports it: a second and a half for nothing."""
    folders = [str(path.parent) for path in sorted(ROOT.glob("models/*/checkpoint.pt"))]
    assert folders
    command = [sys.executable, "-c", COMPILER, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"
