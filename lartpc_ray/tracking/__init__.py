"""MLflow runs, and the provenance of their results."""
