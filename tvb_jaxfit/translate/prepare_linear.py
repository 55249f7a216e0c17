"""prepare_linear: the linear response of a TVB simulator to its noise."""

from collections.abc import Iterator

import numpy as np
from tvb.simulator.monitors import AfferentCoupling
from tvb.simulator.simulator import Simulator

from ..errors import UnsupportedComponent
from ..linear_response.simulator import LinearizedSimulator
from ..state import State
from . import complete
from .components import integrator
from .prepare import prepare


def prepare_linear(sim: Simulator) -> tuple[LinearizedSimulator, State]:
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
        The state that `prepare` gives. The search for the fixed point starts from its history; its draws and buffers
        have no effect.

    Raises
    ------
    UnsupportedComponent
        If anything of the simulator would be lost, changed, or dropped by the linearisation; with all reasons at once.
    ValueError
        As for `prepare`.

    Notes
    -----
    The step of TVB's own scheme and dt is linearised at its fixed point x*, x* = F(x*):

    .. math:: x_{t+1} - x^* = M (x_t - x^*) + B \xi_t,

    delays included in M. Multiplicative noise is taken at the fixed point, B = g(x*). Terms of higher order are left
    out; ``response.nonlinearity`` measures their effect. A variable that is at a bound at the fixed point stays there.

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
    >>> print(response.eigenvalues.real, bool(response.is_stable))
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


def refusals(sim: Simulator) -> Iterator[str]:
    """Reasons why a simulator has no linear response, even if it can be simulated."""
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
