"""The network that scores pairs of pieces."""

import numpy as np
import torch

from lartpc_ray.networks.joining import HIDDEN, fit_joining, joining_size, pair_logits


def pairs(count: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Return features of very different sizes, and a rule that no line separates."""
    rng = np.random.default_rng(0)
    unit = rng.uniform(-1, 1, (count, 3))
    scaled = unit * [1.0, 100.0, 0.01] + [0.0, 500.0, 3.0]
    return scaled.astype(np.float32), unit[:, 0] * unit[:, 1] > 0


def test_it_learns_a_rule_that_no_line_separates() -> None:
    features, same = pairs()
    values = fit_joining(features[:1000], same[:1000], seed=0)
    right = (pair_logits(values, features[1000:]) > 0) == same[1000:]
    assert right.mean() > 0.9


def test_it_depends_on_its_arguments_only() -> None:
    features, same = pairs(200)
    torch.manual_seed(1)
    first = fit_joining(features, same, seed=3)
    torch.manual_seed(2)
    assert torch.equal(fit_joining(features, same, seed=3), first)
    assert not torch.equal(fit_joining(features, same, seed=4), first)


def test_the_logits_are_those_of_plain_products() -> None:
    features, same = pairs(100)
    values = fit_joining(features, same, seed=0)
    assert values.shape == (joining_size(3),)
    rest = values.double().numpy()
    mean, scale, rest = rest[:3], rest[3:6], rest[6:]
    x = (features - mean) / scale
    for rows, columns in ((3, HIDDEN[0]), HIDDEN, (HIDDEN[1], 1)):
        weight, rest = rest[: rows * columns].reshape(columns, rows), rest[rows * columns :]
        bias, rest = rest[:columns], rest[columns:]
        x = x @ weight.T + bias
        x = np.maximum(x, 0) if len(rest) else x
    np.testing.assert_allclose(pair_logits(values, features), x[:, 0], atol=1e-4)


def test_without_pairs_all_values_are_zero() -> None:
    values = fit_joining(np.empty((0, 3), np.float32), np.empty(0, bool), seed=0)
    assert values.shape == (joining_size(3),)
    assert not values.any()


def test_a_constant_feature_changes_nothing_to_infinity() -> None:
    features, same = pairs(100)
    features[:, 1] = 7
    logits = pair_logits(fit_joining(features, same, seed=0), features)
    assert np.isfinite(logits).all()
