"""Limits of images of events, without a library."""

MAX_SIDE = 2**20
"""Voxels along an axis; the ids of a 3D image then fit into 60 bits."""
MOST_EVENTS = 10**9
"""Events of a file, or to make."""
