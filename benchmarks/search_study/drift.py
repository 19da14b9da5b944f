"""How far a difference between two trainings lasts: its change from a rung to the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_study.trainings import Training


def drifts(trainings: Sequence[Training]) -> dict[float, tuple[float, float]]:
    """Return share of the steps to the change of a difference, and its correlation.

    Args:
        trainings: of which those of the shortest length count. The differences are to the mean of
            the default, over the classes that vary.

    Returns:
        share to (standard deviation of the change from there to the end, over trainings;
        correlation of the difference there with that at the end).
    """
    full = min(int(one.steps[-1]) for one in trainings)
    same = [one for one in trainings if one.steps[-1] == full]
    means = np.stack([np.nanmean(one.scores.astype(float), axis=1) for one in same])
    varying = means[:, -1].std(axis=0) > 1e-3
    values = means[..., varying].mean(axis=-1)  # (training, length)
    default = np.array([one.kind == "default" for one in same])
    differences = values[~default] - values[default].mean(axis=0)
    end = differences[:, -1]
    shares = same[0].steps[:-1] / full
    return {
        float(share): (float((end - there).std()), float(np.corrcoef(there, end)[0, 1]))
        for share, there in zip(shares, differences.T, strict=False)
    }
