"""Read .npy and .npz files of numpy with the work and memory that their bytes allow."""

from __future__ import annotations

import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from lartpc_ray.data.formats.source import MAX_ARRAY_BYTES


def read_npy(data: bytes) -> np.ndarray:
    """Return the array of the bytes of a .npy file.

    `numpy.load` would take the memory that a damaged header claims.

    Raises:
        ValueError: for a header that is damaged, or that does not fit the bytes after it.
    """
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(stream)
    body = data[stream.tell() :]
    values = np.prod([float(n) for n in shape])
    if kind.hasobject or min(shape, default=0) < 0 or values * kind.itemsize != len(body):
        raise ValueError(f"claims {kind} of shape {shape}, and holds {len(body)} bytes")
    return np.frombuffer(body, kind).reshape(shape, order="F" if fortran else "C")


def read_member(file: ZipFile, name: str, most: int = MAX_ARRAY_BYTES) -> np.ndarray:
    """Return an array of an .npz file by its name.

    Args:
        file: the .npz file.
        name: of the array.
        most: bytes of an array.

    Raises:
        ValueError: for an array that is larger or damaged; other errors of `ZipFile`.
    """
    entry = file.getinfo(f"{name}.npy")
    if entry.file_size > most:
        raise ValueError(f"{name} claims {entry.file_size} bytes; the file is broken")
    try:
        return read_npy(file.read(entry))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def read_arrays(path: Path, most: int = MAX_ARRAY_BYTES) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by their names.

    Args:
        path: the file.
        most: bytes of an array.

    Raises:
        Exception: of nearly any kind for a damaged file; see `locate_errors`.
    """
    with ZipFile(path) as file:
        names = [name.removesuffix(".npy") for name in file.namelist()]
        return {name: read_member(file, name, most) for name in names}
