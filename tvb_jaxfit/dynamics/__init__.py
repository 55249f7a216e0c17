"""Pure JAX: the step of a network, its trajectory and reverse pass, and the monitors. Independent of TVB."""
