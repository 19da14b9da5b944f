"""A folder of predicted shards: each is written whole or not at all, and a later call goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from lartpc_ray.atomic import read_json, write_json
from lartpc_ray.data.formats.pilarnet_writer import sidecar_path
from lartpc_ray.predict.inference import CHUNK_EVENTS
from lartpc_ray.predict.job import Job, cut
from lartpc_ray.predict.tables import FOLDER
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.command import log
from lartpc_ray.tracking.provenance import DIGESTS, file_digest
from lartpc_ray.trials.checkpoint import Checkpoint

Item = TypeVar("Item")
MANIFEST = "prediction.json"
"""The file in a folder of shards that names the model, the thresholds and the input."""
SHARD_EVENTS = 1024
ALIGNED = max(CHUNK_EVENTS.values())
"""A shard starts at a multiple of it, so that its batches do not depend on the shards before."""


@dataclass(frozen=True)
class ShardFolder:
    """The shards of a range of events in a folder.

    Args:
        path: the folder.
        events: numbers of the events.
        size: events of a shard.
        sidecars: whether each shard has the sidecar file with its numbers of voxels.

    Raises:
        ValueError: for a size that is no multiple of `ALIGNED`.
    """

    path: Path
    events: range
    size: int = SHARD_EVENTS
    sidecars: bool = False

    def __post_init__(self) -> None:
        if self.size <= 0 or self.size % ALIGNED:
            raise ValueError(f"--shard-events {self.size}: give a multiple of {ALIGNED}")

    def file(self, shard: range) -> Path:
        """Return the file of a shard."""
        return self.path / f"events-{shard.start:09d}-{shard.stop:09d}.h5"

    def missing(self) -> list[range]:
        """Return the shards that are not written yet."""
        return [shard for shard in cut(self.events, self.size) if not self._is_written(shard)]

    def _is_written(self, shard: range) -> bool:
        file = self.file(shard)
        return file.exists() and (not self.sidecars or sidecar_path(file).exists())

    def claim(self, content: dict[str, Any], *, force: bool) -> None:
        """Write the manifest, or compare it with the one of an earlier call.

        Args:
            content: name of each digest or setting to its value.
            force: remove the shards and the tables of another prediction.

        Raises:
            ValueError: for shards of another model, other thresholds or another input.
        """
        content |= {"events": [self.events.start, self.events.stop], "shard_events": self.size}
        manifest = self.path / MANIFEST
        try:
            known = read_json(manifest) if manifest.is_file() else {}
        except ValueError as error:
            log.warning(f"{error}; written again")
            known = {}
        differ = [name for name in content if known.get(name) != content[name]]
        shards = list(self.path.glob("events-*-*"))
        if differ and shards and not force:
            names = f"{', '.join(differ)} differ" if known else f"no readable {MANIFEST}"
            raise ValueError(
                f"{self.path}: it holds shards of another prediction ({names}); give "
                "another folder, or remove these shards with --force"
            )
        tables = (self.path / FOLDER).glob("*-*-*.parquet")
        for file in [*shards, *tables] if differ else []:
            file.unlink()
        if differ:
            write_json(manifest, content, indent=1)

    def write(self, items: Iterator[Item], write: Callable[[Path, Iterator[Item]], Any]) -> None:
        """Write the missing shards from the results of their events.

        Args:
            items: one per event, in order.
            write: writes a file whole or not at all.
        """
        for shard in self.missing():
            write(self.file(shard), islice(items, len(shard)))


def digests(
    job: Job, states: Sequence[Checkpoint], thresholds: Thresholds, remembered: Path
) -> dict[str, Any]:
    """Return digests of the networks and of the input files, and the settings of a prediction.

    Args:
        job: of the prediction.
        states: of its networks.
        thresholds: class to thresholds.
        remembered: folder that keeps the digests of files.
    """
    source = job.source
    assert source.kind == "files"
    files = [
        [file.name, file.stat().st_size, file_digest(file, remembered / DIGESTS)]
        for file in source.files
    ]
    return {
        "model": [_network_digest(state) for state in states],
        "thresholds": thresholds,
        "input": files,
        "device": job.device,
        "precision": job.precision,
        "chunk_events": CHUNK_EVENTS[job.device],
    }


def _network_digest(state: Checkpoint) -> str:
    """Return the SHA-256 of the settings and the weights of a network."""
    trial = state.trial
    splits = trial.data.splits.model_copy(update={"path": "", "most_events": None})
    settings = [part.model_dump_json() for part in (trial.task, trial.network, splits)]
    digest = hashlib.sha256("\n".join(settings).encode())
    for name, value in state.network.items():
        digest.update(name.encode())
        digest.update(value.numpy(force=True).tobytes())
    return digest.hexdigest()
