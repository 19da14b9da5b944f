"""A checkpoint: one file with everything a run needs to go on, or to be used."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.trial import Trial

FILE = "checkpoint.pt"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after `step` steps.

    Attributes:
        trial: what is trained.
        step: steps done.
        network: weights and running averages.
        optimizer: the optimizer's state.
        history: what was reported so far, one mapping a validation.
    """

    trial: Trial
    step: int
    network: dict[str, Any]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]

    def restored(self) -> UResNet:
        """The network as it was, in evaluation mode, on the best engine here.

        The weights do not know which engine trained them.
        """
        network = self.trial.make_network(engine="auto")
        network.load_state_dict(self.network)
        return network.eval()


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `folder`/checkpoint.pt whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{FILE}.part{random.getrandbits(32):08x}"
    content = {**vars(checkpoint), "trial": checkpoint.trial.model_dump_json()}
    try:
        torch.save(content, part)
        os.replace(part, folder / FILE)
    finally:
        part.unlink(missing_ok=True)
    return folder / FILE


def load(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the one in a folder; tensors and plain values only, no pickle.

    Raises:
        ValueError: for a file that is missing, cut short or not a checkpoint.
    """
    file = path / FILE if path.is_dir() else path
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        return Checkpoint(**{**content, "trial": Trial.model_validate_json(content["trial"])})
    except FileNotFoundError:
        raise ValueError(f"{file}: no such checkpoint") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file}: not a checkpoint, or cut short ({reason})") from None
