"""Calls of one function as Ray tasks, with their results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import RayTaskError

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


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise own_error(error) from None


def own_error(error: RayTaskError) -> Exception:
    """Return the error of a worker as this process's own: a `ValueError`, or a `RuntimeError`."""
    cause = error.cause
    return cause if isinstance(cause, ValueError) else RuntimeError(error_text(error))
