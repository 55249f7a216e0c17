"""Exploration: a loss at many points of a parameter space."""
