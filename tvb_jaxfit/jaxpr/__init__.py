"""Passes over traced JAX functions. Knows nothing of brains."""
