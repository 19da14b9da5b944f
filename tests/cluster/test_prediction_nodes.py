"""A prediction on two nodes, of which one is lost: the results of one process, in their order."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from conftest import make_event
from ray.cluster_utils import Cluster

from lartpc_ray.data.event import Event
from lartpc_ray.data.files import write_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.predict.inference import CHUNK_EVENTS
from lartpc_ray.predict.job import Work
from lartpc_ray.predict.placement import LazyRay, Placement
from lartpc_ray.predict.service import InferenceService
from lartpc_ray.predict.sources import FileEvents
from lartpc_ray.tasks.task import Outputs
from lartpc_ray.terminal.command import log
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.trial import Trial

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers import no test
EVENTS = 10 * CHUNK_EVENTS["cpu"]
SLOW = 0.05
"""Seconds that the work on an event takes longer, so that chunks are at work on the lost node."""


def slow_bytes(seconds: float, number: int, event: Event, outputs: Outputs) -> tuple[int, bytes]:
    time.sleep(seconds)
    return number, outputs["position"].tobytes()


@pytest.mark.slow
def test_a_prediction_that_loses_a_node_gives_the_same_results(
    tmp_path: Path, rng: np.random.Generator, nodes: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, log.name)
    write_events(tmp_path / "events.h5", [make_event(rng) for _ in range(EVENTS)])
    source = FileEvents(files=(tmp_path / "events.h5",), layout=Layout(side=16))
    trial = Trial.model_validate({"network": {"depth": 2, "filters": 4, "blocks": 1}})
    state = Checkpoint(trial, 0, trial.make_network().state_dict(), {}, [])
    here = list(InferenceService([state], source).run(Work(slow_bytes, (0.0,)), [range(EVENTS)]))
    with LazyRay(Placement(workers=2, device="cpu")) as session:
        session.start(EVENTS)
        service = InferenceService([state], source, session.placement)
        found: list[Any] = []
        for result in service.run(Work(slow_bytes, (SLOW,)), [range(EVENTS)]):
            if len(found) == CHUNK_EVENTS["cpu"]:
                nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
            found.append(result)
    assert found == here
    assert "a worker ended; another one takes its work" in caplog.text
