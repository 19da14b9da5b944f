"""A search of 60 trials: the memory and the open files of its driver stay flat."""

import time
from pathlib import Path
from statistics import median

import psutil
import pytest
from searches import finished, mlflow_runs, tune

SPACE = """
task: clustering
fixed:
  network.depth: 2
  network.blocks: 1
  task.loss.mask: balanced_bce
  task.init_margin: 0.1
  task.seeds.grid_points: 3
  data.batch_events: 1
  optimizer.evaluate_every: 2
  optimizer.batchnorm_batches: 1
search:
  network.filters: {int: [2, 4]}
  optimizer.learning_rate: {log: [1.0e-3, 1.0e-2]}
first:
  network.filters: 2
budgets:
  smoke: {trials: 60, steps: 2, min_steps: 2}
"""
TRIALS = 60
GROWTH = 60 * 2**20
"""Bytes that 40 further trials may add; what a trial leaves in a driver is below 1 MB."""
FILES = 10
"""Files that 40 further trials may leave open."""


@pytest.mark.slow
def test_sixty_trials_leave_memory_and_open_files_flat(few_events: Path, tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text(SPACE)
    words = ("--budget", "smoke", "--data", str(few_events), "--quiet")
    process = tune(tmp_path, *words, study=str(tmp_path / "flat.yaml"))
    driver = psutil.Process(process.pid)
    seen: list[tuple[int, int, int]] = []
    while process.poll() is None:
        begun = len(list(tmp_path.glob("flat-*/trials/*/sampled.json")))
        try:
            seen.append((begun, driver.memory_info().rss, driver.num_fds()))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.5)
    status, _, err = finished(process)
    assert status == 0, err
    runs = mlflow_runs(tmp_path)
    assert sum(name.startswith("trial ") for name in runs) == TRIALS
    searching = [(trial, memory, files) for trial, memory, files in seen if trial < TRIALS]
    early = [row for row in searching if 15 <= row[0] < 25]
    late = [row for row in searching if row[0] >= 50]
    memory = median(row[1] for row in late) - median(row[1] for row in early)
    files = median(row[2] for row in late) - median(row[2] for row in early)
    print(f"40 trials: {memory / 2**20:.1f} MB, {files} files")
    assert memory < GROWTH
    assert files <= FILES
