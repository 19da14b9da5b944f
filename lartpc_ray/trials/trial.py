"""Trial: everything one training run needs, to and from plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import (
    AliasChoices,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from lartpc_ray.data.loader import DataSettings
from lartpc_ray.networks.uresnet import NetworkSettings, UResNet
from lartpc_ray.settings import Settings
from lartpc_ray.sparse import engine_class
from lartpc_ray.tasks import AnyTask, ClusteringTask


class OptimizerSettings(Settings):
    """Adam, its schedule, and how long it runs."""

    steps: PositiveInt = Field(
        default=60_000,
        description="Koh et al. state 50 k iterations, then 100 k with the seediness",
    )
    learning_rate: PositiveFloat = Field(
        default=1e-3, description="of Adam, after the warm-up; Koh et al. state 5e-3"
    )
    weight_decay: NonNegativeFloat = Field(default=0.0, description="Adam's, in the gradient")
    warmup: NonNegativeInt = Field(default=0, description="steps of linear rise")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="cosine: the learning rate falls to 0 at the last step"
    )
    clip: NonNegativeFloat = Field(default=0.0, description="largest gradient norm; 0: no limit")
    batchnorm_batches: NonNegativeInt = Field(
        validation_alias=AliasChoices("batchnorm_batches", "settle_batches"),
        default=30,
        description="training batches over which BatchNorm's averages are taken anew before a "
        "validation; 0 keeps the running ones",
    )
    evaluate_every: PositiveInt = Field(default=1000, description="steps between validations")
    accumulate: PositiveInt = Field(
        default=1,
        description="parts a worker's share of a step is computed in, one after the other: less "
        "memory, the same events a step",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the convolutions in training; the rest stays float32"
    )
    norm: Literal["local", "synchronised"] = Field(
        default="local", description="BatchNorm over the voxels of one worker, or of all"
    )

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return rise
        done = min(1.0, step / self.steps)
        return rise * float(
            0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * done, dtype=torch.float64))
        )


class Resources(Settings):
    """The resources of one trial."""

    workers: PositiveInt = Field(default=1, description="data-parallel processes")
    min_workers: NonNegativeInt = Field(
        default=0,
        description="with how many to go on where nodes are lost, until they are back; 0: all. A "
        "step has the same events and gradient with any number",
    )
    cpus: PositiveInt = Field(default=1, description="cores, and torch threads, a worker")
    gpus: float = Field(default=0.0, ge=0, description="GPUs a worker; a fraction shares one")

    @model_validator(mode="after")
    def _possible(self) -> Resources:
        if self.min_workers > self.workers:
            raise ValueError(f"min_workers: {self.min_workers} is more than workers {self.workers}")
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"gpus: {self.gpus:g}: below 1 a fraction, from 1 a whole number")
        if self.workers > 1 and 0 < self.gpus < 1:
            raise ValueError(
                f"gpus: {self.gpus:g}: {self.workers} workers cannot share a GPU (nccl); take 1 "
                "worker, or whole GPUs"
            )
        return self


class Trial(Settings):
    """One training run: task, network, events, optimizer and resources."""

    task: AnyTask = ClusteringTask()
    network: NetworkSettings = NetworkSettings()
    data: DataSettings = DataSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    resources: Resources = Resources()
    seed: int = Field(
        default=0, ge=0, description="of the first weights and, in a search, of what is tried"
    )
    start_weights: str | None = Field(
        default=None,
        description="checkpoint, or the folder of one, that gives the first weights instead of "
        "random ones; its network has the same settings",
    )

    @property
    def parts(self) -> int:
        """Return the number of parts of a step; their gradients are averaged, on any workers."""
        return self.resources.workers * self.optimizer.accumulate

    @model_validator(mode="after")
    def _fits_together(self) -> Trial:
        if 0 < self.data.batch_events < self.parts:
            raise ValueError(
                f"data.batch_events: {self.data.batch_events}: at least one event for each of "
                f"{self.parts} parts (resources.workers x optimizer.accumulate)"
            )
        if self.optimizer.norm == "synchronised" and self.resources.min_workers:
            raise ValueError(
                "optimizer.norm: synchronised needs all workers; leave out resources.min_workers"
            )
        name, engine = self.network.engine, engine_class(self.network.engine)
        if self.optimizer.precision not in engine.precisions:
            raise ValueError(
                f"optimizer.precision: {self.optimizer.precision}: engine {name} computes in "
                f"{', '.join(engine.precisions)} only"
            )
        if engine.needs_gpu and not self.resources.gpus:
            raise ValueError(f"network.engine: {name} works on GPUs only; set resources.gpus, too")
        if self.network.gpu_kernels != "torch" and not self.resources.gpus:
            raise ValueError(
                f"network.gpu_kernels: {self.network.gpu_kernels} works on GPUs only; set "
                "resources.gpus, too"
            )
        return self

    def with_events(self, path: str) -> Trial:
        """Return the trial on other events: a folder with train, tune and test, or one file."""
        splits = self.data.splits.model_copy(update={"path": path})
        return self.model_copy(update={"data": self.data.model_copy(update={"splits": splits})})

    def make_network(self, engine: str | None = None) -> UResNet:
        """Return a new network for the task, the same for the same seed."""
        torch.manual_seed(self.seed)
        axes = self.data.splits.axes
        settings = self.network.model_copy(update={"engine": engine or self.network.engine})
        network = UResNet(
            settings,
            self.task.branches(axes),
            axes=axes,
            inputs=self.task.input_channels(axes),
            constants=self.task.global_parameters(),
        )
        self.task.init_weights(network)
        return network

    def restore_network(self, weights: Mapping[str, torch.Tensor]) -> UResNet:
        """Return a network of given weights in evaluation mode, on the best engine here.

        The weights do not depend on the engine that trained them. The network holds these tensors
        themselves, and draws no weights of its own.
        """
        with torch.device("meta"):
            network = self.make_network(engine="auto")
        network.load_state_dict(weights, assign=True)
        return network.eval()
