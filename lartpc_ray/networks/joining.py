"""The joining network: the probability that two pieces of a class belong to one particle.

One multilayer perceptron per class. Its weights and the scale of its inputs stand in one row of
values that belongs to no voxel (`UResNet.constants`), so a checkpoint holds them as any weights.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

HIDDEN = (64, 64)
"""Neurons of the hidden layers."""
BATCH = 512
"""Pairs of a training step."""
EPOCHS = 20
MOST_STEPS = 2_000
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-3


def joining_size(features: int) -> int:
    """Return the number of values of one class: the mean and scale of each feature, and weights.

    Example:
        >>> joining_size(37)
        6731
    """
    widths = (features, *HIDDEN, 1)
    return 2 * features + sum(rows * columns + columns for rows, columns in pairwise(widths))


def pair_logits(
    values: Float[Tensor, " value"], features: Float[np.ndarray, "pair feature"]
) -> Float[np.ndarray, " pair"]:
    """Return the logit of each pair under the values of a class, computed in float32 on the CPU."""
    mean, scale, weights = _unpack(values.detach().cpu(), features.shape[1])
    return _forward((torch.from_numpy(features) - mean) / scale, weights).double().numpy()


def fit_joining(
    features: Float[np.ndarray, "pair feature"], same: Bool[np.ndarray, " pair"], seed: int
) -> Float[Tensor, " value"]:
    """Train the network of one class, and return its values; zeros without a pair.

    The loss is the binary cross-entropy, the optimizer AdamW with a learning rate that rises and
    falls once. The result depends only on the arguments.

    Args:
        features: of pairs of pieces.
        same: whether both pieces belong to one particle.
        seed: of the first weights and of the batches.
    """
    if not len(features):
        return torch.zeros(joining_size(features.shape[1]))
    random = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(features), torch.from_numpy(same.astype(np.float32))
    mean, scale = x.mean(dim=0), x.std(dim=0, unbiased=False).clamp(min=1e-3)
    weights = [
        torch.empty(size).uniform_(-bound, bound, generator=random).requires_grad_()
        for rows, columns in pairwise((features.shape[1], *HIDDEN, 1))
        for size, bound in (((columns, rows), rows**-0.5), ((columns,), rows**-0.5))
    ]
    _train(weights, (x - mean) / scale, y, random)
    return torch.cat([part.detach().flatten() for part in (mean, scale, *weights)])


def _train(weights: list[Tensor], x: Tensor, y: Tensor, random: torch.Generator) -> None:
    """Train weights and biases in place; `x` is scaled, `y` is 1 for a pair of one particle."""
    steps = min(MOST_STEPS, EPOCHS * -(-len(x) // BATCH))
    optimizer = torch.optim.AdamW(weights, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(x), (BATCH,), generator=random)
        logit = _forward(x[chosen], weights)
        loss = nn.functional.binary_cross_entropy_with_logits(logit, y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _forward(x: Tensor, weights: list[Tensor]) -> Float[Tensor, " pair"]:
    """Return the logit of each pair; the weight and the bias of each layer follow each other."""
    for number, (weight, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        x = nn.functional.linear(x.relu() if number else x, weight, bias)
    return x[:, 0]


def _unpack(values: Tensor, features: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the mean, the scale, and the weight and bias of each layer in turn."""
    shapes: list[tuple[int, ...]] = [(features,), (features,)]
    for rows, columns in pairwise((features, *HIDDEN, 1)):
        shapes += [(columns, rows), (columns,)]
    parts = values.split([int(np.prod(shape)) for shape in shapes])
    mean, scale, *weights = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
    return mean, scale, weights
