"""Sparse UResNet and the embedding that it predicts."""
