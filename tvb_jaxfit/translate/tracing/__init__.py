"""TVB's own methods as JAX functions: their Python code, traced on arrays that hold JAX arrays."""
