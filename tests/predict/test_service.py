"""The inference service: the same results in this process, and by workers of which one ends."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from conftest import make_event

from lartpc_ray.data.event import Event
from lartpc_ray.data.files import write_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.predict import placement as placements
from lartpc_ray.predict import service as services
from lartpc_ray.predict.cluster_columns import with_tables
from lartpc_ray.predict.inference import CHUNK_EVENTS, predict
from lartpc_ray.predict.job import Work, cut, keep_prediction
from lartpc_ray.predict.placement import Placement, few_events
from lartpc_ray.predict.reconstruction import reconstruct, reconstruct_voxels
from lartpc_ray.predict.service import InferenceService, SharedWorkers
from lartpc_ray.predict.sources import FileEvents
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.tasks.task import Outputs
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.trial import Trial

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers import no test
SMALL = {"depth": 2, "filters": 4, "blocks": 1}
EVENTS = 40


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FileEvents:
    """Write events into two files that meet inside a chunk."""
    folder, rng = tmp_path_factory.mktemp("events"), np.random.default_rng(7)
    events = [make_event(rng) for _ in range(EVENTS)]
    for name, part in (("a.h5", events[:23]), ("b.h5", events[23:])):
        write_events(folder / name, part)
    return FileEvents(files=(folder / "a.h5", folder / "b.h5"), layout=Layout(side=16))


def checkpoint(seed: int = 0) -> Checkpoint:
    trial = Trial.model_validate({"network": SMALL, "seed": seed})
    return Checkpoint(trial, 0, trial.make_network().state_dict(), {}, [])


def service(source: FileEvents, **placement: Any) -> InferenceService:
    return InferenceService([checkpoint()], source, Placement(**placement))


def killed_once(marker: str, number: int, event: Event, outputs: Outputs) -> tuple[int, bytes]:
    """End the process of a worker at its first event in the middle."""
    if number == 20 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number, outputs["position"].tobytes()


def with_process(number: int, event: Event, outputs: Outputs) -> tuple[int, bytes]:
    return os.getpid(), outputs["position"].tobytes()


def killed_always(number: int, event: Event, outputs: Outputs) -> None:
    if number == 20:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_imports_neither_mlflow_nor_pandas_for_its_work() -> None:
    """They took half of the seconds that a worker needs before its first event."""
    works = [Work(reconstruct), Work(reconstruct_voxels), with_tables(Work(reconstruct), "", "", 1)]
    script = "import pickle, sys; import lartpc_ray.predict.workers; "
    script += f"pickle.loads({pickle.dumps(works)!r}); print(*sys.modules)"
    run = [sys.executable, "-c", script]
    modules = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert "lartpc_ray.predict.cluster_columns" in modules
    assert not {"mlflow", "pandas"} & set(modules)


def test_results_are_those_of_the_network_in_the_order_of_the_events(source: FileEvents) -> None:
    found = list(service(source).run(Work(keep_prediction), [range(5, EVENTS)]))
    state = checkpoint()
    events = (source.open()[number] for number in range(EVENTS))
    wanted = list(predict(state.restored(), state.trial.task, events))
    assert len(found) == EVENTS - 5
    aligned = CHUNK_EVENTS["cpu"] - 5
    pairs = zip(found[aligned:], wanted[aligned + 5 :], strict=True)
    for (event, outputs), (other, expected) in pairs:
        assert np.array_equal(event.coords, other.coords)
        for name, values in expected.items():
            assert np.array_equal(outputs[name], values), "the same batches, whatever the start"


def test_no_batch_holds_events_of_two_chunks() -> None:
    assert cut(range(16, 50), 16) == [range(16, 32), range(32, 48), range(48, 50)]
    assert cut(range(0), 16) == []


def test_one_chunk_goes_to_the_gpu_of_another_node(
    source: FileEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (placements, services):
        monkeypatch.setattr(module, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 1.0})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    given = lambda self, *_: (one for one in [[self.job().device]])  # noqa: E731
    monkeypatch.setattr(services.InferenceService, "_on_workers", given)
    work: Work[Any] = Work(keep_prediction)
    assert list(service(source).run(work, [range(3)])) == ["cuda"]
    found = list(service(source, device="cpu").run(work, [range(3)]))
    assert len(found) == 3, "one chunk on the CPU needs no worker"


@pytest.mark.parametrize(
    ("address", "workers", "events", "here"),
    [
        ("", None, int(few_events(2)), True),
        ("", None, int(few_events(2)) + 1, False),
        ("", 2, 40, False),  # the user asks for them
        ("auto", None, 40, False),  # the head of a cluster predicts nothing
    ],
)
def test_few_events_on_one_machine_need_no_worker(
    source: FileEvents,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    workers: int | None,
    events: int,
    here: bool,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    for module in ("service", "placement"):
        resources = f"lartpc_ray.predict.{module}.cluster_resources"
        monkeypatch.setattr(resources, lambda: {"CPU": 2.0})
    chunks = cut(range(events), CHUNK_EVENTS["cpu"])
    assert service(source, workers=workers)._in_this_process(chunks, "cpu") == here


@pytest.mark.slow
def test_workers_give_the_same_bytes_also_after_one_was_killed(
    source: FileEvents, tmp_path: Path
) -> None:
    marker = tmp_path / "killed"
    marker.touch()
    work = Work(killed_once, (str(marker),))
    here = list(service(source).run(work, [range(EVENTS)]))
    marker.unlink()
    with ray_session(2, dashboard=False):
        assert list(service(source, workers=2).run(work, [range(EVENTS)])) == here
        assert marker.exists(), "a worker was killed"
        with pytest.raises(RuntimeError, match=r"3 workers ended on events \d+ to \d+"):
            list(service(source, workers=1).run(Work(killed_always), [range(EVENTS)]))


@pytest.mark.slow
def test_eight_workers_give_the_bytes_of_one(source: FileEvents) -> None:
    longer = FileEvents(files=source.files * 4, layout=source.layout)
    events, work = [range(4 * EVENTS)], Work(with_process)
    here = [values for _, values in service(longer).run(work, events)]
    with ray_session(8, dashboard=False):
        found = list(service(longer, workers=8).run(work, events))
    assert [values for _, values in found] == here
    assert len({process for process, _ in found}) > 1


@pytest.mark.slow
def test_passes_one_after_the_other_share_their_workers(source: FileEvents) -> None:
    states = [checkpoint(), checkpoint(seed=1)]
    work = Work(with_process)

    def passed(state: Checkpoint, workers: SharedWorkers | None) -> tuple[set[int], list[bytes]]:
        service = InferenceService([state], source, Placement(workers=2), workers)
        found = list(service.run(work, [range(EVENTS)]))
        return {process for process, _ in found}, [values for _, values in found]

    here = [passed(state, None)[1] for state in states]
    assert here[0] != here[1]
    with ray_session(2, dashboard=False):
        with SharedWorkers() as workers:
            found = [passed(state, workers) for state in states]
            assert [values for _, values in found] == here
            assert found[0][0] == found[1][0], "no worker starts for the second network"
            shared = InferenceService([states[0]], source, Placement(workers=2), workers)
            left = shared.run(work, [range(EVENTS)])
            next(left)
            left.close()
            again, values = passed(states[1], workers)
            assert values == here[1], "no chunk of the pass that was left"
            assert not again & found[0][0], "its workers ended at once"
        assert passed(states[0], None)[1] == here[0], "the cores are free again"
