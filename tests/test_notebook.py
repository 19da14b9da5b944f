"""The notebook of docs/ runs from its first to its last cell."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
MAX_BYTES = 300_000


def test_the_notebook_is_small_and_names_no_folder_of_a_machine() -> None:
    text = NOTEBOOK.read_text()
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert len(text) < MAX_BYTES
    for path in (str(ROOT), sys.prefix, str(Path.home()), "site-packages", "/tmp/", "plotly.js"):
        assert path not in text


def test_the_pages_that_the_notebook_links_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", NOTEBOOK.read_text())
    assert links
    assert all((NOTEBOOK.parent / link).is_file() for link in links)


@pytest.mark.slow
def test_the_notebook_runs_and_draws(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check for the figure of `draw`, which the saved notebook does not hold."""
    folder = tmp_path_factory.mktemp("nb")  # short: a socket's path has at most 107 characters
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(folder / "jupyter"))
    (folder / "docs").mkdir()
    (folder / "models").symlink_to(ROOT / "models")
    sockets = {"transport": "ipc", "ip": str(folder / "kernel")}  # files, in place of open ports
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        resources={"metadata": {"path": str(folder / "docs")}},
        config=Config({"KernelManager": sockets}),
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"application/vnd.plotly.v1+json", "image/png", "text/html"} <= kinds
