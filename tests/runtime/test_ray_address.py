"""A wrong RAY_ADDRESS is a line within seconds."""

import os
import socket
import threading
import time
from typing import Any

import pytest
import ray
from processes import free_port
from ray._private import services

from lartpc_ray.runtime import ray_session as ray_session_module
from lartpc_ray.runtime.ray_session import ray_session


def refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with (
        pytest.raises(RuntimeError, match=rf"RAY_ADDRESS={address}: no Ray listens there"),
        ray_session(dashboard=False),
    ):
        pytest.fail("joined")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:9{}"])
def test_an_address_at_which_nothing_listens_is_refused(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(form.format(free_port()), monkeypatch)


def test_a_silent_ray_that_auto_finds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's, or one whose process has just been killed."""
    found = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda _: found)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("waits for minutes"))
    with (
        pytest.raises(RuntimeError, match=rf"RAY_ADDRESS={found}: no Ray listens there"),
        ray_session(dashboard=False),
    ):
        pass


def test_a_ray_that_ray_address_asks_for_here_has_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """`local` is Ray's own word for a Ray on this machine; it would start without a token."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    started: list[tuple[Any, str | None, int]] = []

    def start(address: str, **_: Any) -> None:
        token = os.environ.get("RAY_AUTH_TOKEN", "")
        started.append((address, os.environ.get("RAY_AUTH_MODE"), len(token)))
        raise RuntimeError("stop")

    monkeypatch.setattr(ray, "init", start)
    with pytest.raises(RuntimeError, match="stop"), ray_session(dashboard=False):
        pass
    assert started == [("local", "token", 64)]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_an_address_of_another_program_is_refused(
    answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session_module, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        if answer is not None:
            threading.Thread(target=lambda: server.accept()[0].sendall(answer)).start()
        refused(f"127.0.0.1:{server.getsockname()[1]}", monkeypatch)


@pytest.mark.slow
def test_the_address_of_a_ray_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    with ray_session(cpus=1, dashboard=False):
        address = ray.get_runtime_context().gcs_address
        ray_session_module._refuse_silent_address(address)
