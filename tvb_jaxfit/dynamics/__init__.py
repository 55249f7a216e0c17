"""Pure JAX: the step, its trajectory, the reverse pass, and what monitors make of it. Knows nothing of TVB."""
