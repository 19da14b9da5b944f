"""`python -m lartpc_ray.train`: train one network, data-parallel."""
