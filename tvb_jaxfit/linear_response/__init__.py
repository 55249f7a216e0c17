"""Linear response of a network to its noise: fixed point, covariance and FC without a simulation."""
