"""Who may import whom: the floors of the house, and the one owner of each library."""

import ast
import re
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "lartpc_ray"
FLOORS = {
    1: ["settings", "command", "sparse"],
    2: ["data"],
    3: ["networks", "metrics"],
    4: ["losses", "reconstruct"],
    5: ["tasks"],
    6: ["trial"],
    7: [
        "predict",
        "paths",
        "space",
        "checkpoint",
        "provenance",
        "tracking",
        "model",
        "screen",
        "figure",
        "export",
    ],
    8: [
        "verdict",
        "report",
        "display",
        "loop",
        "live",
        "job",
        "train",
        "surfaces",
        "thresholds",
        "page",
        "reference",
    ],
    9: ["progress", "schedule", "study", "tune"],
    10: ["__main__", "__init__"],
}
OWNERS = {
    "ray": [
        "job.py",
        "live.py",
        "progress.py",
        "schedule.py",
        "study.py",
        "surfaces.py",
        "train.py",
        "tune.py",
    ],
    "mlflow": ["model.py", "tracking.py"],
    "optuna": ["page/importance.py", "schedule.py", "space.py", "study.py"],
    "h5py": ["data/files.py", "data/larcv.py"],
    "uproot": ["data/larcv.py"],
    "pandas": ["model.py"],
    "plotly": ["data/draw.py", "page/document.py"],
    "numba": [
        "metrics/clustering.py",
        "reconstruct/links.py",
        "reconstruct/sweep.py",
        "sparse/tiles.py",
        "sparse/walk.py",
    ],
    "llvmlite": ["sparse/tiles.py"],
    "sklearn": ["reconstruct/density.py"],
    "yaml": [
        "export.py",
        "predict.py",
        "report.py",
        "page/sections.py",
        "space.py",
        "thresholds.py",
    ],
    "rich": ["screen.py"],
    "matplotlib": ["data/draw.py", "figure.py"],
    "MinkowskiEngine": ["sparse/minkowski.py"],
    "spconv_triton": ["sparse/spconv.py"],
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
FILES = sorted(HOUSE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += names if node.module == "lartpc_ray" else [str(node.module)]
    return found


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_file_imports_only_from_its_floor_or_below(path: Path) -> None:
    for name in imports(path):
        if name.startswith("lartpc_ray."):
            other = name.split(".")[1]
            assert FLOOR[other] <= FLOOR[room(path)], f"{room(path)} imports {other}"
            same_floor = FLOOR[other] == FLOOR[room(path)] and other != room(path)
            assert not same_floor or FLOOR[other] in (6, 7, 8, 9), f"{room(path)} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_library_is_imported_only_by_its_owners(path: Path) -> None:
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or str(path.relative_to(HOUSE)) in owners, f"{path}: {name}"


def test_declared_dependencies_are_exactly_what_is_imported() -> None:
    import sys
    import tomllib

    project = tomllib.loads((HOUSE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    unseen = ("dev", "optuna-dashboard", "postgres")  # a program; SQLAlchemy's, by an address
    users = [item for extra in extras if extra not in unseen for item in extras[extra]]
    named = {"scikit-learn": "sklearn", "pyyaml": "yaml", "spconv-triton": "spconv_triton"}
    names = {re.split(r"[\[>=]", item)[0] for item in [*project["dependencies"], *users]}
    declared = {named.get(name, name) for name in names}
    used = {name.split(".")[0] for path in FILES for name in imports(path)}
    assert declared == used - set(sys.stdlib_module_names) - {"lartpc_ray"}


def test_no_file_is_long_and_no_function_either() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 450, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno <= 70, f"{path}: {node.name}"


def test_no_two_test_files_have_one_name() -> None:
    """pytest would import the first for both."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
