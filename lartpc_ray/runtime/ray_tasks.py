"""Calls of one function as Ray tasks, with their results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from lartpc_ray.terminal.text import error_text

RETRIES = 5
"""Times that Ray repeats a task whose worker has died."""


def run_in_order(function: Callable[..., Any], calls: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield the result of each call in the order of the calls.

    Ray has two calls per core at a time. At most twice as many are begun and not yet yielded, so
    that memory is bounded.

    Args:
        function: that Python can import.
        calls: the arguments of each call; objects of Ray's store go by reference.

    Raises:
        ValueError: that a call raised.
        RuntimeError: for any other error of a call.
    """
    remote: Any = ray.remote(max_retries=RETRIES)(function)
    room = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    flying: dict[Any, int] = {}
    done: dict[int, Any] = {}
    numbered = enumerate(calls)
    following = 0
    try:
        while True:
            while len(flying) < room and len(flying) + len(done) < 2 * room:
                if (call := next(numbered, None)) is None:
                    break
                number, arguments = call
                flying[remote.remote(*arguments)] = number
            if not flying:
                return
            (ended,), _ = ray.wait(list(flying), num_returns=1)
            done[flying.pop(ended)] = _result(ended)
            while following in done:
                yield done.pop(following)
                following += 1
    finally:
        _drop(list(flying))


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        raise own_error(error) from None


def _drop(references: list[Any]) -> None:
    """Cancel calls, and read their errors, which Ray prints otherwise."""
    if not ray.is_initialized():
        return
    for reference in references:
        ray.cancel(reference)
    for reference in references:
        with suppress(RayError, ValueError):
            ray.get(reference)


def own_error(error: RayError) -> Exception:
    """Return the error of a worker as this process's own: a `ValueError`, or a `RuntimeError`."""
    cause = error.cause if isinstance(error, RayTaskError) else None
    return cause if isinstance(cause, ValueError) else RuntimeError(error_text(error))
