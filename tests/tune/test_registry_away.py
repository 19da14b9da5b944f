"""A registry that fails after the search: the table is printed, then the error."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune import search_command
from lartpc_ray.tune.search_command import run_search


def test_the_table_is_printed_before_the_error_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        return nullcontext()

    space = read_space(find_space("smoke"), "smoke")
    study = SimpleNamespace(folder=tmp_path, space=space, owned=nothing)
    content = {"unregistered": "registry http://a: the server does not answer"}
    replaced: dict[str, Any] = {
        "Study": SimpleNamespace(create=lambda *_: study),
        "finish": lambda *_: ("the table", content),
        "run_trials": lambda *_: (None, None),
        "ray_session": nothing,
        "read_splits": nothing,
        "restore_interrupts": nothing,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(search_command, name, value)
    options = argparse.Namespace(
        concurrent=None, run=None, dry_run=False, retry=False, dashboard=False, json=False
    )
    vars(options)["from"] = None
    options.runs, options.tracking_uri, options.study = tmp_path, None, "smoke"
    with pytest.raises(RuntimeError, match=rf"not registered: registry .*--resume {tmp_path}"):
        run_search(options, space)
    assert capsys.readouterr().out == "the table\n"
