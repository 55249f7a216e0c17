"""Figures of simulators and fits."""

from .figures import (
    certificate,
    exploration,
    fc_scatter,
    functional_connectivity,
    history,
    regional,
    structural_connectivity,
    time_series,
)

__all__ = [
    "certificate",
    "exploration",
    "fc_scatter",
    "functional_connectivity",
    "history",
    "regional",
    "structural_connectivity",
    "time_series",
]
