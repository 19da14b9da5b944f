"""The particle classes and the tables that merge them."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class ParticleClass(IntEnum):
    """The five voxel classes of Koh et al. 2020 (arXiv:2007.03083), in their order."""

    HIP = 0
    MIP = 1
    SHOWER = 2
    DELTA = 3
    MICHEL = 4


NO_CLASS = -1
"""The class of a voxel whose class is unknown."""

TRACK_SHOWER = np.array([0, 0, 1, 1, 1], dtype=np.int32)
"""Class to track (0) or shower (1), as in SparseSSNet."""

CLASS_NAMES = tuple(particle.name for particle in ParticleClass)
