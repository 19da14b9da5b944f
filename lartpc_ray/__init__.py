"""Ray-distributed hyperparameter and threshold optimizer for liquid-argon TPC images."""

import logging
import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# read when torch is imported; threads that spin while they wait take the cores of those that work
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if not os.environ.get("RAY_ADDRESS"):  # a Ray of one's own is for this machine: loopback only
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # read when ray is imported
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
# which of a picture's fonts are not here, at each picture; and that it looks for them
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
