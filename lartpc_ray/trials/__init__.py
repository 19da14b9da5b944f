"""One run and its settings: trial, search space, checkpoint."""
