"""Start, join and end Ray, once per command."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from stat import S_ISDIR
from tempfile import gettempdir
from typing import Any

import psutil
import ray
from ray import _raylet

from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.runtime.signals import handle_stops, restore_interrupts
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import error_text

CONNECT_SECONDS = 5.0
"""Limit for a connection to RAY_ADDRESS, and for its first answer."""
HTTP2_SETTINGS = b"\4"
"""The type of the frame with which every server of gRPC answers (RFC 9113, 3.4)."""
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + HTTP2_SETTINGS + bytes(5)
KEPT_SESSIONS = 5
"""Ended sessions whose logs are kept."""
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")


@contextmanager
def ray_session(cpus: int | None = None, *, dashboard: bool) -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start one here, on loopback and quiet.

    Once a command, from before its work until all of it is done: threads of Ray outlive its end,
    and a driver that went on, and started Ray again, was seen to crash in one of them.

    Args:
        cpus: cores of a local one; all by default.
        dashboard: Ray's, of a local one: 1 GB and some seconds. Needed wherever Tune stops trials
            of several workers, for it frees what they held.

    Raises:
        RuntimeError: where Ray does not start.
    """
    restore_interrupts()
    environment = {name: os.environ.get(name) for name in AUTHENTICATION}
    try:
        with phase("starting Ray"):
            _start_ray(cpus, dashboard)
        yield
    finally:
        with phase("ending Ray"):
            _end_ray()
        _authenticate(environment)


def _start_ray(cpus: int | None, dashboard: bool) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    where: dict[str, Any] = {"address": "auto"}
    if os.environ.get("RAY_ADDRESS") == "local":  # Ray would start one here without a token
        del os.environ["RAY_ADDRESS"]
    _refuse_silent_address(os.environ.get("RAY_ADDRESS", ""))
    if not os.environ.get("RAY_ADDRESS"):
        _authenticate({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)})
        where = {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard}
        where["_temp_dir"] = str(private_folder() / "ray")
        remove_old_sessions(private_folder() / "ray")
        # Ray's processes read the variable on import and listen on loopback; this one has read it
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        loopback = os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = not loopback
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    # a call after the end of a session would start another Ray, without a token
    ray._private.auto_init_hook.enable_auto_connect = False
    # Ray prints why a node was lost where results are printed, log_to_driver or not
    ray._private.worker._worker_logs_enabled = False
    for again in (True, True, False):
        try:
            context = ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
            restore_interrupts()  # Ray took SIGTERM
            break
        except Exception as error:
            ray.shutdown()
            if not again or "timed out" not in str(error):
                raise RuntimeError(f"Ray does not start: {error}") from error
            log.info("Ray did not start within its limit of 30 s; trying again")
    if not (dashboard or os.environ.get("RAY_ADDRESS")):
        live.write_prometheus_targets(Path(context.address_info["session_dir"]))  # type: ignore[attr-defined]


def _refuse_silent_address(address: str) -> None:
    """Check that a cluster listens at RAY_ADDRESS; Ray itself waits minutes for it.

    With `auto` Ray takes any Ray on this machine, also one that lets nobody in.

    Raises:
        RuntimeError: if nothing listens there.
    """
    if address == "auto":
        try:
            address = ray._private.services.canonicalize_bootstrap_address(address) or ""
        except (ConnectionError, ValueError) as error:
            raise RuntimeError(f"RAY_ADDRESS=auto: {error_text(error)}") from None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():  # no address, or one that Ray refuses at once
        return
    try:
        where = (host.strip("[]"), int(port))
        with socket.create_connection(where, CONNECT_SECONDS) as connection:
            connection.settimeout(CONNECT_SECONDS)
            connection.sendall(HTTP2_GREETING)
            if os.environ.get("RAY_USE_TLS") != "1" and connection.recv(9)[3:4] != HTTP2_SETTINGS:
                raise ConnectionError("another program answers")
    except (OSError, OverflowError, UnicodeError) as error:
        raise RuntimeError(
            f"RAY_ADDRESS={address}: no Ray listens there ({error_text(error)}); start the "
            "cluster, or unset RAY_ADDRESS to start a Ray here"
        ) from None


def _authenticate(environment: Mapping[str, str | None]) -> None:
    """Set or unset the variables by which this process and its children authenticate to Ray.

    A Ray here gets a random token that no file holds. Without a token any local user could put a
    pickled class into Ray's store over loopback, and a worker would run it.
    """
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    _raylet.Config.initialize("")  # type: ignore[attr-defined]  # Ray read the mode on import
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


def private_folder() -> Path:
    """Return this user's folder for Ray's sessions; only the user may enter it.

    Ray makes its own folders writable for everybody, so they stand inside this one.

    Raises:
        RuntimeError: if the folder belongs to another user or lets others in.
    """
    folder = Path(os.environ.get("RAY_TMPDIR") or gettempdir()) / f"lartpc-ray-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RuntimeError(
            f"{folder}: not a folder of mode 0700 of this user; remove it, or set RAY_TMPDIR to "
            "another folder"
        )
    return folder


def locks_folder() -> Path:
    """Return this user's folder of locks on this machine.

    Raises:
        RuntimeError: see `private_folder`.
    """
    locks = private_folder() / "writers"
    locks.mkdir(mode=0o700, exist_ok=True)
    return locks


def remove_old_sessions(folder: Path) -> None:
    """Remove the folders of Ray's ended sessions, but for the logs of the newest `KEPT_SESSIONS`.

    Ray keeps about 1 MB of each session for ever.

    Args:
        folder: of Ray's sessions; a session's name ends with the number of its driver.
    """
    drivers = {path: path.name.rpartition("_")[2] for path in folder.glob("session_*_*")}
    ended = [
        session
        for session, driver in drivers.items()
        if driver.isdecimal() and not psutil.pid_exists(int(driver))
    ]
    for session in sorted(ended)[:-KEPT_SESSIONS]:
        shutil.rmtree(session, ignore_errors=True)


def _end_ray() -> None:
    """End Ray; `STOPS` are Ctrl-C from now on, and the first one waits for the end.

    In the second that it takes Ray leaves SIGTERM to the system, which kills without a word. A
    thread that frees a reference to an object in that second has Ray end the process, with status
    1 and without a message: so no garbage is collected, and no frame is left, before Ray has ended.
    """
    stops: list[int] = []

    def remember(number: int, frame: Any) -> None:
        stops.append(number)
        if len(stops) > 1:
            raise KeyboardInterrupt

    ending = threading.Thread(target=ray.shutdown)
    with _no_garbage_collection():
        handle_stops(remember)
        ending.start()
        while ending.is_alive():
            handle_stops(remember)
            ending.join(0.01)
    restore_interrupts()
    if stops:
        raise KeyboardInterrupt


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect all garbage, then none until the end."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
