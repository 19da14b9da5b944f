"""The setting network.gpu_kernels, where Triton is not installed and where it is not needed."""

import subprocess
import sys

import pytest
import torch

from lartpc_ray.sparse import engine
from lartpc_ray.trials.paths import make_trial


def test_a_missing_triton_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys.modules[engine.__module__], "find_spec", lambda name: None)
    message = r"^network.gpu_kernels: triton is not installed; pip install 'lartpc-ray\[triton\]'"
    with pytest.raises(ValueError, match=message):
        engine("native", gpu_kernels="triton")
    assert engine("native").gpu_kernels == "torch"


def test_triton_works_on_gpus_only() -> None:
    settings = {"task.name": "clustering", "network.gpu_kernels": "triton"}
    with pytest.raises(ValueError, match="gpu_kernels: triton works on GPUs only; set resources"):
        make_trial(settings)
    assert make_trial({**settings, "resources.gpus": 1}).network.gpu_kernels == "triton"


@pytest.mark.slow
def test_a_cpu_does_not_import_triton() -> None:
    """A network that was trained with Triton works where Triton is not installed."""
    code = """
import os
import sys
os.environ.pop("TRITON_INTERPRET", None)
sys.modules["triton"] = None
import torch
from lartpc_ray.sparse import engine
it = engine("native", gpu_kernels="triton")
x = it.sites(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 1), (4, 4), torch.zeros(1).long())
print(x.sites.kernels, it.rows(it.submanifold(x, torch.ones(9, 1, 1))).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "llvm [[1.0]]\n", done.stderr
