"""Figures of simulators and fits.

Each function draws into the given Axes, or into new ones, and returns them.
"""

from .certificates import certificate
from .cohorts import cohort_determined, cohort_scores, cohort_values
from .effective import effective_connectivity
from .fits import exploration, history, regional
from .matrices import fc_scatter, functional_connectivity, structural_connectivity
from .signals import time_series
from .uncertainty import identifiability, value_correlation

__all__ = [
    "certificate",
    "cohort_determined",
    "cohort_scores",
    "cohort_values",
    "effective_connectivity",
    "exploration",
    "fc_scatter",
    "functional_connectivity",
    "history",
    "identifiability",
    "regional",
    "structural_connectivity",
    "time_series",
    "value_correlation",
]
