"""Samplers: each proposes the settings of further trials from the results so far."""
