"""BatchNorm over the voxels of one worker, or over those of all workers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

Rows = Float[Tensor, "site channel"]


class Norm(nn.BatchNorm1d):
    """BatchNorm over the sites; a single site has no spread and uses the running averages."""

    def forward(self, rows: Rows) -> Rows:
        out: Tensor = super().forward(rows) if len(rows) > 1 else self.evaluated(rows)
        return out

    def evaluated(self, rows: Rows) -> Rows:
        """Normalise by the running averages."""
        return nn.functional.batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class SynchronisedNorm(Norm):
    """BatchNorm over the sites of all workers, on any device (torch's own wants a GPU).

    Attributes:
        alone: this worker computes without the others, as in an evaluation.
    """

    alone = False

    def forward(self, rows: Rows) -> Rows:
        if not self.training or self.alone:
            return super().forward(rows) if self.training else self.evaluated(rows)
        wide = rows.float()
        count = _total(wide.new_tensor(float(len(wide))))
        if count <= 1:
            return self.evaluated(rows)
        mean = _total(wide.sum(0)) / count
        variance = _total((wide - mean).square().sum(0)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            share = self.momentum or 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1), share)
        normal = (wide - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return normal.to(rows.dtype)


def synchronise(network: nn.Module) -> None:
    """Let every `Norm` of a network use the sites of all workers; keep its weights."""
    for module in network.modules():
        if type(module) is Norm:
            module.__class__ = SynchronisedNorm


class _Total(torch.autograd.Function):
    """The sum over the workers; its gradient is summed too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        distributed.all_reduce(total)
        return total


def _total(value: Tensor) -> Tensor:
    total: Tensor = _Total.apply(value)  # type: ignore[no-untyped-call]
    return total
