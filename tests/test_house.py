"""Who may import whom: the floors of the house, and the one owner of each library."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "lartpc_ray"
FLOORS = (
    ("settings", "atomic", "terminal", "sparse"),
    ("data",),
    ("networks", "metrics"),
    ("losses", "reconstruct"),
    ("tasks",),
    ("trials",),
    ("tracking", "runtime"),
    ("predict",),
    ("thresholds", "report"),
    ("train",),
    ("tune",),
    ("__main__", "__init__", "model"),
)
"""Ground first. `model` is the name under which MLflow keeps models that were registered early."""
OWNERS = {
    "ray": ["runtime/", "predict/", "thresholds/", "train/", "tune/"],
    "mlflow": ["tracking/", "predict/registry.py"],
    "optuna": [
        *("trials/space.py", "trials/space_entry.py", "trials/space_file.py"),
        *("trials/conditions.py", "tune/", "report/search_plots.py"),
    ],
    "h5py": ["data/formats/", "data/files.py"],
    "uproot": ["data/formats/"],
    "pyarrow": ["data/formats/"],
    "sklearn": ["reconstruct/", "metrics/"],
    "pandas": ["predict/", "thresholds/from_outputs.py", "tune/search.py"],
    "plotly": ["data/draw.py", "data/figure.py", "report/document.py", "report/search_plots.py"],
    "numba": ["metrics/", "reconstruct/", "sparse/"],
    "llvmlite": ["sparse/cpu_kernels.py"],
    "rich": ["terminal/screen.py", "terminal/phases.py"],
    "MinkowskiEngine": ["sparse/minkowski.py"],
    "spconv_triton": ["sparse/spconv.py"],
    "triton": ["sparse/triton_kernels.py"],
}
"""Library to the folders and files that may import it."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(HOUSE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_file_imports_only_from_folders_below_its_own(path: Path) -> None:
    own = room(path)
    for name in imports(path):
        other = f"{name}.".split(".")[1] if name.startswith("lartpc_ray.") else own
        assert other == own or FLOOR[other] < FLOOR[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_library_is_imported_only_by_its_owners(path: Path) -> None:
    place = str(path.relative_to(HOUSE))
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0], [""])
        assert place.startswith(tuple(owners)), f"{place} imports {name}"


def test_every_folder_says_what_it_is_for() -> None:
    for folder in {path.parent for path in FILES}:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert text, folder
        assert "\n" not in text.split("\n\n")[0], folder


def test_the_root_holds_few_files() -> None:
    assert len(list(HOUSE.glob("*.py"))) <= 5


def test_no_file_imports_itself_through_others() -> None:
    """Imports of whole modules, also those inside functions, make no circle."""
    modules = {module(path): path for path in FILES}
    graph = {
        name: {found for imported in imports(path) if (found := target(imported, modules))} - {name}
        for name, path in modules.items()
        if path.name != "__init__.py"
    }
    while free := [name for name, needed in graph.items() if not needed & graph.keys()]:
        for name in free:
            del graph[name]
    assert not graph, sorted(graph)


def module(path: Path) -> str:
    return ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__")


def target(imported: str, modules: Mapping[str, Path]) -> str | None:
    """Return the module of the package that an import names, if any."""
    parent = imported.rpartition(".")[0]
    return next((name for name in (imported, parent) if name in modules), None)


def test_declared_dependencies_are_exactly_what_is_imported() -> None:
    import sys
    import tomllib

    project = tomllib.loads((HOUSE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    unseen = ("aws", "dev", "docs", "optuna-dashboard", "postgres")  # Ray's, SQLAlchemy's
    users = [item for extra in extras if extra not in unseen for item in extras[extra]]
    named = {"scikit-learn": "sklearn", "pyyaml": "yaml", "spconv-triton": "spconv_triton"}
    names = {re.split(r"[\[>=]", item)[0] for item in [*project["dependencies"], *users]}
    declared = {named.get(name, name) for name in names}
    used = {name.split(".")[0] for path in FILES for name in imports(path)}
    assert declared == used - set(sys.stdlib_module_names) - {"lartpc_ray"}


def test_no_file_is_long_and_no_function_either() -> None:
    """Files have at most 400 lines, functions at most 40 without their docstring."""
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                documented = ast.get_docstring(node, clean=False) or ""
                lines = node.end_lineno - node.lineno + 1 - len(documented.splitlines())
                assert lines <= 40, f"{path}: {node.name}"


def test_the_readme_is_one_page() -> None:
    assert len((HOUSE.parent / "README.md").read_text().split()) <= 1300


def test_no_two_test_files_have_one_name() -> None:
    """pytest would import the first for both."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


def defined(path: Path) -> set[str]:
    """Return the names that the text of a file assigns, defines or imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
    return names


def test_what_tests_replace_in_a_module_is_there() -> None:
    """A slow test would find a name that is gone an hour later."""
    modules = {
        ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts): path for path in FILES
    }
    checked = 0
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        known = {
            alias.asname or alias.name: modules[f"{node.module}.{alias.name}"]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if f"{node.module}.{alias.name}" in modules
        }
        for call in ast.walk(tree):
            match call:
                case ast.Call(
                    ast.Attribute(_, "setattr"), [ast.Name(module), ast.Constant(str(name)), *_]
                ) if module in known:
                    assert name in defined(known[module]), f"{path}:{call.lineno}: {module}.{name}"
                    checked += 1
    assert checked > 50
