"""Simulate events without Geant4: the particle bomb."""
