"""`python -m lartpc_ray.thresholds`: tune clustering thresholds."""
