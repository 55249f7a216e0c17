"""A loss at many points of a space of parameters."""
