"""Observables: pure, differentiable functions of signals, and distances between their distributions."""

from .fc import compute_fc, covariance_to_fc, standardise

__all__ = ["compute_fc", "covariance_to_fc", "standardise"]
