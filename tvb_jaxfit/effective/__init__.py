"""Effective connectivity: directed weights from functional connectivity and covariance at a lag."""
