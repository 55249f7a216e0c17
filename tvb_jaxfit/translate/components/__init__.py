"""Components of a TVB simulator, each translated by one module."""
