"""Checks of what a user gives: arrays, options, functional connectivity, names."""
