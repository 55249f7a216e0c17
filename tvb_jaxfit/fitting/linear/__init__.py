"""Fits by the linear response."""
