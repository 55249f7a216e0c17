"""Evaluation of a simulator or a fit: scores on fresh noise and on sessions that were held out, beside baselines."""
