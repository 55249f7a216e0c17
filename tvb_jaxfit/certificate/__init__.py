"""Comparison of TVB with its translation on the same draws, with negative controls."""
