"""Load models that were registered before `lartpc_ray.predict.registry` existed."""

from lartpc_ray.predict.registry import PyfuncPredictor as Finder

__all__ = ["Finder"]
