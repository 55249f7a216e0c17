"""Checks of the user's input: arrays, options, functional connectivity, names."""
