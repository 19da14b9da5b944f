from mlflow.models import set_model

from lartpc_ray.model import Finder

set_model(Finder())
