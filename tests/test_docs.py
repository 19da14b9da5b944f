"""The pages for people: their commands, links, files and snippets are those that there are."""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml
from test_commands import COMMANDS

from lartpc_ray import __main__ as package
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events
from lartpc_ray.losses import mask
from lartpc_ray.runtime.arguments import chosen_space
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space_file import budgets, read_space

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {f"lartpc_ray.{name}": module for name, module in COMMANDS.items()}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"(?:python -m (lartpc_ray[.\w]*)|sbatch cluster/slurm\.sh)(?:[ ]|$)(.*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACE = re.compile(r"\b(?:lartpc_ray|cluster|search_spaces|docs|tests|benchmarks)/[\w./-]*\w")


def fenced(page: Path, language: str) -> list[str]:
    return [block for kind, block in FENCE.findall(page.read_text()) if kind == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Every command of the package on a page, fenced or in a sentence, and its arguments."""
    blocks = [block.replace("\\\n", " ") for _, block in FENCE.findall(page.read_text())]
    spans = [" ".join(span.split()) for span in SPAN.findall(prose(page))]
    for line in (line for text in (*blocks, *spans) for line in text.splitlines()):
        for program, rest in COMMAND.findall(line):
            within = rest.rpartition("'")[0] if rest.count("'") % 2 else rest
            words = shlex.shlex(within, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            given = list(takewhile(lambda word: word[0] not in "<>|&;()", words))
            yield program or "lartpc_ray.tune", given


def snippets(page: Path, folder: Path) -> Path:
    """Write a page's search spaces into a folder, by the name in their first line."""
    for block in fenced(page, "yaml"):
        if name := re.match(r"# (\S+\.yaml)\n", block):
            (folder / name[1]).parent.mkdir(exist_ok=True)
            (folder / name[1]).write_text(block)
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    return folder


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_are_those_there_are(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(snippets(page, tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for program, given in commands(page):
        module = package if program == "lartpc_ray" else PROGRAMS[program]
        options = module.parser().parse_args(given)  # its words are in the captured stderr
        if fenced(page, "diff"):  # its study needs the change first: the tests below make it
            continue
        if program in ("lartpc_ray.tune", "lartpc_ray.train"):
            as_shown(page, options)
        elif getattr(options, "study", None):
            find_space(options.study)


def as_shown(page: Path, options: argparse.Namespace) -> None:
    """Check the study, budget and settings; the page shows an error."""
    told = ""
    options.data = None  # the reader's own file
    try:
        chosen_space(options)
    except ValueError as error:
        told = str(error).replace(f"{ROOT}/", "")
    assert told in page.read_text()


def test_the_pages_have_commands() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 40


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_and_files_exist(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if not link.startswith(("http", "#")):
            path, _, heading = link.partition("#")
            target = page.parent / path
            assert target.is_file(), f"{page.name}: {link}"
            assert not heading or heading in headings(target), f"{page.name}: {link}"
    for span in SPAN.findall(prose(page)):
        for place in PLACE.findall(span):
            if not re.search(r"\b(NAME|TASK|\*)", place):
                assert (ROOT / place).exists(), f"{page.name}: {place}"


def headings(page: Path) -> set[str]:
    """Return the headings of a page as links name them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_search_spaces_load(page: Path, tmp_path: Path) -> None:
    for block in fenced(page, "yaml"):
        content = yaml.safe_load(block)
        if "budgets" in content and not fenced(page, "diff"):
            path = tmp_path / "space.yaml"
            path.write_text(block)
            for budget in budgets(path):
                read_space(path, budget).first_trial()


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    links = {(index.parent / link).resolve() for link in LINK.findall(index.read_text())}
    missing = [ids(page) for page in PAGES[1:] if page not in {*links, index}]
    assert not missing


TUTORIAL = ROOT / "docs" / "tutorial.md"
LOSS, METRIC, READER, TASK = (
    ROOT / "docs" / "how-to" / f"{name}.md" for name in ("loss", "metric", "reader", "task")
)
CHANGED_FILES = {
    LOSS: ["lartpc_ray/losses/mask.py"],
    METRIC: ["lartpc_ray/metrics/clustering.py", "dashboards/clustering.yaml"],
    READER: ["lartpc_ray/data/files.py"],
    TASK: ["lartpc_ray/tasks/__init__.py"],
}
"""Page to the files that its diffs change, in their order."""


def test_the_tutorial_makes_a_file_of_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = fenced(TUTORIAL, "python")
    exec(code, {})
    with open_events("muons.h5") as events:
        assert len(events) == 10
        assert events[9].coords.min(axis=0).tolist() == [9, 0, 256]
        assert set(events[9].semantic.tolist()) == {1}


def changed(source: str, diff: str) -> str:
    """Apply the hunks of a diff to a text; each must fit at one place."""
    for hunk in diff.split("@@\n")[1:]:
        lines = [line or " " for line in hunk.splitlines()]
        old, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] in f" {sign}") for sign in "-+"
        )
        assert source.count(old) == 1, f"not once in the file:\n{old}"
        source = source.replace(old, new)
    return source


def with_own_loss() -> str:
    """lartpc_ray/losses/mask.py as the page on losses changes it."""
    assert mask.__file__
    (diff,) = fenced(LOSS, "diff")
    return changed(Path(mask.__file__).read_text(), diff)


def test_the_loss_of_the_page_by_hand() -> None:
    names: dict[str, Any] = {}
    exec(with_own_loss(), names)
    assert names["MASKS"].keys() == set(get_args(names["MaskName"]))
    q = -torch.log(torch.tensor([0.8, 0.5, 0.4]))
    inside, owner = torch.tensor([True, True, False]), torch.zeros(3, dtype=torch.int64)
    value = names["MASKS"]["tversky"](q, inside, owner, 1)
    assert value.tolist() == pytest.approx([1 - 1.3 / (1.3 + 0.3 * 0.4 + 0.7 * 0.7)])


def done(folder: Path, program: str, *given: str) -> str:
    """Run a command in a folder, beside its own lartpc_ray if any, and return the output."""
    run = subprocess.run(
        [sys.executable, "-m", program, *given],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        timeout=900,
    )
    assert run.returncode == 0, f"python -m {program} {shlex.join(given)}\n{run.stderr}"
    return run.stdout


def follow(page: Path, folder: Path) -> Path:
    """Make a copy of the package in a folder, with the changes and the files of a page."""
    for name in ("lartpc_ray", "search_spaces", "dashboards"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, diff in zip(CHANGED_FILES[page], fenced(page, "diff"), strict=True):
        (folder / path).write_text(changed((ROOT / path).read_text(), diff))
    for block in fenced(page, "python"):
        (folder / block.splitlines()[0].removeprefix("# ")).write_text(block)
    return snippets(page, folder)


@pytest.mark.slow
def test_the_loss_of_the_page_is_searched(tmp_path: Path, few_events: Path) -> None:
    follow(LOSS, tmp_path)
    program, given = next((one, rest) for one, rest in commands(LOSS) if "smoke" in rest)
    out = done(tmp_path, program, *given, "--data", str(few_events))
    assert re.search(r"^ *tversky +0\.\d+", out, re.MULTILINE), out


@pytest.mark.slow
def test_the_metric_of_the_page_by_hand() -> None:
    path, (diff, _) = "lartpc_ray/metrics/clustering.py", fenced(METRIC, "diff")
    names: dict[str, Any] = {}
    exec(changed((ROOT / path).read_text(), diff).replace("cache=True, ", ""), names)
    truth, predicted = np.array([0, 0, 1, 1, -1]), np.array([0, 0, 1, -1, -1])
    assert names["scores"](truth, predicted)["coverage"] == pytest.approx(3 / 4)
    assert names["scores"](truth, predicted)["purity"] == pytest.approx(1)


@pytest.mark.slow
def test_the_metric_of_the_page_is_searched(tmp_path: Path, few_events: Path) -> None:
    follow(METRIC, tmp_path)
    options = ("--budget", "smoke", "--set", "task.metric=coverage", "--data", str(few_events))
    out = done(tmp_path, "lartpc_ray.tune", "smoke", *options)
    assert "share of voxels in a cluster" in out
    assert re.search(r"objective (0\.\d+|1\.0+) on the tune split", out)


@pytest.mark.slow
def test_the_reader_of_the_page_reads_and_converts(tmp_path: Path) -> None:
    follow(READER, tmp_path)
    rows = "# voxels\n7 1 2 3 0.5 1 0\n7 1 2 4 0.25 1 0\n9 600 0 0 1.5 2 3\n"
    (tmp_path / "voxels.txt").write_text(rows)
    out = done(tmp_path, "lartpc_ray.data", "inspect", "voxels.txt")
    assert "text table of voxels" in out
    for program, given in commands(READER):
        done(tmp_path, program, *given)
    with open_events(tmp_path / "events.h5") as events:
        assert [len(event) for event in events] == [2, 1]
        assert events[0].shape == (768, 768, 768)
        assert events[1].cluster.tolist() == [3]
        assert events[1].semantic.tolist() == [2]
        assert events[0].energy.tolist() == [0.5, 0.25]


def test_the_task_of_the_page_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three track voxels and the shower voxel are right."""
    (code,) = fenced(TASK, "python")
    module = type(sys)("lartpc_ray.tasks.track")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # pydantic looks names up in it
    exec(code, module.__dict__)
    task = module.TrackTask()
    coords = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [5, 5, 5]])
    event = Event.of(coords, np.ones(4), (8, 8, 8), semantic=np.array([0, 1, 1, 2]))
    outputs = {"probability": np.array([0.9, 0.8, 0.1, 0.2])}
    means = task.evaluate(0, event, outputs, {}).means()
    assert means == {"TRACK": {"accuracy": pytest.approx(2 / 3)}, "SHOWER": {"accuracy": 1.0}}
    assert task.validate_on([(event, outputs)]).objective == pytest.approx((2 / 3 + 1) / 2)
    assert task.reconstruct(event, outputs, {}).semantic.tolist() == [1, 1, 2, 2]


@pytest.mark.slow
def test_the_task_of_the_page_is_searched_and_has_a_page(tmp_path: Path, few_events: Path) -> None:
    follow(TASK, tmp_path)
    program, given = next((one, rest) for one, rest in commands(TASK) if "smoke" in rest)
    out = done(tmp_path, program, *given, "--data", str(few_events))
    assert re.search(r"accuracy, mean over events .*\n +mean +tracks +showers", out), out
    done(tmp_path, "lartpc_ray.report", "track", "--html", "track.html")
    assert "Worst and best events" in (tmp_path / "track.html").read_text()
    assert "track" in done(tmp_path, "lartpc_ray", "settings")


@pytest.mark.slow
def test_the_tutorial_from_its_file_to_its_page(tmp_path: Path) -> None:
    """Run all commands in their order but the long search.

    ID, and the run that the page shows in an output, are the run of the other search.
    """
    run = ""
    for program, given in commands(TUTORIAL):
        if "laptop" not in given:
            words = (run if re.fullmatch(r"ID|[0-9a-f]{32}", word) else word for word in given)
            out = done(tmp_path, program, *words)
            run = next(iter(re.findall(r"report --run (\w+)", out)), run)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {
        *("mine.h5", "event3.html", "event3.png", "runs"),
        *("clusters.h5", "found3.html", "found3.png", "report.html", "study.html"),
    }
    with open_events(tmp_path / "clusters.h5") as events:
        assert events.predicted
        assert len(events) == 150


@pytest.mark.slow
def test_the_plan_on_the_page_is_what_its_command_prints() -> None:
    """Of the study's own training: event passes, share, node hours, money."""
    page = (ROOT / "docs" / "scaling.md").read_text()
    command = [sys.executable, "benchmarks/scaling.py", "--part", "plan"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    plan = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert plan.returncode == 0, plan.stderr
    whole, left = re.findall(
        r"share (\S+), (\S+) node hours, (\d+) hours of 100 nodes; at (\S+) a node hour .* (\d+)",
        plan.stdout,
    )
    (passes,) = re.findall(r"passes = .* = (\d+),000,000\n", plan.stdout)
    (rate, once, minutes) = re.findall(
        r"at (\S+) events a second and worker: (\d+) worker hours, (\d+) minutes", plan.stdout
    )[0]
    assert f"| {passes} million |" in page
    assert f"| {left[0]} |" in page
    assert f"| {whole[1]}: {whole[2]} hours of 100 nodes |" in page
    assert f"| {left[1]}: {left[2]} hours of 100 nodes |" in page
    money = rf"at {left[3]} € per node hour \(.*\) {left[4]} €; {whole[4]} € if none is stopped"
    assert re.search(money, page)
    assert f"r = {rate} on one core with the study's network: {minutes} minutes |" in page
    assert f"for any number of nodes | {once} |" in page
