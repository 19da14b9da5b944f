"""`python -m lartpc_ray.tune`: search a space with Ray Tune and Optuna."""
