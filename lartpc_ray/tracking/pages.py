"""Where a person finds a run: arguments of a command, and addresses of MLflow's pages."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from lartpc_ray.terminal.text import short_names
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import is_database, quoted, where_password

TRAINING = "workflowType=machine_learning"
"""Without it MLflow 3 opens an experiment on a page about traces of language models."""


def store_arguments(tracking: Tracking) -> str:
    """Return the arguments by which a command in this folder finds the store, without secrets.

    `password_hint` tells where a command takes the password from.
    """
    if tracking.folder is None:
        return f" --tracking-uri {shlex.quote(tracking.shown)}"
    here, folder = Path.cwd(), tracking.folder
    folder = folder.relative_to(here) if folder.is_relative_to(here) else folder
    return "" if str(folder) == "runs" else f" --runs {shlex.quote(str(folder))}"


def password_hint(tracking: Tracking) -> str:
    """Return where the printed commands take the store's password from; empty without one.

    With the present MLFLOW_TRACKING_URI the commands of this package find it.
    """
    if tracking.shown == tracking.uri:
        return ""
    return f"left out above; {where_password(tracking.uri)}"


def server_command(tracking: Tracking) -> str:
    """Return the command that shows a file or a database in the browser; empty for a server.

    Of a database other than PostgreSQL `mlflow ui` takes the URI from the environment alone.
    """
    if not tracking.local and not is_database(tracking.uri):
        return ""
    needs_file = tracking.local or tracking.uri.startswith("postgresql")
    store = f"--backend-store-uri {shlex.quote(tracking.shown)} " if needs_file else ""
    return f"mlflow ui {store}--host 127.0.0.1"


def _site(tracking: Tracking) -> str:
    """Return the address of MLflow's pages: of `mlflow ui` for a store in a file."""
    http = tracking.uri.startswith("http")
    return tracking.shown.rstrip("/") if http else "http://127.0.0.1:5000"


def run_page(tracking: Tracking, run: str) -> str:
    """Return the address of a run in the browser."""
    return f"{_site(tracking)}/{run_link(tracking, run)}"


def study_page(tracking: Tracking, study: str) -> str:
    """Return the address of a study's trials, as `show_study` arranges them."""
    return f"{_site(tracking)}/{study_link(tracking, study)}"


def run_link(tracking: Tracking, run: str, artefact: str = "") -> str:
    """Return the address of a run, or of an artefact of it, within MLflow's pages."""
    part = f"/artifacts/{artefact}" if artefact else ""
    return f"#/experiments/{tracking.experiment}/runs/{run}{part}?{TRAINING}"


def study_link(tracking: Tracking, study: str) -> str:
    """Return the address of a study's trials within MLflow's pages."""
    view = f"{TRAINING}&viewStateShareKey={quote(_view(study))}"
    return f"#/experiments/{tracking.experiment}/runs?{view}"


def _view(study: str) -> str:
    """Return the name of a study in the name of a tag; MLflow refuses other characters."""
    return re.sub(r"[^\w.\- ]", "-", study)


def show_study(tracking: Tracking, study: str, settings: Sequence[str]) -> None:
    """Arrange the page of a study: its trials, the best first, with their settings.

    MLflow keeps a shared view of its page as JSON in a tag of the experiment.

    Args:
        tracking: store of the study.
        study: its name, the tag `study` of its trials.
        settings: dotted paths of the settings to show.
    """
    metrics = [f"metrics.`{name}`" for name in ("objective", "objective_error")]
    view = {
        "searchFilter": f"tags.study = {quoted(study)} and tags.trial != ''",
        "orderByKey": metrics[0],
        "orderByAsc": False,
        "selectedColumns": [*metrics, *(f"params.`{name}`" for name in short_names(settings))],
    }
    tracking.set_experiment_tag(f"mlflow.sharedViewState.{_view(study)}", json.dumps(view))
