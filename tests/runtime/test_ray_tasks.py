"""Calls by Ray tasks: in order, with their errors as this process's own."""

import os
import sys
import time
from collections.abc import Iterator

import pytest
import ray
from ray import cloudpickle

from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.ray_tasks import run_in_order


def slower_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0.0)
    return 10 * number


def fail(number: int) -> int:
    if number == 1:
        raise ValueError("event 1: no voxel")
    if number == 2:
        raise KeyError("HIP")
    if number == 3:
        os._exit(1)
    return number


@pytest.mark.slow
def test_results_are_in_order_and_errors_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    read = []

    def calls() -> Iterator[tuple[int]]:
        for number in range(30):
            read.append(number)
            yield (number,)

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test
    with ray_session(1, dashboard=False):
        results = run_in_order(slower_first, calls())
        assert next(results) == 0
        assert len(read) <= 5, "calls are read as results are taken"
        assert list(results) == [10 * number for number in range(1, 30)]
        with pytest.raises(ValueError, match=r"^event 1: no voxel$"):
            list(run_in_order(fail, iter([(1,), (1,), (1,)])))
        with pytest.raises(RuntimeError, match="HIP") as found:
            list(run_in_order(fail, iter([(2,)])))
        assert "\n" not in str(found.value)
        begun = ((number,) for number in (1, *[0] * 20))
        with pytest.raises(ValueError, match="event 1"):  # the others are cancelled
            list(run_in_order(fail, begun))
        assert next(begun, None), "no call is read after an error"
        with pytest.raises(RuntimeError) as found:
            list(run_in_order(fail, iter([(3,)])))
        assert "\n" not in str(found.value)
    assert not ray.is_initialized()
    assert "Traceback" not in capfd.readouterr().err
