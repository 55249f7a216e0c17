"""Targets of a fit besides FC: observables of a simulation, and their values in the data."""
