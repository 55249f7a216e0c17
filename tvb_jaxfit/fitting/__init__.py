"""Fits: the loop over gradients, the one-call fit, and what they are judged by."""
