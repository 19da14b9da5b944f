"""Open the outputs of a clustering network, of this or any other program."""

from __future__ import annotations

from pathlib import Path

from lartpc_ray.data.formats.output_columns import ColumnsFile
from lartpc_ray.data.formats.outputs import OutputsFile, open_hdf5
from lartpc_ray.data.formats.source import locate_errors
from lartpc_ray.data.formats.spine_outputs import SpineFile, is_spine


def open_outputs(path: str | Path) -> OutputsFile:
    """Open a file of network outputs: columns of HDF5, or a file that SPINE wrote.

    Args:
        path: the file.

    Returns:
        the outputs of each event: `class`, `cluster`, `position`, `margin`, `seediness`, and
        `coords` if the file holds them.

    Raises:
        ValueError: for a missing or broken file, and for missing or wrong columns, in one line.
    """
    path = Path(path)
    file = open_hdf5(path)
    with locate_errors(path):
        spine = is_spine(file)
    return SpineFile(path, file) if spine else ColumnsFile(path, file)
