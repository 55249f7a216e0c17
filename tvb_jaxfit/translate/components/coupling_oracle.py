"""TVB's own coupling on a random history: the values that a translation has to give."""

from dataclasses import dataclass

import numpy as np

from ...dynamics.network import coupling_input, start_network
from ...dynamics.step import Step
from ...errors import UnsupportedComponent
from ...state import State
from .. import traits
from ..clone import clone, history_with_weights
from ..double_precision import in_double, max_row_error

TOLERANCE = 1e-11


@dataclass(frozen=True, eq=False)
class CouplingOracle:
    """TVB's own coupling of a configured simulator, on one random history.

    Attributes
    ----------
    sim : Simulator
    samples : ndarray, shape (horizon, n_cvar, n_node, n_mode)
        Coupling variables in order of time.
    values : ndarray, shape (n_cvar, n_node, n_mode)
        TVB's coupling.
    """

    sim: object
    samples: np.ndarray
    values: np.ndarray

    def error(self, translated):
        """Largest difference of a `TranslatedCoupling` from TVB's, relative to the maximum of its row."""
        return max_row_error(evaluate(self.sim, translated, self.samples), self.values)

    def refuse_mismatch(self, translated):
        """Raise UnsupportedComponent if a `TranslatedCoupling` differs from TVB's by more than rounding."""
        error = self.error(translated)
        if not error <= TOLERANCE:
            raise UnsupportedComponent([mismatch(self.sim, error)])


def mismatch(sim, error):
    """Reason against a translated coupling with a relative error."""
    name = type(sim.coupling).__name__
    return f"Simulator.coupling: the translated {name} differs from TVB's by {error:.1e} of its maximum."


def oracle(sim, seed=0):
    """Evaluate TVB's own coupling on a random history.

    Parameters
    ----------
    sim : Simulator
        Configured; not modified.
    seed : int, optional

    Returns
    -------
    CouplingOracle

    Raises
    ------
    UnsupportedComponent
        If TVB's own coupling fails.
    """
    model, past = sim.model, sim.history
    ranges = np.array([model.state_variable_range[model.state_variables[i]] for i in model.cvar])
    shape = (past.n_time, past.n_cvar, past.n_node, past.n_mode)
    samples = np.random.RandomState(seed).uniform(ranges[:, :1, None], ranges[:, 1:, None], size=shape)
    history = history_with_weights(past, sim.connectivity.weights)
    history.buffer = samples
    coupling = clone(sim.coupling)
    for cached in ("_cached_lri", "_cached_nzr"):
        vars(coupling).pop(cached, None)
    try:
        with np.errstate(all="ignore"):
            values = np.array(coupling(1, history), dtype=float)
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else ""
        raise UnsupportedComponent(
            [
                f"Simulator.coupling: TVB's own {type(coupling).__name__} fails with {type(model).__name__}, which has "
                f"{len(model.cvar)} coupling variables: {type(error).__name__}: {first_line}."
            ]
        ) from error
    # The newest sample lies at index 0, the one before it at the end.
    return CouplingOracle(sim, np.roll(samples, -1, axis=0), values)


def evaluate(sim, translated, samples):
    """Evaluate a translated coupling with the simulator's own parameters and weights, in double precision.

    Parameters
    ----------
    sim : Simulator
        Configured.
    translated : TranslatedCoupling
    samples : ndarray, shape (horizon, n_cvar, n_node, n_mode)
        Coupling variables in order of time.

    Returns
    -------
    ndarray, shape (n_cvar, n_node, n_mode)
    """
    cvar, delays = tuple(range(samples.shape[1])), np.asarray(sim.connectivity.idelays, dtype=int)
    step = Step(None, cvar, translated.post, translated.channels, translated.pairwise, delays if delays.any() else None)

    def coupling(values, weights, past):
        theta = translated.constants(State(coupling=State(**values)))
        network, ring = start_network(step, theta, weights, past)
        s, _ = coupling_input(step, theta, weights, network, ring, past[-1], 0)
        return step.post(theta, s, step.coupling_variables(past[-1]))

    values = {p.name: np.ravel(np.asarray(p.read(sim.coupling), float)) for p in traits.parameters(sim.coupling)}
    return in_double(coupling, values, np.asarray(sim.connectivity.weights, float), samples)
