"""Scores of a state on noise and sessions that no fit has seen."""
