"""TVB against its translation, on the same draws, with negative controls."""
