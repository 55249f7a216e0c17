"""prepare_linear: a simulator's linear response."""

import numpy as np
from tvb.simulator.monitors import AfferentCoupling

from ..errors import UnsupportedComponent
from ..linear_response.response import LinearizedSimulator
from . import complete
from .components import integrator
from .prepare import prepare


def prepare_linear(sim):
    r"""Translate a TVB simulator into its linear response, a pure, differentiable function of its state.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        As for `prepare`, with a stochastic integrator and without a stimulus. Not modified.

    Returns
    -------
    linear : LinearizedSimulator
        ``response = linear(state)``: fixed point, stability, covariance, FC and power of each monitor's signals.
    state : State
        The state that `prepare` gives. Its history says where the search for the fixed point begins; its draws and
        stocks do not matter.

    Raises
    ------
    UnsupportedComponent
        Where anything of the simulator would be lost, changed, or dropped by the linearisation: with all reasons at
        once.
    ValueError
        As for `prepare`.

    Notes
    -----
    The step of TVB's own scheme and dt is linearised at its fixed point x*, x* = F(x*):

    .. math:: x_{t+1} - x^* = M (x_t - x^*) + B \xi_t,

    delays included in M. Multiplicative noise is taken at the fixed point, B = g(x*). What is left out are the terms
    of higher order: how much they matter is what ``response.nonlinearity`` says. Bounds that are active at the fixed point
    hold what they bound.

    Examples
    --------
    >>> import numpy as np, tvb_jaxfit as tj
    >>> from tvb.simulator.lab import *
    >>> white_matter = connectivity.Connectivity(
    ...     weights=np.array([[0.0, 1.0], [1.0, 0.0]]), tract_lengths=np.zeros((2, 2)), centres=np.zeros((2, 3)),
    ...     region_labels=np.array(["l", "r"]), speed=np.array([np.inf]))
    >>> sim = simulator.Simulator(
    ...     connectivity=white_matter, model=models.Linear(gamma=np.array([-0.1])),
    ...     coupling=coupling.Linear(a=np.array([0.05])),
    ...     integrator=integrators.EulerStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-6]))),
    ...     monitors=[monitors.Raw()], simulation_length=100.0)
    >>> linear, state = tj.prepare_linear(sim)
    >>> response = linear(state)
    >>> print(response.eigenvalues, bool(response.is_stable))
    [0.95 0.85] True
    >>> print(response.fc().round(3))
    [[0.   0.48]
     [0.48 0.  ]]
    """
    own = [] if list(complete.refusals(sim)) else list(refusals(sim))
    try:
        simulate, state = prepare(sim)
    except UnsupportedComponent as error:
        raise UnsupportedComponent([*own, *error.reasons]) from error
    if own:
        raise UnsupportedComponent(own)
    ranges = sim.model.state_variable_range
    return LinearizedSimulator(simulate, np.array([ranges[name] for name in sim.model.state_variables], float).T), state


def refusals(sim):
    """Reasons why a simulator that may well be simulated has no linear response."""
    if not integrator.is_stochastic(sim.integrator):
        yield (
            f"Simulator.integrator: {type(sim.integrator).__name__} has no noise to respond to. Use HeunStochastic or "
            "EulerStochastic."
        )
    if sim.stimulus is not None:
        yield "Simulator.stimulus: a response is linearised at rest, which a stimulus ends. Set sim.stimulus = None."
    monitors = sim.monitors if isinstance(sim.monitors, (list, tuple)) else [sim.monitors]
    for index, monitor in enumerate(monitors):
        if isinstance(monitor, AfferentCoupling):
            yield (
                f"Simulator.monitors[{index}]: {type(monitor).__name__} records the coupling; a linear response is of "
                "the states. Remove it, or use Raw or TemporalAverage."
            )
