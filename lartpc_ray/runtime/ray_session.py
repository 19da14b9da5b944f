"""Start, join and end Ray, once per command."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.runtime.signals import restore_interrupts
from lartpc_ray.terminal.command import say


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
    try:
        _start_ray(cpus, dashboard)
        yield
    finally:
        _end_ray()


def _start_ray(cpus: int | None, dashboard: bool) -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    where: dict[str, Any] = {"address": "auto"}
    if not os.environ.get("RAY_ADDRESS"):
        where = {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard}
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
            say("Ray did not start in the 30 s that it gives itself (a busy machine?); once more")
    if not (dashboard or os.environ.get("RAY_ADDRESS")):
        live.write_prometheus_targets(Path(context.address_info["session_dir"]))  # type: ignore[attr-defined]


def _end_ray() -> None:
    """End Ray; `STOPS` are Ctrl-C from now on.

    In the second that it takes Ray leaves SIGTERM to the system, which kills without a word.
    """
    ending = threading.Thread(target=ray.shutdown)
    ending.start()
    while ending.is_alive():
        restore_interrupts()
        ending.join(0.01)
    restore_interrupts()
