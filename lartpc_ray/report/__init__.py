"""`python -m lartpc_ray.report`: tables and pages of results."""
