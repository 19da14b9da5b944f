"""Recorded trainings of the clustering study, and searches that are simulated on them."""
