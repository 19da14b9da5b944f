"""Metrics of clustering, segmentation, Michel electrons and infill."""
