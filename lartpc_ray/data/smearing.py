"""Smear the deposits of an image: those of Koh et al. 2020 are smeared by 3 mm."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from lartpc_ray.data.event import Event
from lartpc_ray.sparse.spread import spread


def smear(event: Event, sigma: float) -> Event:
    """Smear every deposit by a Gaussian, as diffusion does (3 mm in the sample of Koh et al.).

    Each voxel within two standard deviations and a voxel of a deposit gets the integral of the
    Gaussian over it. Energy that leaves the image is lost. A voxel takes class and cluster of the
    deposit that gives it most energy.

    Args:
        event: a 2D or 3D event.
        sigma: standard deviation of the Gaussian, voxels.

    Example:
        >>> alone = Event.of(np.array([[4, 4]]), np.array([1.0]), (9, 9))
        >>> len(smear(alone, 1.0))
        49
    """
    missing = 3 - len(event.shape)  # a 2D image is one layer of a 3D image
    shape = np.array((1,) * missing + event.shape)
    coords = np.pad(event.coords.astype(np.int64), ((0, 0), (missing, 0)))
    alone, along = np.ones(1), _shares(sigma)
    keys, energy, deposit = spread(
        coords, event.energy.astype(np.float64), shape, alone if missing else along, along
    )
    order = np.argsort(keys)
    voxels = np.stack(np.unravel_index(keys[order], tuple(shape)), axis=1)[:, missing:]
    main = deposit[order]
    return Event.of(
        voxels,
        energy[order],
        event.shape,
        semantic=event.semantic[main],
        cluster=event.cluster[main],
    )


def _shares(sigma: float) -> Float[np.ndarray, " step"]:
    """Return the share of a deposit in each voxel along an axis, the deposit in the middle."""
    from scipy.special import ndtr  # the distribution function of scipy.stats.norm

    reach = int(2 * sigma) + 1
    edges = ndtr((np.arange(-reach, reach + 2) - 0.5) / sigma)
    shares: np.ndarray = np.diff(edges) / (edges[-1] - edges[0])
    return shares
