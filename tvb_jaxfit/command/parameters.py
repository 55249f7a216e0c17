"""``tvb-jaxfit parameters``: the parameters of a simulator that can be fitted."""

import argparse

import numpy as np

from ..reporting.parameter_table import units_and_domains
from ..state import get_path
from ..text import value_range
from ..translate.parameter_map import parameter_map
from ..translate.prepare import prepare
from .simulator import make_simulator

_HEADS = ("path", "shape", "value", "unit", "TVB's domain")


def parameter_lines(options: argparse.Namespace) -> list[str]:
    """Lines of a table of the parameters that can be fitted, or set by ``--set``.

    Parameters
    ----------
    options : argparse.Namespace
        Options of the simulator.

    Returns
    -------
    list of str

    Raises
    ------
    Refused, UnsupportedComponent
        As of a fit.
    """
    sim = make_simulator(options)
    # A run of one sample, so that little noise is drawn.
    period = max(float(np.ravel(getattr(monitor, "period", 0.0))[0]) for monitor in sim.monitors)
    _, state = prepare(sim, max(period, float(sim.integrator.dt)))
    traits = units_and_domains(sim)
    rows = [_HEADS]
    for parameter in parameter_map(sim):
        path = parameter.path
        value = np.asarray(get_path(state, path))
        rows.append((path, "x".join(map(str, value.shape)) or "1", _text(value), *traits[path]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _text(value):
    """One number, or minimum, median and maximum."""
    if value.size == 0:
        return "none"
    if np.ptp(value) == 0.0:
        return f"{value.flat[0]:.6g}"
    return value_range(value)
