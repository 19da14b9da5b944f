"""The time and the memory of a piece of work."""

import sys

import pytest
import torch

from lartpc_ray.runtime.resources import Meter


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from Linux's /proc")
def test_work_takes_as_much_the_second_time() -> None:
    peaks, fences = [], []
    for _ in range(3):
        with Meter("cpu") as meter:
            rows = [torch.ones(100, 100) for _ in range(3000)]
        fences.append(torch.ones(100, 100))  # above the freed memory, so that malloc keeps it
        del rows
        peaks.append(meter.peak_gib)
    wanted = 300 * 1000 * 100 * 4 / 2**30
    assert peaks == pytest.approx([wanted] * 3, rel=0.3), "freed memory counts again"
