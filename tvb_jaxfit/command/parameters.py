"""``tvb-jaxfit parameters``: what of a simulator can be fitted."""

import numpy as np

from ..reporting.parameter_table import units_and_domains
from ..state import get_path
from ..translate.parameter_map import parameter_map
from ..translate.prepare import prepare
from .simulator import simulator_of

_HEADS = ("path", "shape", "value", "unit", "TVB's domain")


def table(options):
    """Lines of a table of what can be fitted, or set by ``--set``.

    Parameters
    ----------
    options : argparse.Namespace
        Those that make a simulator.

    Returns
    -------
    list of str

    Raises
    ------
    Refused, UnsupportedComponent
        As of a fit, which would be refused too.
    """
    sim = simulator_of(options)
    # No more noise is drawn than for a sample.
    period = max(float(np.ravel(getattr(monitor, "period", 0.0))[0]) for monitor in sim.monitors)
    _, state = prepare(sim, max(period, float(sim.integrator.dt)))
    traits = units_and_domains(sim)
    rows = [_HEADS]
    for leaf in parameter_map(sim):
        value = np.asarray(get_path(state, leaf.path))
        rows.append((leaf.path, "x".join(map(str, value.shape)) or "1", _text(value), *traits[leaf.path]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _text(value):
    """One number, or the smallest, the middle and the largest one."""
    if value.size == 0:
        return "none"
    if np.ptp(value) == 0.0:
        return f"{value.flat[0]:.6g}"
    return f"{value.min():.6g} .. {np.median(value):.6g} .. {value.max():.6g}"
