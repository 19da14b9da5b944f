"""The wheel holds the package with its data; the site's hooks rewrite links."""

import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel and list it; a checkout without Git builds the same."""
    pytest.importorskip("hatchling")
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with ZipFile(wheel) as file:
        return set(file.namelist())


def tracked(*folders: str) -> list[str]:
    """List the files of folders that Git has; where there is no Git, all but compiled ones."""
    listing = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode == 0 and listing.stdout:
        return [name for name in listing.stdout.split("\n") if name and (ROOT / name).exists()]
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts]


def test_the_wheel_has_every_module_and_the_data(names: set[str]) -> None:
    expected = set(tracked("lartpc_ray"))
    assert {"lartpc_ray/data/sample/train.h5.xz", "lartpc_ray/tune/__main__.py"} <= expected
    data = tracked("search_spaces", "dashboards")
    expected |= {f"lartpc_ray/{name}" for name in data}
    assert {"lartpc_ray/search_spaces/smoke.yaml", "lartpc_ray/dashboards/page.html"} <= expected
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {name.partition("/")[2] for name in names - expected} >= {
        "METADATA",
        "entry_points.txt",
        "licenses/LICENSE",
    }


@pytest.mark.slow
def test_a_package_outside_a_checkout_finds_its_data(tmp_path: Path) -> None:
    """As it is installed: the package without the checkout around it."""
    package = tmp_path / "lartpc_ray"
    for name in ("lartpc_ray", "search_spaces", "dashboards"):
        target = package if name == "lartpc_ray" else package / name
        target.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / name), str(target)], check=True)
    program = "from lartpc_ray.trials.shipped import find_space, shipped\n"
    program += "from lartpc_ray.data.splits import sample\n"
    program += "from lartpc_ray.trials.setting_names import FILE\n"
    program += "print(find_space('smoke'), shipped('dashboards'), sample('test'), FILE)"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    for path in found.stdout.split():
        assert Path(path).exists()
        assert package in Path(path).parents


def test_lower_bounds_are_named_for_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(">=" in line for line in project["dependencies"])


def test_links_of_the_root_pages_work_in_the_site() -> None:
    pytest.importorskip("mkdocs")
    from mkdocs_hooks import with_links_of_site

    text = "[a](../../CONTRIBUTING.md#add) [b](../tasks.md)"
    expected = "[a](../contributing.md#add) [b](../tasks.md)"
    assert with_links_of_site(text, "how-to/loss.md") == expected
    text = "[a](docs/tasks.md) [b](CHANGELOG.md)"
    assert with_links_of_site(text, "project.md") == "[a](tasks.md) [b](changelog.md)"
    assert with_links_of_site("[a](../README.md)", "tasks.md") == "[a](project.md)"


@pytest.mark.slow
def test_the_site_is_built_in_strict_mode(tmp_path: Path) -> None:
    """Every page is in the navigation; each link and each of its anchors exists."""
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "changelog.html").exists()
