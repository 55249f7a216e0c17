"""Uncertainty of fitted values: information about them in the FC of a recording."""
