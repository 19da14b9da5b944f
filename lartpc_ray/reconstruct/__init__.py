"""Clusters from network outputs, and the grids of their thresholds."""
