"""TVB's own methods as JAX functions: their Python code, run on arrays of JAX."""
