"""The files that the package brings: search spaces and dashboards."""

from __future__ import annotations

from pathlib import Path

from lartpc_ray.terminal.text import nearest


def shipped(name: str) -> Path:
    """Return the folder search_spaces/ or dashboards/ of the installed package or the checkout."""
    inside = Path(__file__).parents[1] / name
    return inside if inside.is_dir() else Path(__file__).parents[2] / name


def find_space(name: str) -> Path:
    """Return the file of a study: search_spaces/NAME.yaml, or NAME as a path.

    Raises:
        ValueError: if there is no such file; lists the known names.
    """
    folder = shipped("search_spaces")
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ValueError(
            f"{name}: no such search-space file; give the path of one, or the name of a study: "
            f"{', '.join(known)}"
        )
    path = folder / f"{name}.yaml"
    if not path.is_file():
        near = nearest(name, known)
        raise ValueError(
            f"study {name!r}: known are {', '.join(known)}{near}; or give a .yaml path"
        )
    return path
