"""Passes over traced JAX functions (jaxprs). They are independent of the rest of the package."""
