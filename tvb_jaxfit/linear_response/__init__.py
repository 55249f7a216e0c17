"""The step of `dynamics`, made linear: fixed point, covariance, functional connectivity without noise."""
