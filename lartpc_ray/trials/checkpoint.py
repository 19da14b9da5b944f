"""A checkpoint: one file with everything that a run needs to continue or to be used.

The first line of the file is the SHA-256 of the rest, so that a damaged file is refused before
its content is read. A run keeps its last two checkpoints; if the newest is damaged, the run
continues from the other.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch

from lartpc_ray.atomic import name_in_errors, replace_file
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.settings import earlier_names, with_present_names
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.system_errors import of_system
from lartpc_ray.terminal.text import error_text
from lartpc_ray.trials.trial import Trial

FILE = "checkpoint.pt"
HEAD = b"lartpc_ray checkpoint, sha256 "
KEPT = 2
"""Checkpoints that a run keeps: the newest, and a second one in case the newest is damaged."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after `step` steps.

    The learning rate, the next events and the random numbers follow from the step.

    Attributes:
        trial: that is trained.
        step: steps done.
        network: weights and running averages.
        optimizer: the optimizer's state.
        history: the reported metrics, one mapping per validation.
        scaler: state of the gradient scaler in float16; else empty.
        window: loss terms of each step since the last validation.
    """

    trial: Trial
    step: int
    network: dict[str, Any]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]
    scaler: dict[str, Any] = field(default_factory=dict)
    window: list[dict[str, float]] = field(default_factory=list)

    def restored(self) -> UResNet:
        """Return the network in evaluation mode, on the best engine here."""
        return self.trial.restore_network(self.network)  # `load` has compared the shapes

    def to_use(self) -> Checkpoint:
        """Return a copy without the state that only training needs: a third of the size.

        A network whose training ended before the task's `fit` has nothing that is fitted: its
        clustering, for example, has no joined pieces.
        """
        state = replace(self, optimizer={}, scaler={}, window=[])
        task = self.trial.task
        unset = not any(self.network[name].any() for name in self._constants)
        late = bool(task.fitted_events) and not task.fits_always
        return state.without_fit() if late and unset else state

    def to_predict(self) -> Checkpoint:
        """Return a copy with what the reconstruction in use needs, and no more."""
        return self if self.trial.task.fits_always else self.without_fit()

    def without_fit(self) -> Checkpoint:
        """Return a copy without the values that the task fits, and with a task that fits none."""
        if not self.trial.task.fitted_events:
            return self
        lost = self._constants
        kept = {name: values for name, values in self.network.items() if name not in lost}
        trial = self.trial.model_copy(update={"task": self.trial.task.without_fit()})
        return replace(self, trial=trial, network=kept)

    @property
    def _constants(self) -> list[str]:
        return [f"constants.{name}" for name in self.trial.task.global_parameters()]


def save(folder: Path, checkpoint: Checkpoint, name: str = FILE) -> Path:
    """Write `folder`/checkpoint.pt whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    torch.save({**vars(checkpoint), "trial": checkpoint.trial.model_dump_json()}, content)
    digest = hashlib.sha256(content.getbuffer()).hexdigest().encode()
    with replace_file(folder / name) as part, part.open("wb") as file:
        file.write(HEAD + digest + b"\n")
        file.write(content.getbuffer())
    return folder / name


def load(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the one in a folder; tensors and plain values only, no pickle.

    Raises:
        ValueError: for a file that is missing, damaged, cut short or not a checkpoint.
        OSError: with the name of the file, if its disk fails.
        MemoryError: if the memory is full; the file may be sound.
    """
    file = path / FILE if path.is_dir() else path
    with name_in_errors(file):
        rest = _checked_bytes(file)
    try:
        _refuse_packed(rest)
        content = torch.load(rest, map_location="cpu", weights_only=True)
        trial = Trial.model_validate_json(content["trial"])
        history = [_with_present_names(numbers, trial) for numbers in content["history"]]
        step = operator.index(content["step"])
        values = {**content, "trial": trial, "history": history, "step": step}
        checkpoint = Checkpoint(**values)
        differs = _differing_shape(trial, checkpoint.network)
    except MemoryError:
        raise
    except Exception as error:
        if of_system(error):
            raise OSError(f"{file}: cannot be read now ({error_text(error, 100)})") from error
        raise ValueError(f"{file}: not a checkpoint ({error_text(error, 100)})") from None
    if differs:
        raise ValueError(f"{file}: damaged: {differs}")
    return checkpoint


def _checked_bytes(file: Path) -> BytesIO:
    """Return the content of a checkpoint file after its checksum; read no other large file."""
    if not file.is_file():
        raise ValueError(f"{file}: no such checkpoint")
    with file.open("rb") as opened:
        head = opened.readline(len(HEAD) + 65)
        if not head.startswith(HEAD):
            reason = "no checksum in its first line"
            raise ValueError(f"{file}: not a checkpoint, or cut short ({reason})")
        start = opened.tell()
        if head != HEAD + hashlib.file_digest(opened, "sha256").hexdigest().encode() + b"\n":
            raise ValueError(f"{file}: not a checkpoint, or cut short (its checksum is another)")
        opened.seek(start)
        return BytesIO(opened.read())


def _refuse_packed(content: BytesIO) -> None:
    """Refuse packed tensors, which unpack to any size; `save` writes plain ones."""
    with ZipFile(content) as parts:
        if any(part.compress_type != ZIP_STORED for part in parts.infolist()):
            raise ValueError("it holds packed tensors")
    content.seek(0)


def _differing_shape(trial: Trial, network: dict[str, torch.Tensor]) -> str | None:
    """Describe the first weights whose shape is not that of the trial's network; None without any.

    The network is made without memory for its weights, so that wrong settings take none.
    """
    with torch.device("meta"):
        made = trial.make_network(engine="auto").state_dict()
    own = {name: tuple(values.shape) for name, values in made.items()}
    other = {name: tuple(values.shape) for name, values in network.items()}
    for name in sorted(own.keys() ^ other.keys()) + [n for n in own if own[n] != other.get(n)]:
        return f"{name} has the shape {other.get(name)}, this trial needs {own.get(name)}"
    return None


def _with_present_names(numbers: dict[str, float], trial: Trial) -> dict[str, float]:
    """Replace the names of an earlier version in the metrics of a validation."""
    names = {"goal": "objective"}
    if trial.task.methods:
        axes = earlier_names(type(trial.task.active_method))
        names |= {
            f"{label}/{earlier}": f"{label}/{name}"
            for label in trial.task.scored_classes
            for earlier, name in axes.items()
        }
    return with_present_names(numbers, names)


def add(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a run's next checkpoint into its folder, and drop all but the last `KEPT`.

    Also remove parts that killed processes have left: the folder of a run has one writer.
    """
    file = save(folder, checkpoint, f"step-{checkpoint.step:09d}.pt")
    for old in [*files(folder)[:-KEPT], *folder.glob("step-*.pt.part*")]:
        old.unlink(missing_ok=True)
    return file


def last_thresholds(state: Checkpoint) -> dict[str, dict[str, float]]:
    """Return the best thresholds of a trial's last validation, class by class.

    They are of the reconstruction in use; empty if the validation was by another one.
    """
    task = state.trial.task
    if not task.methods or not state.history:
        return {}
    values: dict[str, dict[str, float]] = {}
    for key, value in state.history[-1].items():
        name, _, axis = key.partition("/")
        if axis and axis != task.metric:
            values.setdefault(name, {})[axis] = value
    axes = set(task.active_method.axes())
    known = {name: point for name, point in values.items() if point.keys() == axes}
    return {name: known[name] for name in task.scored_classes if name in known}


def start_weights(trial: Trial) -> Checkpoint | None:
    """Return the checkpoint of `start_weights`; None without one.

    Values that belong to no voxel start at 0 if its network lacks them or the task fits them, and
    are left out if the trial has none.

    Raises:
        ValueError: for a network whose weights do not fit.
    """
    if not trial.start_weights:
        return None
    path = Path(trial.start_weights)
    if not path.is_dir() and not path.is_file():
        raise ValueError(
            f"start_weights: {path}: no such checkpoint; give a {FILE}, or the folder of one"
        )
    start = load(path)
    start = replace(start, network=with_constants(start.network, trial))
    if differs := _differing_shape(trial, start.network):
        raise ValueError(
            f"start_weights: {trial.start_weights}: {differs}; take the network and task settings "
            "of its trial"
        )
    return start


def with_constants(network: dict[str, Any], trial: Trial) -> dict[str, Any]:
    """Return weights with those values that all voxels share in a trial.

    They are zeros where the weights lack them, and where the task of the trial fits them anew.
    """
    sizes = trial.task.global_parameters().items()
    own = {f"constants.{name}": torch.zeros(count) for name, count in sizes}
    kept = {} if trial.task.fitted_events else own
    fits = (name for name in network if name in kept or not name.startswith("constants."))
    return own | {name: network[name] for name in fits}


def newest(
    folder: Path, trial: Trial, notify: Callable[[str], None] = log.warning
) -> Checkpoint | None:
    """Return the last undamaged checkpoint in a run's folder; None if there is none.

    Args:
        folder: of the run.
        trial: that is trained; its resources may differ from the checkpoint's.
        notify: takes the reason why a damaged checkpoint is not used.

    Raises:
        ValueError: for a checkpoint of another trial.
    """
    for file in reversed(files(folder)):
        try:
            found = load(file)
        except ValueError as error:
            notify(f"{error}; the earlier checkpoint is used, or the start")
            continue
        if found.trial.model_copy(update={"resources": trial.resources}) != trial:
            raise ValueError(f"{file}: of a trial with other settings; use another folder")
        return found
    return None


def files(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the oldest first."""
    return sorted(folder.glob("step-*.pt"))


CHECKPOINT_REQUEST = "checkpoint-now"
"""A file in a run's folder that requests a checkpoint; the training removes it afterwards."""
