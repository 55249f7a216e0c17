"""Posterior of fitted values: priors, likelihoods of FC and of recordings, sampling, and comparison of models."""
