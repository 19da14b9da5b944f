"""`python -m lartpc_ray.predict`: apply and evaluate trained networks."""
