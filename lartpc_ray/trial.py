"""Trial: everything one training run needs, to and from plain JSON."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lartpc_ray.data.loader import DataSettings
from lartpc_ray.networks.uresnet import NetworkSettings, UResNet
from lartpc_ray.settings import Settings
from lartpc_ray.tasks import AnyTask, ClusteringTask


class OptimizerSettings(Settings):
    """Adam, its schedule, and how long it runs."""

    steps: PositiveInt = Field(default=60_000, description="Koh et al.: 60 k iterations a phase")
    learning_rate: PositiveFloat = Field(default=1e-3)
    weight_decay: NonNegativeFloat = 0.0
    warmup: NonNegativeInt = Field(default=0, description="steps of linear rise")
    schedule: Literal["constant", "cosine"] = "constant"
    clip: NonNegativeFloat = Field(default=0.0, description="largest gradient norm; 0: no limit")
    settle_batches: NonNegativeInt = Field(
        default=30,
        description="training batches over which BatchNorm's averages are taken anew before a "
        "validation; 0 keeps the running ones",
    )
    evaluate_every: PositiveInt = Field(default=1000, description="steps between validations")

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied with at a step."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return rise
        done = min(1.0, step / self.steps)
        return rise * float(
            0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * done, dtype=torch.float64))
        )


class Resources(Settings):
    """What one trial takes of the machine."""

    workers: PositiveInt = Field(default=1, description="data-parallel processes")
    cpus: PositiveInt = Field(default=1, description="cores, and torch threads, a worker")
    gpus: float = Field(default=0.0, ge=0, description="GPUs a worker; a fraction shares one")


class Trial(Settings):
    """One training run: what is learnt, by which network, from which events, how, and with what."""

    task: AnyTask = ClusteringTask()
    network: NetworkSettings = NetworkSettings()
    data: DataSettings = DataSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    resources: Resources = Resources()
    seed: int = Field(default=0, ge=0)

    def make_network(self, engine: str | None = None) -> UResNet:
        """A new network for the task, the same for the same seed; on another engine if named."""
        torch.manual_seed(self.seed)
        axes = self.data.splits.axes
        settings = self.network.model_copy(update={"engine": engine or self.network.engine})
        network = UResNet(
            settings,
            self.task.branches(axes),
            axes=axes,
            inputs=self.task.inputs(axes),
            constants=self.task.constants(),
        )
        self.task.start(network)
        return network
