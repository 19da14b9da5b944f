"""What a worker makes of a prediction: the reconstructed event as tables, or as rows of voxels.

Workers import this module and `cluster_columns`, so both do without pandas and MLflow.
"""

from __future__ import annotations

import json

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.predicted import predicted_tables
from lartpc_ray.data.formats.prediction_table import Columns, voxel_columns
from lartpc_ray.data.formats.source import Tables
from lartpc_ray.data.formats.tables import Version, event_tables, to_layout
from lartpc_ray.predict.input_tables import InputTables
from lartpc_ray.predict.job import read_task
from lartpc_ray.tasks.task import Outputs


def reconstruct(
    settings: str,
    thresholds: str,
    inputs: InputTables | None,
    version: Version,
    number: int,
    event: Event,
    outputs: Outputs,
) -> Tables:
    """Return the tables of the event with the reconstruction of a task in place of the truth.

    Args:
        settings: of the task, as JSON.
        thresholds: class to thresholds, as JSON.
        inputs: of the events, whose columns the result carries; None to write the event alone.
        version: layout of the tables.
        number, event, outputs: of the prediction.
    """
    predicted = read_task(settings).reconstruct(event, outputs, json.loads(thresholds))
    if inputs is None:
        return to_layout(event_tables(predicted), version)
    return to_layout(predicted_tables(predicted, *inputs.read(number)), version)


def reconstruct_voxels(
    settings: str,
    thresholds: str,
    inputs: InputTables | None,
    number: int,
    event: Event,
    outputs: Outputs,
) -> Columns:
    """Return the rows of the event in a table of voxels; for the arguments see `reconstruct`."""
    predicted = read_task(settings).reconstruct(event, outputs, json.loads(thresholds))
    source = None if inputs is None else inputs.read(number)
    return voxel_columns(number, predicted, outputs.get("seediness"), source)
