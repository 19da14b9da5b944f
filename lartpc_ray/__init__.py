"""Ray-distributed hyperparameter and threshold optimizer for liquid-argon TPC images."""
